//! Connections from offers, and offers of our own: codecs, extensions, interceptors, the shared port.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rtc::ice::mdns::MulticastDnsMode;
use rtc::media_stream::MediaStreamTrack;
use rtc::peer_connection::configuration::media_engine::MIME_TYPE_H264;
use rtc::peer_connection::transport::RTCDtlsRole;
use rtc::rtp_transceiver::rtp_sender::{
    RTCRtpCodec, RTCRtpCodecParameters, RTCRtpCodingParameters, RTCRtpEncodingParameters, RtpCodecKind,
};
use tokio::sync::{Notify, mpsc};
use webrtc::media_stream::track_local::TrackLocal;
use webrtc::media_stream::track_local::static_rtp::TrackLocalStaticRTP;
use webrtc::peer_connection::{PeerConnection, PeerConnectionBuilder, RTCSessionDescription, SettingEngineBuilder};
use webrtc::rtp_transceiver::RtpSender;

use super::channel::SEND_BUFFER_BYTES;
use super::codecs::{
    ABS_CAPTURE_TIME_URI, H264_PROFILES, PLAYOUT_DELAY_URI, audio, audio_codec, h264, media_and_interceptors,
};
use super::connection::{Connection, ConnectionEvent, Handler, Remote};
use super::mux::{self, Mux, PeerRuntime};
use super::sdp::{self, Direction, Dtls, Role};
use super::tap::Tap;
use super::tracks::{AudioOut, VideoOut};
use super::{Config, PeerError};
use crate::media::AudioCodec;

/// Nothing heard for this long: disconnected. With keep-alives at each second, and [`LOST_AFTER`](super::connection::LOST_AFTER)
/// on top, a killed browser is noticed within five.
const ICE_DISCONNECTED: Duration = Duration::from_secs(2);
/// With the time above, what the first path may take to be found: as long as a player takes that tells its candidates one by
/// one (RFC 9725 §4.3.1). A path that was lost is given up sooner.
const ICE_FAILED: Duration = Duration::from_secs(18);
const ICE_KEEPALIVE: Duration = Duration::from_secs(1);
/// Connectivity checks are repeated this often; at the default of 200 ms a first check that comes before the other side
/// is ready costs 200 ms of every start. As many as make the default's 1.4 s for each pair.
const ICE_CHECK_INTERVAL: Duration = Duration::from_millis(50);
const ICE_CHECKS: u16 = 28;

/// What every connection of this process shares.
pub struct Engine {
    mux: Arc<Mux>,
    public: Vec<IpAddr>,
}

/// A connection that was made from somebody's offer.
pub struct Answered {
    /// Our answer.
    pub sdp: String,
    /// The connection.
    pub connection: Connection,
    /// What happens on it, from the first moment on.
    pub events: mpsc::Receiver<ConnectionEvent>,
    /// Where video can be sent, if the offer receives any.
    pub video_out: Option<VideoOut>,
    /// Where audio can be sent, if the offer receives any.
    pub audio_out: Option<AudioOut>,
    /// Whether a datachannel can be made.
    pub channel_possible: bool,
}

pub(super) struct Outgoing {
    pub(super) track: Arc<TrackLocalStaticRTP>,
    pub(super) ssrc: u32,
}

impl Engine {
    /// Binds the shared port on every local address.
    ///
    /// # Errors
    /// When the port is taken, or there is no address.
    pub fn bind(config: &Config) -> Result<Self, PeerError> {
        Self::bind_on(&mux::local_addresses(), config)
    }

    /// Binds the shared port on loopback alone: for clients and tests on the same machine.
    ///
    /// # Errors
    /// As [`Engine::bind`].
    pub fn bind_loopback(config: &Config) -> Result<Self, PeerError> {
        Self::bind_on(&[IpAddr::from([127, 0, 0, 1])], config)
    }

    fn bind_on(addresses: &[IpAddr], config: &Config) -> Result<Self, PeerError> {
        Ok(Self { mux: Mux::bind(addresses, config.udp_port)?, public: config.public_ip.clone() })
    }

    /// The UDP port in use.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.mux.port()
    }

    /// The local addresses in use.
    #[must_use]
    pub fn addresses(&self) -> Vec<IpAddr> {
        self.mux.addresses()
    }

    /// Datagrams that reached nobody: from unknown addresses, for peers that did not read, and refused by the kernel.
    #[must_use]
    pub fn lost_datagrams(&self) -> [(&'static str, u64); 3] {
        use std::sync::atomic::Ordering::Relaxed;
        let counters = &self.mux.counters;
        [
            ("unknown_address", counters.unknown.load(Relaxed)),
            ("inbox_full", counters.overflow.load(Relaxed)),
            ("send_buffer_full", counters.unsent.load(Relaxed)),
        ]
    }

    /// Answers an offer of somebody who sends video. The annotated video goes where the offer first receives any: a
    /// `sendrecv` section, else a `recvonly` one.
    ///
    /// # Errors
    /// When the offer cannot be read or has nothing that we can take, with the reason.
    pub async fn answer(&self, offer: &str) -> Result<Answered, PeerError> {
        self.answer_as(offer, Role::Both).await
    }

    /// Answers an offer as its role has it: nothing is sent to a publisher, and nothing is taken from a viewer.
    ///
    /// # Errors
    /// As [`Engine::answer`].
    pub async fn answer_as(&self, offer: &str, role: Role) -> Result<Answered, PeerError> {
        let wanted = sdp::read_offer(offer, role)?;
        let shared = sdp::share_transport(offer);
        let offer = sdp::for_role(&shared, role).into_owned();
        let (connection, events) = self.connection(Some(wanted.dtls)).await?;
        connection.inner.set_remote_description(RTCSessionDescription::offer(offer.clone())?).await?;

        let (mut video_out, mut audio_out) = (None, None);
        if role != Role::Publisher {
            // Audio in the video's stream would hold the video back for lip-sync: each has a stream of its own.
            let video = outgoing(RtpCodecKind::Video, "sightline-video", h264(H264_PROFILES[0].1));
            let audio = outgoing(RtpCodecKind::Audio, "sightline-audio", audio(AudioCodec::Opus));
            video_out = attach(&connection.inner, &wanted.video, &video).await?.map(|sender| (sender, video));
            audio_out = attach(&connection.inner, &wanted.audio, &audio).await?.map(|sender| (sender, audio));
        }
        let answer = connection.inner.create_answer(None).await?;
        connection.inner.set_local_description(answer).await?;
        let mut sdp = connection.gathered_description().await?;
        if role != Role::Both {
            sdp = sdp::mux_only(&sdp);
        }
        *connection.remote.lock().await = Some(Remote::new(offer)?);
        let video_out = match video_out {
            Some((sender, video)) => Some(self::video_out(&*sender, video, &connection.tap).await?),
            None => None,
        };
        let audio_out = match audio_out {
            Some((sender, audio)) => Some(self::audio_out(&*sender, audio, &connection.tap).await?),
            None => None,
        };
        Ok(Answered { sdp, connection, events, video_out, audio_out, channel_possible: wanted.application })
    }

    /// Ends the readers of the shared port.
    pub fn stop(&self) {
        self.mux.stop();
    }

    /// A connection that nothing has been said on yet; `answering`: our part in the handshake, where the offer is another's.
    pub(super) async fn connection(
        &self,
        answering: Option<Dtls>,
    ) -> Result<(Connection, mpsc::Receiver<ConnectionEvent>), PeerError> {
        let tap = Tap::new();
        let route = self.mux.route(Arc::clone(&tap));
        let (media, registry) = media_and_interceptors(&tap)?;
        let mut settings = SettingEngineBuilder::new()
            .with_ice_timeouts(Some(ICE_DISCONNECTED), Some(ICE_FAILED), Some(ICE_KEEPALIVE))
            .with_ice_connection_attempts(Some(ICE_CHECK_INTERVAL), Some(ICE_CHECKS))
            .with_multicast_dns_mode(MulticastDnsMode::Disabled)
            .with_include_loopback_candidate(true);
        if let Some(dtls) = answering {
            settings = settings.with_answering_dtls_role(match dtls {
                Dtls::Server => RTCDtlsRole::Server,
                Dtls::Client => RTCDtlsRole::Client,
            });
        }
        let (sender, events) = mpsc::channel(64);
        let gathered = Arc::new(Notify::new());
        let handler =
            Handler { events: sender, gathered: Arc::clone(&gathered), tap: Arc::clone(&tap), changes: Arc::default() };
        // The port is a name only: the runtime puts a virtual socket in the place of what is bound here.
        let addresses: Vec<SocketAddr> = self.mux.addresses().into_iter().map(|ip| SocketAddr::new(ip, 0)).collect();
        let inner = PeerConnectionBuilder::new()
            .with_media_engine(media)
            .with_interceptor_registry(registry)
            .with_setting_engine(settings.build())
            .with_handler(Arc::new(handler))
            .with_runtime(Arc::new(PeerRuntime::new(Arc::clone(&self.mux), Arc::clone(&route))))
            .with_udp_addrs(addresses)
            .with_data_channel_send_buffer_limit(SEND_BUFFER_BYTES)
            .build()
            .await?;
        let connection = Connection {
            inner: Arc::new(inner),
            mux: Arc::clone(&self.mux),
            route,
            tap,
            gathered,
            public: self.public.clone(),
            remote: tokio::sync::Mutex::default(),
            generation: Mutex::default(),
            closed: AtomicBool::new(false),
        };
        Ok((connection, events))
    }
}

pub(super) async fn video_out(sender: &dyn RtpSender, out: Outgoing, tap: &Arc<Tap>) -> Result<VideoOut, PeerError> {
    let parameters = sender.get_parameters().await?.rtp_parameters;
    let is_h264 = |codec: &&RTCRtpCodecParameters| codec.rtp_codec.mime_type.eq_ignore_ascii_case(MIME_TYPE_H264);
    let constrained = |codec: &&RTCRtpCodecParameters| codec.rtp_codec.sdp_fmtp_line.to_lowercase().contains("42e0");
    let codec = parameters
        .codecs
        .iter()
        .filter(is_h264)
        .find(constrained)
        .or_else(|| parameters.codecs.iter().find(is_h264))
        .ok_or_else(|| PeerError::NoCommonCodec("the negotiation left no H264".to_owned()))?;
    let extension = |uri: &str| {
        let found = parameters.header_extensions.iter().find(|extension| extension.uri == uri);
        found.and_then(|extension| u8::try_from(extension.id).ok())
    };
    let sent = tap.watch_video_out(out.ssrc);
    Ok(VideoOut {
        track: out.track,
        ssrc: out.ssrc,
        payload_type: codec.payload_type,
        playout_delay: extension(PLAYOUT_DELAY_URI),
        capture_time: extension(ABS_CAPTURE_TIME_URI),
        capture_told: None,
        sequence_number: rand::random(),
        sent: Some(sent),
        tap: Arc::clone(tap),
    })
}

async fn audio_out(sender: &dyn RtpSender, out: Outgoing, tap: &Arc<Tap>) -> Result<AudioOut, PeerError> {
    let codecs = sender.get_parameters().await?.rtp_parameters.codecs;
    let payload_type =
        |codec: &RTCRtpCodecParameters| Some((audio_codec(&codec.rtp_codec.mime_type)?, codec.payload_type));
    let payload_types = codecs.iter().filter_map(payload_type).collect();
    Ok(AudioOut {
        track: out.track,
        ssrc: out.ssrc,
        payload_types,
        sequence_number: rand::random(),
        dropped: 0,
        tap: Arc::clone(tap),
    })
}

pub(super) fn outgoing(kind: RtpCodecKind, stream: &str, codec: RTCRtpCodec) -> Outgoing {
    let ssrc = rand::random::<u32>().max(1);
    let encoding = RTCRtpEncodingParameters {
        rtp_coding_parameters: RTCRtpCodingParameters { ssrc: Some(ssrc), ..RTCRtpCodingParameters::default() },
        codec,
        ..RTCRtpEncodingParameters::default()
    };
    let track =
        MediaStreamTrack::new(stream.to_owned(), format!("{stream}-0"), stream.to_owned(), kind, vec![encoding]);
    Outgoing { track: Arc::new(TrackLocalStaticRTP::new(track)), ssrc }
}

/// Adds the track to the section of the offer that it answers.
///
/// The stack gives a track to the first section of its kind that has none, whether that one receives or not. So the
/// sections before the right one get a track that is taken away again.
async fn attach(
    connection: &Arc<dyn PeerConnection>,
    sections: &[Direction],
    out: &Outgoing,
) -> Result<Option<Arc<dyn RtpSender>>, PeerError> {
    let Some(target) = section_to_send_on(sections) else { return Ok(None) };
    let mut fillers = Vec::new();
    for _ in 0..target {
        let track = out.track.track().await;
        let filler = MediaStreamTrack::new(
            "filler".to_owned(),
            format!("filler-{}", fillers.len()),
            String::new(),
            track.kind(),
            track.codings().to_vec(),
        );
        fillers.push(connection.add_track(Arc::new(TrackLocalStaticRTP::new(filler))).await?);
    }
    let sender = connection.add_track(Arc::clone(&out.track) as Arc<dyn TrackLocal>).await?;
    for filler in &fillers {
        connection.remove_track(filler).await?;
    }
    Ok(Some(sender))
}

fn section_to_send_on(sections: &[Direction]) -> Option<usize> {
    let both = sections.iter().position(|section| section.sends && section.receives);
    both.or_else(|| sections.iter().position(|section| section.receives))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: Direction = Direction { sends: true, receives: true };
    const SENDS: Direction = Direction { sends: true, receives: false };
    const RECEIVES: Direction = Direction { sends: false, receives: true };

    #[test]
    fn the_annotated_video_goes_where_the_offer_receives() {
        assert_eq!(section_to_send_on(&[BOTH]), Some(0));
        assert_eq!(section_to_send_on(&[SENDS, RECEIVES]), Some(1));
        assert_eq!(section_to_send_on(&[RECEIVES, BOTH]), Some(1));
        assert_eq!(section_to_send_on(&[SENDS]), None);
    }
}
