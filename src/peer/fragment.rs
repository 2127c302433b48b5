//! SDP fragments, which carry ICE between an established session and its peer (`application/trickle-ice-sdpfrag`, RFC 8840
//! §9): read, written, and put into an offer that they change.

use super::PeerError;
use super::sdp;

/// Candidates beyond this are nobody's interfaces.
pub(super) const MAX_CANDIDATES: usize = 64;

/// ICE credentials (RFC 8839 §5.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Credentials {
    pub(super) ufrag: String,
    pub(super) pwd: String,
}

/// What a fragment says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Fragment {
    pub(super) credentials: Option<Credentials>,
    /// Candidates as they stand behind `a=candidate:`, those of the credentials' generation alone.
    pub(super) candidates: Vec<String>,
}

/// Reads a fragment.
pub(super) fn read(text: &str) -> Result<Fragment, PeerError> {
    let bad = |why: &str| PeerError::BadFragment(format!("the SDP fragment cannot be read: {why}"));
    let (mut ufrag, mut pwd) = (None, None);
    let mut candidates = Vec::new();
    for line in text.lines().map(str::trim_end).filter(|line| !line.is_empty()) {
        let is_line = line.split_once('=').is_some_and(|(kind, _)| matches!(kind.as_bytes(), [b'a'..=b'z']));
        if !is_line {
            return Err(bad("a line is not of the form a=attribute"));
        }
        if let Some(value) = line.strip_prefix("a=ice-ufrag:") {
            ufrag.get_or_insert(value);
        } else if let Some(value) = line.strip_prefix("a=ice-pwd:") {
            pwd.get_or_insert(value);
        } else if let Some(value) = line.strip_prefix("a=candidate:") {
            let fields: Vec<&str> = value.split(' ').collect();
            if fields.len() < 8 || fields.get(6) != Some(&"typ") {
                return Err(bad("a candidate has not the form of RFC 8839 §5.1"));
            }
            // All is multiplexed on component 1 (RFC 8445 §4.1); another belongs to nobody.
            if fields.get(1) == Some(&"1") && candidates.len() < MAX_CANDIDATES {
                candidates.push(value);
            }
        }
    }
    let credentials = match (ufrag, pwd) {
        (None, None) => None,
        (Some(ufrag), Some(pwd)) => {
            let ice_chars =
                |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'));
            if !(4..=256).contains(&ufrag.len()) || !(22..=256).contains(&pwd.len()) {
                return Err(bad("ice-ufrag has 4 to 256 characters and ice-pwd 22 to 256 (RFC 8839 §5.4)"));
            }
            if !ice_chars(ufrag) || !ice_chars(pwd) {
                return Err(bad("ice-ufrag and ice-pwd are made of letters, digits, '+' and '/' (RFC 8839 §5.4)"));
            }
            Some(Credentials { ufrag: ufrag.to_owned(), pwd: pwd.to_owned() })
        }
        _ => return Err(bad("ice-ufrag and ice-pwd come together (RFC 8840 §4.4)")),
    };
    if credentials.is_none() && candidates.is_empty() {
        // An end of candidates alone is welcome, and nothing to act on.
        let says_something = text.contains("a=end-of-candidates");
        return if says_something {
            Ok(Fragment::default())
        } else {
            Err(bad("it has neither credentials nor candidates"))
        };
    }
    let of_generation = |candidate: &&str| match (&credentials, extension(candidate, "ufrag")) {
        (Some(credentials), Some(ufrag)) => credentials.ufrag == ufrag,
        _ => true,
    };
    let candidates = candidates.into_iter().filter(of_generation).map(str::to_owned).collect();
    Ok(Fragment { credentials, candidates })
}

/// The value of a candidate's extension attribute (RFC 8839 §5.1): pairs behind the type.
fn extension<'a>(candidate: &'a str, name: &str) -> Option<&'a str> {
    let mut fields = candidate.split(' ').skip(8);
    while let (Some(key), Some(value)) = (fields.next(), fields.next()) {
        if key == name {
            return Some(value);
        }
    }
    None
}

/// The fragment that tells a description's ICE: its credentials and all candidates, on the section that stands for the
/// bundle.
pub(super) fn write(description: &str) -> String {
    let (head, sections) = sdp::split(description);
    let mut lines: Vec<&str> = Vec::new();
    let of_session = ["a=group:BUNDLE", "a=ice-options:", "a=ice-lite", "a=ice-pacing:"];
    let of_ice = ["a=ice-ufrag:", "a=ice-pwd:", "a=candidate:", "a=end-of-candidates"];
    lines.extend(head.iter().filter(|line| of_session.iter().any(|key| line.starts_with(key))));
    let tagged = sections.iter().find(|section| section.iter().any(|line| line.starts_with("a=candidate:")));
    if let Some(section) = tagged.or_else(|| sections.first()) {
        lines.extend(section.first());
        lines.extend(section.iter().filter(|line| line.starts_with("a=mid:")));
        let own = |line: &&&str| of_ice.iter().chain(&["a=ice-options:"]).any(|key| line.starts_with(key));
        let inherited = |line: &&&str| line.starts_with("a=ice-ufrag:") || line.starts_with("a=ice-pwd:");
        lines.extend(head.iter().filter(inherited));
        lines.extend(section.iter().filter(own));
    }
    // Each line ends, the last one too.
    lines.push("");
    lines.join("\r\n")
}

/// The offer as it would be after an ICE restart: other credentials everywhere, and none of the old candidates (RFC 9725
/// §4.3.3).
pub(super) fn restarted(offer: &str, credentials: &Credentials) -> String {
    let gone = |line: &str| line.is_empty() || line.starts_with("a=candidate:") || line == "a=end-of-candidates";
    let changed = |line: &str| {
        if line.starts_with("a=ice-ufrag:") {
            format!("a=ice-ufrag:{}\r\n", credentials.ufrag)
        } else if line.starts_with("a=ice-pwd:") {
            format!("a=ice-pwd:{}\r\n", credentials.pwd)
        } else {
            format!("{line}\r\n")
        }
    };
    offer.lines().map(str::trim_end).filter(|line| !gone(line)).map(changed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Close to the example of RFC 9725 §4.3.2.
    const TRICKLE: &str = "a=group:BUNDLE 0 1\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\na=ice-ufrag:EsAw\r\n\
        a=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\n\
        a=candidate:1387637174 1 udp 2122260223 192.0.2.1 61764 typ host generation 0 ufrag EsAw network-id 1\r\n\
        a=candidate:1387637174 1 udp 2122260223 192.0.2.1 61765 typ host generation 0 ufrag OldO network-id 1\r\n\
        a=candidate:1387637174 2 udp 2122260222 192.0.2.1 61766 typ host generation 0 ufrag EsAw network-id 1\r\n\
        a=end-of-candidates\r\n";

    #[test]
    fn a_fragment_gives_its_credentials_and_the_candidates_of_their_generation() {
        let fragment = read(TRICKLE).unwrap();
        assert_eq!(fragment.credentials.unwrap().ufrag, "EsAw");
        assert_eq!(fragment.candidates.len(), 1);
        assert!(fragment.candidates[0].starts_with("1387637174 1 udp 2122260223 192.0.2.1 61764 typ host"));
        assert_eq!(read("a=mid:0\r\na=end-of-candidates\r\n").unwrap(), Fragment::default());
    }

    #[test]
    fn what_is_no_fragment_is_refused_with_the_reason() {
        for (text, hint) in [
            ("", "neither"),
            ("hello", "a=attribute"),
            ("a=candidate:1 1 udp", "RFC 8839 §5.1"),
            ("a=ice-ufrag:abcd\r\n", "together"),
            ("a=ice-ufrag:abc\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\n", "4 to 256"),
            ("a=ice-ufrag:abcd\r\na=ice-pwd:short\r\n", "22 to 256"),
            ("a=ice-ufrag:ab:d\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\n", "letters"),
        ] {
            let error = read(text).unwrap_err();
            assert!(matches!(&error, PeerError::BadFragment(why) if why.contains(hint)), "{text:?}: {error}");
        }
    }

    const OFFER: &str = "v=0\r\na=group:BUNDLE 0 1\r\na=ice-options:trickle\r\nm=audio 9 X 111\r\na=mid:0\r\n\
        a=ice-ufrag:aaaa\r\na=ice-pwd:0123456789012345678901\r\na=candidate:1 1 udp 1 10.0.0.1 1 typ host\r\n\
        a=end-of-candidates\r\nm=video 9 X 96\r\na=mid:1\r\na=ice-ufrag:aaaa\r\na=ice-pwd:0123456789012345678901\r\n";

    #[test]
    fn a_restart_changes_the_credentials_everywhere_and_forgets_the_candidates() {
        let offer = restarted(OFFER, read(TRICKLE).unwrap().credentials.as_ref().unwrap());
        assert_eq!(offer.matches("a=ice-ufrag:EsAw\r\n").count(), 2, "{offer}");
        assert_eq!(offer.matches("a=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\n").count(), 2);
        assert!(!offer.contains("candidate"));
        assert_eq!(offer.matches("a=mid:").count(), 2);
    }

    #[test]
    fn what_is_written_can_be_read() {
        let text = write(OFFER);
        assert!(text.starts_with("a=group:BUNDLE 0 1\r\na=ice-options:trickle\r\nm=audio"), "{text}");
        assert!(!text.contains("m=video") && text.ends_with("a=end-of-candidates\r\n"), "{text}");
        let fragment = read(&text).unwrap();
        assert_eq!((fragment.credentials.unwrap().ufrag.as_str(), fragment.candidates.len()), ("aaaa", 1));
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "\\PC{0,300}", lines in prop::collection::vec("a=[ -~]{0,60}", 0..20)) {
            let text = text + "\r\n" + &lines.join("\r\n");
            let _ = read(&text);
            let _ = write(&text);
            let credentials = Credentials { ufrag: "abcd".to_owned(), pwd: "x".repeat(22) };
            let _ = restarted(&text, &credentials);
        }

        #[test]
        fn no_fragment_brings_more_candidates_than_are_taken(count in 0usize..200) {
            let line = "a=candidate:1 1 udp 1 10.0.0.1 1 typ host\r\n";
            let fragment = read(&format!("a=end-of-candidates\r\n{}", line.repeat(count))).unwrap();
            prop_assert_eq!(fragment.candidates.len(), count.min(MAX_CANDIDATES));
        }
    }
}
