//! Offers of our own: a client that is like a browser, a publisher, a viewer.

use std::sync::Arc;

use rtc::rtp_transceiver::rtp_sender::RtpCodecKind;
use rtc::rtp_transceiver::{RTCRtpTransceiverDirection, RTCRtpTransceiverInit};
use tokio::sync::mpsc;
use webrtc::media_stream::track_local::TrackLocal;
use webrtc::peer_connection::RTCSessionDescription;
use webrtc::rtp_transceiver::RtpSender;

use super::channel::Channel;
use super::codecs::{H264_PROFILES, h264};
use super::connection::{Connection, ConnectionEvent};
use super::engine::{Answered, Engine, Outgoing, outgoing, video_out};
use super::{CHANNEL_LABEL, PeerError};

/// A connection of our own making, before it is answered. `C` is the datachannel, or `()` for an offer without one.
pub struct Offered<C = Channel> {
    /// Our offer.
    pub sdp: String,
    /// The connection.
    pub connection: Connection,
    /// What happens on it.
    pub events: mpsc::Receiver<ConnectionEvent>,
    /// The datachannel; it opens once connected.
    pub channel: C,
    /// What will send video, in an offer that does.
    video: Option<(Arc<dyn RtpSender>, Outgoing)>,
}

/// An engine that offers to another one of ours should do so once: both ends share a port among all connections, and two
/// between the same pair of ports could not be told apart.
impl Engine {
    /// Makes an offer: one video section that sends and receives, and the `detections` channel.
    ///
    /// # Errors
    /// When the stack refuses.
    pub async fn offer(&self) -> Result<Offered, PeerError> {
        self.offer_with_channel(CHANNEL_LABEL).await
    }

    /// The same with a datachannel of another name: the other side may then make the `detections` channel.
    ///
    /// # Errors
    /// As [`Engine::offer`].
    pub async fn offer_with_channel(&self, label: &str) -> Result<Offered, PeerError> {
        let (connection, events) = self.connection(None).await?;
        let out = outgoing(RtpCodecKind::Video, "client-video", h264(H264_PROFILES[0].1));
        let sender = connection.inner.add_track(Arc::clone(&out.track) as Arc<dyn TrackLocal>).await?;
        let channel = connection.create_channel_named(label).await?;
        offered(connection, events, channel, Some((sender, out))).await
    }

    /// Makes an offer that only sends: one video section, as a WHIP client does (RFC 9725 §4.2).
    ///
    /// # Errors
    /// As [`Engine::offer`].
    pub async fn offer_to_publish(&self) -> Result<Offered<()>, PeerError> {
        let (connection, events) = self.connection(None).await?;
        let out = outgoing(RtpCodecKind::Video, "client-video", h264(H264_PROFILES[0].1));
        let track = Arc::clone(&out.track) as Arc<dyn TrackLocal>;
        let transceiver =
            connection.inner.add_transceiver_from_track(track, only(RTCRtpTransceiverDirection::Sendonly)).await?;
        let sender = transceiver.sender().await?.ok_or(PeerError::Closed)?;
        offered(connection, events, (), Some((sender, out))).await
    }

    /// Makes an offer that only receives: video and audio, as a WHEP player does.
    ///
    /// # Errors
    /// As [`Engine::offer`].
    pub async fn offer_to_view(&self) -> Result<Offered<()>, PeerError> {
        let (connection, events) = self.receiving().await?;
        offered(connection, events, (), None).await
    }

    /// The same with the `detections` channel.
    ///
    /// # Errors
    /// As [`Engine::offer`].
    pub async fn offer_to_view_with_channel(&self) -> Result<Offered, PeerError> {
        let (connection, events) = self.receiving().await?;
        let channel = connection.create_channel_named(CHANNEL_LABEL).await?;
        offered(connection, events, channel, None).await
    }

    async fn receiving(&self) -> Result<(Connection, mpsc::Receiver<ConnectionEvent>), PeerError> {
        let (connection, events) = self.connection(None).await?;
        for kind in [RtpCodecKind::Video, RtpCodecKind::Audio] {
            connection.inner.add_transceiver_from_kind(kind, only(RTCRtpTransceiverDirection::Recvonly)).await?;
        }
        Ok((connection, events))
    }
}

#[allow(clippy::unnecessary_wraps)] // what the stack takes
fn only(direction: RTCRtpTransceiverDirection) -> Option<RTCRtpTransceiverInit> {
    Some(RTCRtpTransceiverInit { direction, streams: Vec::new(), send_encodings: Vec::new() })
}

async fn offered<C>(
    connection: Connection,
    events: mpsc::Receiver<ConnectionEvent>,
    channel: C,
    video: Option<(Arc<dyn RtpSender>, Outgoing)>,
) -> Result<Offered<C>, PeerError> {
    let offer = connection.inner.create_offer(None).await?;
    connection.inner.set_local_description(offer).await?;
    let sdp = connection.gathered_description().await?;
    Ok(Offered { sdp, connection, events, channel, video })
}

impl<C> Offered<C> {
    /// Takes the other side's answer. From here on media can flow once the connection stands.
    ///
    /// # Errors
    /// When the answer cannot be read, or accepts no video.
    pub async fn accept(self, answer: &str) -> Result<Answered, PeerError> {
        let description = RTCSessionDescription::answer(answer.to_owned())?;
        self.connection.inner.set_remote_description(description).await?;
        let video_out = match self.video {
            Some((sender, out)) => Some(video_out(&*sender, out, &self.connection.tap).await?),
            None => None,
        };
        Ok(Answered {
            sdp: answer.to_owned(),
            connection: self.connection,
            events: self.events,
            video_out,
            audio_out: None,
            channel_possible: true,
        })
    }
}
