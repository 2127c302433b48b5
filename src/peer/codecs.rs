//! What is negotiated: codecs, header extensions, and the interceptors that go with them.

use std::sync::Arc;
use std::time::Duration;

use rtc::interceptor::{NackGeneratorBuilder, NackResponderBuilder, Slot};
use rtc::peer_connection::configuration::media_engine::{
    MIME_TYPE_H264, MIME_TYPE_OPUS, MIME_TYPE_PCMA, MIME_TYPE_PCMU,
};
use rtc::rtp_transceiver::rtp_sender::{
    RTCPFeedback, RTCRtpCodec, RTCRtpCodecParameters, RTCRtpHeaderExtensionCapability, RtpCodecKind,
};
use webrtc::peer_connection::{MediaEngine, Registry, configure_rtcp_reports, configure_twcc};

use super::PeerError;
use super::intercept::TapInterceptor;
use super::tap::Tap;
use crate::media::AudioCodec;

pub(super) const PLAYOUT_DELAY_URI: &str = "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay";

/// The instant of capture, by the sender's wall clock.
pub(super) const ABS_CAPTURE_TIME_URI: &str = "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time";

/// Lost packets are asked for again this often. The default of 100 ms made p95 latency ten times worse at 3 % loss.
const NACK_INTERVAL: Duration = Duration::from_millis(20);
const NACKS_PER_PACKET: u16 = 10;

/// Constrained baseline and baseline, level 3.1: what every browser encodes and decodes. Level asymmetry lets larger
/// pictures through (RFC 6184 §8.1).
pub(super) const H264_PROFILES: [(u8, &str); 2] = [(102, "42e01f"), (127, "42001f")];
/// Audio in our order of preference: its payload type in our own offers. Those of G.711 are fixed (RFC 3551 §6).
const AUDIO: [(AudioCodec, u8); 3] = [(AudioCodec::Opus, 111), (AudioCodec::Pcmu, 0), (AudioCodec::Pcma, 8)];

pub(super) fn h264(profile: &str) -> RTCRtpCodec {
    let feedback = |typ: &str, parameter: &str| RTCPFeedback { typ: typ.to_owned(), parameter: parameter.to_owned() };
    RTCRtpCodec {
        mime_type: MIME_TYPE_H264.to_owned(),
        clock_rate: 90_000,
        channels: 0,
        sdp_fmtp_line: format!("level-asymmetry-allowed=1;packetization-mode=1;profile-level-id={profile}"),
        rtcp_feedback: vec![
            feedback("goog-remb", ""),
            feedback("ccm", "fir"),
            feedback("nack", ""),
            feedback("nack", "pli"),
        ],
    }
}

pub(super) fn audio(codec: AudioCodec) -> RTCRtpCodec {
    let (mime_type, clock_rate, channels, fmtp) = match codec {
        AudioCodec::Opus => (MIME_TYPE_OPUS, 48_000, 2, "minptime=10;useinbandfec=1"),
        AudioCodec::Pcmu => (MIME_TYPE_PCMU, 8000, 0, ""),
        AudioCodec::Pcma => (MIME_TYPE_PCMA, 8000, 0, ""),
    };
    RTCRtpCodec {
        mime_type: mime_type.to_owned(),
        clock_rate,
        channels,
        sdp_fmtp_line: fmtp.to_owned(),
        rtcp_feedback: vec![],
    }
}

/// The audio codec of a MIME type, if it is one that is passed on.
pub(super) fn audio_codec(mime_type: &str) -> Option<AudioCodec> {
    let known = AUDIO.map(|(codec, _)| codec);
    known.into_iter().find(|codec| mime_type.eq_ignore_ascii_case(&format!("audio/{}", codec.name())))
}

/// No RTX is negotiated: packets that it recovers never clear the NACK generator of this stack, and 3 % loss caused
/// seventeen times as many retransmissions. No pacer: it holds the last packet of a frame back by 20 ms;
/// so the numbers of transport-wide feedback are on without the stack's congestion control, and the tap reads them.
pub(super) fn media_and_interceptors(tap: &Arc<Tap>) -> Result<(MediaEngine, Registry), PeerError> {
    let mut media = MediaEngine::default();
    for (payload_type, profile) in H264_PROFILES {
        let codec = RTCRtpCodecParameters { rtp_codec: h264(profile), payload_type };
        media.register_codec(codec, RtpCodecKind::Video)?;
    }
    for (codec, payload_type) in AUDIO {
        let codec = RTCRtpCodecParameters { rtp_codec: audio(codec), payload_type };
        media.register_codec(codec, RtpCodecKind::Audio)?;
    }
    for uri in [PLAYOUT_DELAY_URI, ABS_CAPTURE_TIME_URI, rtc::sdp::extmap::SDES_MID_URI] {
        let extension = RTCRtpHeaderExtensionCapability { uri: uri.to_owned() };
        media.register_header_extension(extension, RtpCodecKind::Video, None)?;
    }
    let registry = configure_twcc(Registry::new(), &mut media)?;
    let registry = configure_rtcp_reports(registry)
        .with(Slot::NackResponder, NackResponderBuilder::new().build())
        .with(
            Slot::NackGenerator,
            NackGeneratorBuilder::new()
                .with_interval(NACK_INTERVAL)
                .with_max_nacks_per_packet(NACKS_PER_PACKET)
                .build(),
        )
        // Below all others, so that what they write passes here too.
        .with(Slot::from(500), TapInterceptor::new(Arc::clone(tap)));
    Ok((media, registry))
}
