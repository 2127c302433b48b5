//! Cameras over RTSP 1.0 (RFC 2326), by `retina`: RTP in the same connection or over UDP, Basic and Digest.

use std::time::{Instant, SystemTime};

use futures_util::StreamExt;
use retina::client::{
    Credentials, Demuxed, Described, InitialTimestampPolicy, PlayOptions, Session, SessionOptions, SetupOptions,
    Stream, TcpTransportOptions, UdpTransportOptions,
};
use retina::codec::{AudioFrame, CodecItem, FrameFormat, VideoFrame};
use retina::rtcp::ReceivedCompoundPacket;
use url::Url;

use super::address::Address;
use super::connection::{Item, limited};
use super::{Description, Transport};
use crate::media::{AccessUnit, AudioCodec, AudioPacket, MAX_ACCESS_UNIT_BYTES, SenderReport, StreamClock, VideoCodec};
use crate::source::{SourceError, nal};

/// A camera that plays.
pub(super) struct RtspSession {
    items: Demuxed,
    video: (usize, VideoCodec),
    audio: Option<(usize, AudioCodec)>,
    clock: StreamClock,
    /// A picture is missing, or none came yet: nothing can be shown until the next IDR.
    waiting: bool,
}

impl RtspSession {
    /// Describes, sets up what can be used, and plays.
    pub(super) async fn open(url: &Url, transport: Transport) -> Result<(Self, Description), SourceError> {
        let (bare, credentials) = Address::split(url);
        let credentials = credentials.map(|known| Credentials { username: known.user, password: known.password });
        let given = credentials.is_some();
        let failed = |error: &retina::Error| failure(error, given);
        let options =
            SessionOptions::default().creds(credentials).user_agent(format!("sightline/{}", env!("CARGO_PKG_VERSION")));
        let mut session = limited("describing the stream", async {
            Session::describe(bare, options).await.map_err(|error| failed(&error))
        })
        .await?;

        let mut notes = Vec::new();
        let (video, video_codec) = choose_video(session.streams())?;
        let audio = choose_audio(session.streams(), &mut notes);
        limited("setting up video", async {
            session.setup(video, setup_options(transport)).await.map_err(|error| failed(&error))
        })
        .await?;
        let audio = set_up_audio(&mut session, audio, transport, &mut notes).await;
        // A camera that names no RTP time in its answer to PLAY is none the worse for it.
        let policy = PlayOptions::default().initial_timestamp(InitialTimestampPolicy::Permissive);
        let items = limited("starting the stream", async {
            session.play(policy).await.and_then(Session::demuxed).map_err(|error| failed(&error))
        })
        .await?;
        let description = Description { codec: video_codec, audio: audio.map(|(_, codec)| codec), notes };
        let video = (video, video_codec);
        Ok((Self { items, video, audio, clock: StreamClock::new(), waiting: true }, description))
    }

    pub(super) async fn next(&mut self) -> Result<Item, SourceError> {
        loop {
            let item = match self.items.next().await {
                Some(Ok(item)) => item,
                // The stream would repeat its error for ever: the session is over.
                Some(Err(error)) => return Err(failure(&error, true)),
                None => return Err(SourceError::Camera("the camera closed the connection".into())),
            };
            let item = match item {
                CodecItem::VideoFrame(frame) if frame.stream_id() == self.video.0 => Some(self.video(frame)),
                CodecItem::AudioFrame(frame) => self.audio(&frame),
                CodecItem::Rtcp(packet) if packet.stream_id() == self.video.0 => self.report(&packet),
                _ => None,
            };
            if let Some(item) = item {
                return Ok(item);
            }
        }
    }

    fn video(&mut self, frame: VideoFrame) -> Item {
        let codec = self.video.1;
        let lost = frame.loss() > 0 || frame.data().len() > MAX_ACCESS_UNIT_BYTES;
        let idr = stands_alone(codec, frame.data());
        let (first_packet, last_packet) = (frame.start_ctx().received(), frame.end_ctx().received());
        let rtp_timestamp = wire_timestamp(frame.timestamp());
        // What was lost may have been in this unit or before it; an IDR that came whole is not touched by either.
        self.waiting = (self.waiting || (lost && codec != VideoCodec::Jpeg)) && !idr;
        if self.waiting || frame.data().len() > MAX_ACCESS_UNIT_BYTES {
            self.waiting |= codec != VideoCodec::Jpeg;
            return Item::Passed;
        }
        Item::Unit(AccessUnit {
            codec,
            data: frame.into_data().into(),
            rtp_timestamp,
            idr,
            first_packet,
            last_packet,
            captured: self.clock.captured(rtp_timestamp),
        })
    }

    fn audio(&self, frame: &AudioFrame) -> Option<Item> {
        let (_, codec) = self.audio.filter(|(stream, _)| *stream == frame.stream_id())?;
        Some(Item::Audio(AudioPacket {
            codec,
            rtp_timestamp: wire_timestamp(frame.timestamp()),
            marker: false,
            payload: bytes::Bytes::copy_from_slice(frame.data()),
            arrived: frame.ctx().received(),
        }))
    }

    fn report(&mut self, packet: &ReceivedCompoundPacket) -> Option<Item> {
        let report = packet.pkts().find_map(|part| part.as_sender_report().ok().flatten())?;
        let report = SenderReport { ntp: report.ntp_timestamp().0, rtp_timestamp: report.rtp_timestamp() };
        let theirs = report.wall_clock()?;
        self.clock.on_sender_report(report);
        Some(Item::Skew(milliseconds_ahead(theirs, SystemTime::now() - age(packet.ctx().received()))))
    }
}

fn age(received: Instant) -> std::time::Duration {
    Instant::now().saturating_duration_since(received)
}

/// By how much `theirs` is later than `ours`; negative if it is earlier.
fn milliseconds_ahead(theirs: SystemTime, ours: SystemTime) -> i64 {
    let millis = |time: std::time::Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
    match theirs.duration_since(ours) {
        Ok(ahead) => millis(ahead),
        Err(behind) => -millis(behind.duration()),
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // the low 32 bits are what was on the wire
fn wire_timestamp(timestamp: retina::Timestamp) -> u32 {
    timestamp.timestamp() as u32
}

fn setup_options(transport: Transport) -> SetupOptions {
    let transport = match transport {
        Transport::Tcp => retina::client::Transport::Tcp(TcpTransportOptions::default()),
        Transport::Udp => retina::client::Transport::Udp(UdpTransportOptions::default()),
    };
    SetupOptions::default().transport(transport).frame_format(FrameFormat::SIMPLE)
}

/// The first video that can be used; `retina` fails as a whole on what it cannot take apart, so nothing else is set up.
fn choose_video(streams: &[Stream]) -> Result<(usize, VideoCodec), SourceError> {
    let known = |stream: &Stream| match (stream.media(), stream.encoding_name()) {
        ("video", "h264") => Some(VideoCodec::H264),
        ("video", "h265") => Some(VideoCodec::H265),
        ("video" | "image", "jpeg") => Some(VideoCodec::Jpeg),
        _ => None,
    };
    let found = streams.iter().enumerate().find_map(|(n, stream)| Some((n, known(stream)?)));
    found.ok_or_else(|| {
        let offered: Vec<_> =
            streams.iter().map(|stream| format!("{} {}", stream.media(), stream.encoding_name())).collect();
        let offered = if offered.is_empty() { "nothing".to_owned() } else { offered.join(", ") };
        SourceError::UnsupportedCamera(format!(
            "the camera offers {offered}: choose H.264, H.265 or Motion JPEG in its settings, or another path in its address"
        ))
    })
}

/// The first audio that browsers take as it is. What else there is becomes a note.
fn choose_audio(streams: &[Stream], notes: &mut Vec<String>) -> Option<(usize, AudioCodec)> {
    let mut chosen = None;
    for (n, stream) in streams.iter().enumerate().filter(|(_, stream)| stream.media() == "audio") {
        let mono = stream.channels().is_none_or(|channels| channels.get() == 1);
        let codec = match stream.encoding_name() {
            "pcmu" => Some(AudioCodec::Pcmu),
            "pcma" => Some(AudioCodec::Pcma),
            _ => None,
        };
        match codec.filter(|_| mono && stream.clock_rate_hz() == 8000) {
            Some(codec) if chosen.is_none() => chosen = Some((n, codec)),
            _ => notes.push(audio_note(stream.encoding_name())),
        }
    }
    chosen
}

fn audio_note(encoding: &str) -> String {
    let name = match encoding {
        "mpeg4-generic" | "mp4a-latm" => "AAC".to_owned(),
        other => other.to_uppercase(),
    };
    format!(
        "audio in {name} is not passed on: choose G.711 (PCMU or PCMA, 8 kHz, mono) in the camera's settings to have it"
    )
}

/// Video goes on without an audio track that the camera does not hand out.
async fn set_up_audio(
    session: &mut Session<Described>,
    audio: Option<(usize, AudioCodec)>,
    transport: Transport,
    notes: &mut Vec<String>,
) -> Option<(usize, AudioCodec)> {
    let (stream, codec) = audio?;
    let stage = limited("setting up audio", async {
        session.setup(stream, setup_options(transport)).await.map_err(|error| failure(&error, true))
    });
    match stage.await {
        Ok(()) => Some((stream, codec)),
        Err(error) => {
            notes.push(format!("audio in {} is not passed on: {error}", codec.name()));
            None
        }
    }
}

/// Whether decoding can start with this unit.
fn stands_alone(codec: VideoCodec, data: &[u8]) -> bool {
    match codec {
        VideoCodec::Jpeg => true,
        // An IDR whose parameter sets nobody ever said is of no use; retina puts them before it once it knows them.
        VideoCodec::H264 => nal::is_idr(data) && nal::nal_units(data).any(|unit| nal::nal_type(unit) == Some(nal::SPS)),
        // IRAP pictures have the types 16 to 23 (H.265 §7.4.2.2, Table 7-1); 33 is the SPS.
        VideoCodec::H265 => {
            let has = |wanted: std::ops::RangeInclusive<u8>| {
                nal::nal_units(data)
                    .any(|unit| unit.first().is_some_and(|header| wanted.contains(&(header >> 1 & 0x3f))))
            };
            has(16..=23) && has(33..=33)
        }
    }
}

/// The first line of what `retina` says; the rest is for who reads a packet capture.
fn failure(error: &retina::Error, credentials_given: bool) -> SourceError {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default().trim().trim_end_matches(':').to_owned();
    match error.status_code() {
        Some(401 | 403) if credentials_given => SourceError::Unauthorized(
            "user or password is wrong: correct them in its address, rtsp://USER:PASSWORD@…".into(),
        ),
        Some(401 | 403) => SourceError::Unauthorized(
            "it wants a user and a password: put them into its address, rtsp://USER:PASSWORD@…".into(),
        ),
        Some(404) => SourceError::Camera("404: the camera does not know the path of its address".into()),
        Some(454) => SourceError::Camera("454: the camera has forgotten the session".into()),
        Some(461) => SourceError::Camera(
            "461: the camera does not offer this transport: set `transport` to the other of \"tcp\" and \"udp\"".into(),
        ),
        Some(status) if status >= 300 => SourceError::Camera(format!("the camera answers {status}: {line}")),
        _ => SourceError::Camera(line),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decoding_starts_at_pictures_with_their_parameter_sets() {
        let unit =
            |nals: &[&[u8]]| nals.iter().flat_map(|nal| [&nal::START_CODE[..], nal].concat()).collect::<Vec<_>>();
        assert!(stands_alone(VideoCodec::H264, &unit(&[&[0x67, 1], &[0x68, 1], &[0x65, 0x88]])));
        assert!(!stands_alone(VideoCodec::H264, &unit(&[&[0x65, 0x88]])));
        assert!(!stands_alone(VideoCodec::H264, &unit(&[&[0x67, 1], &[0x68, 1], &[0x41, 0x9a]])));
        assert!(stands_alone(VideoCodec::H265, &unit(&[&[0x42, 1, 1], &[0x26, 1, 0xaf]])));
        assert!(!stands_alone(VideoCodec::H265, &unit(&[&[0x42, 1, 1], &[0x02, 1, 0xaf]])));
        assert!(stands_alone(VideoCodec::Jpeg, &[]));
    }

    #[test]
    fn skew_has_a_sign() {
        let ours = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(100);
        let step = std::time::Duration::from_millis(1500);
        assert_eq!(milliseconds_ahead(ours + step, ours), 1500);
        assert_eq!(milliseconds_ahead(ours - step, ours), -1500);
    }

    #[test]
    fn a_note_says_what_to_choose() {
        let note = audio_note("mpeg4-generic");
        assert!(note.contains("AAC") && note.contains("PCMU"), "{note}");
    }
}
