//! What an offer holds, asked before the WebRTC stack sees it, and the candidates of our answers (RFC 8866, RFC 8839).

use std::borrow::Cow;
use std::net::IpAddr;

use rtc::sdp::description::media::MediaDescription;
use rtc::sdp::description::session::SessionDescription;
use webrtc::peer_connection::RTCSessionDescription;

use super::PeerError;
use super::fragment::Credentials;

/// Sections beyond this are nobody's offer.
const MAX_SECTIONS: usize = 32;

/// What the other side of an offer is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It sends video and may take video back on the same connection (`/offer`).
    Both,
    /// It only sends (WHIP, RFC 9725): the answer receives.
    Publisher,
    /// It only receives (WHEP): the answer sends.
    Viewer,
}

/// What a section of the offer allows us to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Direction {
    /// The other side sends: we may receive.
    pub(super) sends: bool,
    /// The other side receives: we may send.
    pub(super) receives: bool,
}

/// Our part in the DTLS handshake (RFC 8842 §5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Dtls {
    /// We wait for the other side to begin, as RFC 9725 §4.4.1 would have it, and need not wait for our own first flight:
    /// 60–110 ms instead of 215.
    #[default]
    Server,
    /// We begin, because the offer waits (`a=setup:passive`).
    Client,
}

/// The sections of one kind of media, in the order of the offer.
pub(super) type Sections = Vec<Direction>;

/// What an offer holds.
#[derive(Debug, Default)]
pub(super) struct Offer {
    pub(super) video: Sections,
    pub(super) audio: Sections,
    /// A datachannel can be made.
    pub(super) application: bool,
    pub(super) dtls: Dtls,
}

/// Reads an offer and says what is wrong with it, in words for whoever wrote the page.
pub(super) fn read_offer(sdp: &str, role: Role) -> Result<Offer, PeerError> {
    let bad = |why: &dyn std::fmt::Display| PeerError::BadDescription(format!("the SDP cannot be read: {why}"));
    let description = RTCSessionDescription::offer(sdp.to_owned()).map_err(|error| bad(&error))?;
    let parsed = description.unmarshal().map_err(|error| bad(&error))?;
    if parsed.media_descriptions.len() > MAX_SECTIONS {
        return Err(bad(&format!("{} media sections", parsed.media_descriptions.len())));
    }
    let mut offer = Offer { dtls: dtls(&parsed)?, ..Offer::default() };
    let mut codecs_seen = Vec::new();
    let mut h264_modes_seen = Vec::new();
    let mut usable_video = false;
    for media in &parsed.media_descriptions {
        let rejected = media.media_name.port.value == 0 && media.attribute("bundle-only").is_none();
        match media.media_name.media.as_str() {
            "video" => {
                let direction = direction(media);
                offer.video.push(if rejected { NEITHER } else { direction });
                if rejected {
                    continue;
                }
                let modes = h264_packetization_modes(media);
                usable_video |= modes.contains(&1);
                h264_modes_seen.extend(modes);
                codecs_seen.extend(codec_names(media));
            }
            "audio" => offer.audio.push(if rejected { NEITHER } else { direction(media) }),
            "application" if !rejected => offer.application = true,
            _ => {}
        }
    }
    if offer.video.is_empty() {
        return Err(PeerError::NoVideo(
            "the offer has no video section: add a video track or a video transceiver before createOffer".to_owned(),
        ));
    }
    if !usable_video {
        codecs_seen.sort_unstable();
        codecs_seen.dedup();
        return Err(PeerError::NoCommonCodec(if h264_modes_seen.is_empty() {
            format!("no common video codec: the offer has {}, this server needs H264", codecs_seen.join(", "))
        } else {
            "H264 is offered with packetization-mode=0 alone: this server needs packetization-mode=1 (RFC 6184 §6.3)"
                .to_owned()
        }));
    }
    fits_role(&offer, role)?;
    Ok(offer)
}

/// What `a=setup` of the offer leaves to us (RFC 8842 §5.3, RFC 4145 §4.1). All sections share one transport, so that they have
/// to agree.
fn dtls(offer: &SessionDescription) -> Result<Dtls, PeerError> {
    let sections = offer.media_descriptions.iter().filter_map(|media| media.attribute("setup").flatten());
    let whole = offer.attributes.iter().filter(|attribute| attribute.key == "setup");
    let mut setups: Vec<&str> = whole.filter_map(|attribute| attribute.value.as_deref()).chain(sections).collect();
    setups.sort_unstable();
    setups.dedup();
    match setups[..] {
        [] | ["actpass" | "active"] | ["active", "actpass"] => Ok(Dtls::Server),
        ["passive"] | ["actpass", "passive"] => Ok(Dtls::Client),
        _ => Err(PeerError::BadDescription(format!(
            "a=setup:{} cannot be answered: offer actpass, active or passive, the same in each section (RFC 8842 §5.2)",
            setups.join(" and a=setup:")
        ))),
    }
}

fn fits_role(offer: &Offer, role: Role) -> Result<(), PeerError> {
    let sending = |sections: &Sections| sections.iter().filter(|section| section.sends).count();
    if role == Role::Viewer {
        if !offer.video.iter().any(|section| section.receives) {
            return Err(PeerError::NoVideo(
                "no video section of the offer receives: its direction must be recvonly or sendrecv".to_owned(),
            ));
        }
        return Ok(());
    }
    if sending(&offer.video) == 0 {
        return Err(PeerError::NoVideo(
            "no video section of the offer sends: its direction must be sendrecv or sendonly".to_owned(),
        ));
    }
    // One track of each kind, and nothing that is refused silently (RFC 9725 §4.4.2 and §4.4.3).
    if role == Role::Publisher && (sending(&offer.video) > 1 || sending(&offer.audio) > 1) {
        return Err(PeerError::NoVideo("a publisher sends one video track and at most one audio track".to_owned()));
    }
    Ok(())
}

/// The offer with each section's direction as the role has it: what a player or a publisher may offer beyond that (RFC 9725
/// §4.2) is answered as if it were not there.
pub(super) fn for_role(offer: &str, role: Role) -> Cow<'_, str> {
    if role == Role::Both {
        return offer.into();
    }
    let (head, sections) = split(offer);
    let mut lines: Vec<&str> = head;
    for section in &sections {
        let media = section.first().is_some_and(|line| line.starts_with("m=video") || line.starts_with("m=audio"));
        if !media {
            lines.extend(section);
            continue;
        }
        let is = |name: &str| section.iter().any(|line| line.strip_prefix("a=") == Some(name));
        let (sends, receives) = match (is("sendonly"), is("recvonly"), is("inactive")) {
            (true, ..) => (true, false),
            (_, true, _) => (false, true),
            (_, _, true) => (false, false),
            _ => (true, true),
        };
        let direction = match role {
            Role::Viewer if receives => "a=recvonly",
            Role::Publisher if sends => "a=sendonly",
            _ => "a=inactive",
        };
        let directions = ["a=sendonly", "a=recvonly", "a=inactive", "a=sendrecv"];
        lines.extend(section.iter().filter(|line| !directions.contains(line)));
        lines.push(direction);
    }
    lines.push("");
    lines.join("\r\n").into()
}

/// An answer that says in each media section that RTCP has no port of its own (RFC 8858 §3, as RFC 9725 §4.4.1 asks).
pub(super) fn mux_only(answer: &str) -> String {
    let has_it = answer.contains("a=rtcp-mux-only");
    let line = |line: &str| match line {
        "a=rtcp-mux" if !has_it => "a=rtcp-mux\r\na=rtcp-mux-only\r\n".to_owned(),
        other => format!("{other}\r\n"),
    };
    answer.lines().map(line).collect()
}

const NEITHER: Direction = Direction { sends: false, receives: false };

fn direction(media: &MediaDescription) -> Direction {
    for (name, sends, receives) in
        [("sendonly", true, false), ("recvonly", false, true), ("inactive", false, false), ("sendrecv", true, true)]
    {
        if media.has_attribute(name) {
            return Direction { sends, receives };
        }
    }
    Direction { sends: true, receives: true }
}

fn rtpmaps(media: &MediaDescription) -> impl Iterator<Item = (&str, &str)> {
    media.attributes.iter().filter(|attribute| attribute.key == "rtpmap").filter_map(|attribute| {
        let (payload_type, codec) = attribute.value.as_deref()?.split_once(' ')?;
        Some((payload_type, codec.split('/').next()?))
    })
}

fn codec_names(media: &MediaDescription) -> Vec<String> {
    let repair = ["rtx", "red", "ulpfec", "flexfec-03"];
    rtpmaps(media).map(|(_, codec)| codec.to_owned()).filter(|codec| !repair.contains(&codec.as_str())).collect()
}

fn h264_packetization_modes(media: &MediaDescription) -> Vec<u8> {
    rtpmaps(media)
        .filter(|(_, codec)| codec.eq_ignore_ascii_case("H264"))
        .map(|(payload_type, _)| {
            let parameters = media.attributes.iter().find_map(|attribute| {
                let (of, parameters) = attribute.value.as_deref()?.split_once(' ')?;
                (attribute.key == "fmtp" && of == payload_type).then_some(parameters)
            });
            // Absent means 0 (RFC 6184 §8.1).
            parameters
                .and_then(|all| all.split(';').find_map(|one| one.trim().strip_prefix("packetization-mode=")))
                .and_then(|mode| mode.trim().parse().ok())
                .unwrap_or(0)
        })
        .collect()
}

/// The attributes that belong to a transport, beside its candidates (RFC 8839 §5, RFC 8842 §5).
const TRANSPORT: [&str; 5] = ["a=ice-ufrag:", "a=ice-pwd:", "a=fingerprint:", "a=setup:", "a=tls-id:"];

/// An offer whose bundled sections bring a transport each (what a browser does with `bundlePolicy: "balanced"` for sections
/// of different kinds, and aiortc always), as one whose sections share the transport of the first: we accept the bundle,
/// and that is the one that all of them will use (RFC 9143 §7.3.1). The WebRTC stack takes no other.
pub(super) fn share_transport(offer: &str) -> Cow<'_, str> {
    let (head, sections) = split(offer);
    let Some(bundle) = head.iter().find_map(|line| line.strip_prefix("a=group:BUNDLE ")) else { return offer.into() };
    let mids: Vec<&str> = bundle.split(' ').collect();
    let mid =
        |section: &[&str]| section.iter().find_map(|line| line.strip_prefix("a=mid:")).unwrap_or_default().to_owned();
    let ufrag =
        |section: &[&str]| section.iter().find(|line| line.starts_with("a=ice-ufrag:")).map(ToString::to_string);
    let first = sections.iter().find(|section| mids.first().is_some_and(|first| mid(section) == *first));
    let Some(first) = first.filter(|first| ufrag(first).is_some()) else { return offer.into() };
    let differs = |section: &[&str]| {
        mids.contains(&mid(section).as_str()) && ufrag(section).is_some_and(|own| Some(own) != ufrag(first))
    };
    if !sections.iter().any(|section| differs(section)) {
        return offer.into();
    }
    let of_transport = |line: &str| TRANSPORT.iter().any(|key| line.starts_with(key));
    let mut lines = head.clone();
    for section in &sections {
        if differs(section) {
            let candidates = ["a=candidate:", "a=end-of-candidates"];
            let dropped = |line: &str| of_transport(line) || candidates.iter().any(|key| line.starts_with(key));
            lines.extend(section.iter().filter(|line| !dropped(line)));
            lines.extend(first.iter().filter(|line| of_transport(line)));
        } else {
            lines.extend(section);
        }
    }
    lines.push("");
    lines.join("\r\n").into()
}

/// The lines of a description: those of the session, and those of each section from its `m=` on.
pub(super) fn split(sdp: &str) -> (Vec<&str>, Vec<Vec<&str>>) {
    let (mut head, mut sections) = (Vec::new(), Vec::<Vec<&str>>::new());
    for line in sdp.lines().map(str::trim_end) {
        if line.starts_with("m=") {
            sections.push(Vec::new());
        }
        sections.last_mut().unwrap_or(&mut head).push(line);
    }
    (head, sections)
}

/// The first ICE credentials of a description (RFC 8839 §5.4).
pub(super) fn credentials(sdp: &str) -> Option<Credentials> {
    let value = |key: &str| sdp.lines().find_map(|line| line.strip_prefix(key)).map(|value| value.trim().to_owned());
    Some(Credentials { ufrag: value("a=ice-ufrag:")?, pwd: value("a=ice-pwd:")? })
}

/// Puts the shared port into the host candidates of a description of ours, and adds one for each public address behind
/// the last host candidate of each section.
pub(super) fn rewrite_candidates(sdp: &str, port: u16, public: &[IpAddr]) -> String {
    let mut out = String::with_capacity(sdp.len() + 200);
    let mut host: Option<Vec<String>> = None;
    let mut added = false;
    for line in sdp.lines() {
        if line.starts_with("m=") {
            added = false;
        }
        if let Some(candidate) = line.strip_prefix("a=candidate:") {
            let mut fields: Vec<String> = candidate.split(' ').map(str::to_owned).collect();
            if let Some(field) = fields.get_mut(5) {
                *field = port.to_string();
            }
            out.push_str("a=candidate:");
            out.push_str(&fields.join(" "));
            out.push_str("\r\n");
            host = Some(fields);
            continue;
        }
        if let Some(fields) = host.take()
            && !added
        {
            added = true;
            push_public(&mut out, &fields, public);
        }
        out.push_str(line);
        out.push_str("\r\n");
    }
    if let Some(fields) = host
        && !added
    {
        push_public(&mut out, &fields, public);
    }
    out
}

fn push_public(out: &mut String, like: &[String], public: &[IpAddr]) {
    for (number, address) in public.iter().enumerate() {
        let mut fields = like.to_vec();
        // A foundation of its own (RFC 8445 §5.1.1.3), and a local preference below every interface's.
        if let Some(field) = fields.first_mut() {
            *field = format!("public{number}");
        }
        if let Some(field) = fields.get_mut(3) {
            *field = (126 << 24 | (1000_usize.saturating_sub(number)) << 8 | 255).to_string();
        }
        if let Some(field) = fields.get_mut(4) {
            *field = address.to_string();
        }
        out.push_str("a=candidate:");
        out.push_str(&fields.join(" "));
        out.push_str("\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn who_begins_the_handshake_is_what_the_offer_leaves_to_us() {
        let with = |setups: &[&str]| {
            let sections = setups.iter().map(|setup| {
                let setup = if setup.is_empty() { String::new() } else { format!("a=setup:{setup}\r\n") };
                video("recvonly", "H264", "packetization-mode=1") + &setup
            });
            read_offer(&(HEAD.to_owned() + &sections.collect::<String>()), Role::Viewer).map(|offer| offer.dtls)
        };
        for server in [&["actpass"][..], &["active"], &[""], &["actpass", "active"]] {
            assert_eq!(with(server).unwrap(), Dtls::Server, "{server:?}");
        }
        for client in [&["passive"][..], &["passive", "passive"], &["actpass", "passive"]] {
            assert_eq!(with(client).unwrap(), Dtls::Client, "{client:?}");
        }
        for neither in [&["holdconn"][..], &["active", "passive"], &["whoever"]] {
            let error = with(neither).unwrap_err();
            assert!(error.to_string().contains(neither[0]), "{error}");
        }
        let whole = HEAD.to_owned() + "a=setup:passive\r\n" + &video("recvonly", "H264", "packetization-mode=1");
        assert_eq!(read_offer(&whole, Role::Viewer).unwrap().dtls, Dtls::Client, "said once for all");
    }

    const HEAD: &str =
        "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\n";

    fn video(direction: &str, codec: &str, fmtp: &str) -> String {
        format!(
            "m=video 9 UDP/TLS/RTP/SAVPF 102\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\na={direction}\r\na=rtpmap:102 {codec}/90000\r\na=fmtp:102 {fmtp}\r\n"
        )
    }

    const MODE_1: &str = "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f";

    #[test]
    fn sections_are_read_in_order() {
        let sdp = format!(
            "{HEAD}{}{}m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:2\r\n",
            video("sendonly", "H264", MODE_1),
            video("recvonly", "H264", MODE_1)
        );
        let offer = read_offer(&sdp, Role::Both).unwrap();
        assert_eq!(
            offer.video,
            [Direction { sends: true, receives: false }, Direction { sends: false, receives: true }]
        );
        assert!(offer.application && offer.audio.is_empty());
        assert_eq!(credentials(&sdp).unwrap().ufrag, "abcd");
    }

    #[test]
    fn an_offer_without_video_says_what_to_add() {
        let error = read_offer(HEAD, Role::Both).unwrap_err();
        assert!(matches!(&error, PeerError::NoVideo(why) if why.contains("transceiver")), "{error}");
    }

    #[test]
    fn packetization_mode_0_alone_is_refused_with_the_reason() {
        for fmtp in ["profile-level-id=42e01f", "packetization-mode=0;profile-level-id=42e01f"] {
            let error = read_offer(&format!("{HEAD}{}", video("sendrecv", "H264", fmtp)), Role::Both).unwrap_err();
            assert!(matches!(&error, PeerError::NoCommonCodec(why) if why.contains("packetization-mode=1")), "{error}");
        }
    }

    #[test]
    fn a_foreign_codec_is_named() {
        let error = read_offer(&format!("{HEAD}{}", video("sendrecv", "VP8", "x=1")), Role::Both).unwrap_err();
        assert!(matches!(&error, PeerError::NoCommonCodec(why) if why.contains("VP8")), "{error}");
    }

    #[test]
    fn an_offer_that_only_receives_is_no_publisher() {
        let error = read_offer(&format!("{HEAD}{}", video("recvonly", "H264", MODE_1)), Role::Both).unwrap_err();
        assert!(matches!(error, PeerError::NoVideo(_)));
    }

    #[test]
    fn each_role_asks_for_its_direction() {
        let offer = |directions: &[&str]| {
            let sections: String = directions.iter().map(|direction| video(direction, "H264", MODE_1)).collect();
            format!("{HEAD}{sections}")
        };
        for (role, directions, fits) in [
            (Role::Publisher, &["sendonly"][..], true),
            (Role::Publisher, &["sendrecv"], true),
            (Role::Publisher, &["recvonly"], false),
            (Role::Publisher, &["sendonly", "sendonly"], false),
            (Role::Viewer, &["recvonly"], true),
            (Role::Viewer, &["sendrecv"], true),
            (Role::Viewer, &["sendonly"], false),
            (Role::Viewer, &["inactive"], false),
        ] {
            let read = read_offer(&offer(directions), role);
            assert_eq!(read.is_ok(), fits, "{role:?} {directions:?}: {read:?}");
        }
    }

    #[test]
    fn what_a_role_does_not_allow_is_answered_as_if_it_were_not_offered() {
        let sdp = format!("{HEAD}{}m=audio 9 X 0\r\na=mid:1\r\n", video("sendrecv", "H264", MODE_1));
        let directions = |role| {
            let offer = for_role(&sdp, role).into_owned();
            assert_eq!(offer.matches("a=mid:").count(), 2, "{offer}");
            let (_, sections) = split(&offer);
            let of = |section: &Vec<&str>| section.iter().rfind(|line| !line.is_empty()).map(ToString::to_string);
            sections.iter().filter_map(of).collect::<Vec<_>>()
        };
        assert_eq!(directions(Role::Viewer), ["a=recvonly", "a=recvonly"]);
        assert_eq!(directions(Role::Publisher), ["a=sendonly", "a=sendonly"]);
        assert_eq!(for_role(&sdp, Role::Both), sdp);
    }

    #[test]
    fn bundled_sections_with_transports_of_their_own_share_the_first_ones() {
        let section = |mid: &str, ufrag: &str| {
            format!(
                "m=video 9 X 1\r\na=mid:{mid}\r\na=candidate:1 1 udp 1 10.0.0.1 {mid}00 typ host\r\na=end-of-candidates\r\n\
                 a=ice-ufrag:{ufrag}\r\na=ice-pwd:pwd-of-{ufrag}\r\na=fingerprint:sha-256 F-{ufrag}\r\na=setup:actpass\r\n"
            )
        };
        let offer = |group: &str, second: &str| {
            format!("v=0\r\na=group:BUNDLE {group}\r\n{}{}", section("5", "aaaa"), section("6", second))
        };
        let shared = share_transport(&offer("5 6", "bbbb")).into_owned();
        assert!(!shared.contains("bbbb") && !shared.contains(" 600 typ host"), "{shared}");
        assert_eq!(shared.matches("a=ice-pwd:pwd-of-aaaa").count(), 2);
        assert_eq!(shared.matches("a=fingerprint:sha-256 F-aaaa").count(), 2);
        assert_eq!((shared.matches("typ host").count(), shared.matches("a=mid:").count()), (1, 2));
        for untouched in [offer("5 6", "aaaa"), offer("5", "bbbb"), offer("7 6", "bbbb"), HEAD.to_owned()] {
            assert_eq!(share_transport(&untouched), untouched);
        }
    }

    #[test]
    fn candidates_get_the_shared_port_and_the_public_address() {
        let sdp = "m=video 9 X\r\na=candidate:1 1 udp 2130706431 10.0.0.2 40001 typ host\r\na=end-of-candidates\r\n";
        let out = rewrite_candidates(sdp, 8189, &["203.0.113.7".parse().unwrap()]);
        let lines: Vec<_> = out.lines().collect();
        assert_eq!(lines[1], "a=candidate:1 1 udp 2130706431 10.0.0.2 8189 typ host");
        assert!(lines[2].starts_with("a=candidate:public0 1 udp ") && lines[2].contains(" 203.0.113.7 8189 typ host"));
        assert_eq!(lines[3], "a=end-of-candidates");
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "\\PC{0,300}", lines in prop::collection::vec("[a-z]=[ -~]{0,40}", 0..20)) {
            for role in [Role::Both, Role::Publisher, Role::Viewer] {
                let _ = read_offer(&text, role);
                let _ = read_offer(&lines.join("\r\n"), role);
                let _ = read_offer(&format!("{HEAD}{}", lines.join("\r\n")), role);
                let _ = for_role(&format!("{text}\r\nm=video\r\n{}", lines.join("\r\n")), role);
            }
            let _ = mux_only(&text);
            let _ = share_transport(&format!("a=group:BUNDLE 0 1\r\nm=\r\n{}", lines.join("\r\nm=\r\n")));
            let _ = rewrite_candidates(&lines.join("\r\n"), 1, &["::1".parse().unwrap()]);
        }
    }
}
