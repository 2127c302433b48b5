//! One peer connection, and what happens on it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use rtc::data_channel::RTCDataChannelInit;
use rtc::rtp_transceiver::rtp_sender::RtpCodecKind;
use tokio::sync::{Notify, mpsc};
use webrtc::data_channel::DataChannel;
use webrtc::media_stream::track_remote::TrackRemote;
use webrtc::peer_connection::{
    PeerConnection, PeerConnectionEventHandler, RTCIceGatheringState, RTCPeerConnectionState,
};

use super::channel::Channel;
use super::mux::{Mux, Route};
use super::tap::{NetworkStats, Tap};
use super::tracks::{AudioIn, VideoIn};
use super::{CHANNEL_LABEL, PeerError};

/// How a connection stands (W3C WebRTC §4.3.3, without what cannot be told apart from outside).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionState {
    /// Media can flow.
    Connected,
    /// Nothing comes at the moment.
    Disconnected,
    /// It is over.
    Ended,
}

/// What happens on a connection.
pub enum ConnectionEvent {
    /// The other side's video begins.
    Video(VideoIn),
    /// The other side's audio begins.
    Audio(AudioIn),
    /// The other side made a datachannel.
    Channel(Channel),
    /// The connection's state changed.
    State(ConnectionState),
}

/// A peer connection. Dropping it ends it.
pub struct Connection {
    pub(super) inner: Arc<dyn PeerConnection>,
    pub(super) mux: Arc<Mux>,
    pub(super) route: Arc<Route>,
    pub(super) tap: Arc<Tap>,
    pub(super) closed: AtomicBool,
}

impl Connection {
    /// What is known of the network between us and the peer.
    #[must_use]
    pub fn stats(&self) -> NetworkStats {
        self.tap.stats()
    }

    /// When the last RTP packet of any kind came.
    #[must_use]
    pub fn last_rtp(&self) -> Option<Instant> {
        self.tap.last_rtp()
    }

    /// Makes the `detections` channel from our side: unordered, never retransmitted.
    ///
    /// # Errors
    /// When the connection is closed, or has no application section.
    pub async fn create_channel(&self) -> Result<Channel, PeerError> {
        self.create_channel_named(CHANNEL_LABEL).await
    }

    pub(super) async fn create_channel_named(&self, label: &str) -> Result<Channel, PeerError> {
        let init = RTCDataChannelInit { ordered: false, max_retransmits: Some(0), ..RTCDataChannelInit::default() };
        Ok(Channel::new(self.inner.create_data_channel(label, Some(init)).await?))
    }

    /// Ends the connection and frees its place at the shared port.
    pub async fn close(&self) {
        if !self.closed.swap(true, Ordering::AcqRel) {
            if let Err(error) = self.inner.close().await {
                tracing::debug!(%error, "close");
            }
            self.mux.forget(&self.route);
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if !self.closed.swap(true, Ordering::AcqRel) {
            self.mux.forget(&self.route);
            let inner = Arc::clone(&self.inner);
            if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                runtime.spawn(async move { drop(inner.close().await) });
            }
        }
    }
}

/// Passes the stack's callbacks on; they run on the connection's own task and must not wait.
pub(super) struct Handler {
    pub(super) events: mpsc::Sender<ConnectionEvent>,
    pub(super) gathered: Arc<Notify>,
    pub(super) tap: Arc<Tap>,
}

impl Handler {
    fn pass(&self, event: ConnectionEvent) {
        // The session's task takes each at once; one that does not has ended.
        if self.events.try_send(event).is_err() {
            tracing::debug!("nobody listens to this connection");
        }
    }
}

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Handler {
    async fn on_ice_gathering_state_change(&self, state: RTCIceGatheringState) {
        if state == RTCIceGatheringState::Complete {
            self.gathered.notify_one();
        }
    }

    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        tracing::debug!(%state, "connection");
        self.pass(ConnectionEvent::State(match state {
            RTCPeerConnectionState::Connected => ConnectionState::Connected,
            RTCPeerConnectionState::Disconnected => ConnectionState::Disconnected,
            RTCPeerConnectionState::Failed | RTCPeerConnectionState::Closed => ConnectionState::Ended,
            _ => return,
        }));
    }

    async fn on_data_channel(&self, channel: Arc<dyn DataChannel>) {
        self.pass(ConnectionEvent::Channel(Channel::new(channel)));
    }

    async fn on_track(&self, track: Arc<dyn TrackRemote>) {
        let tap = Arc::clone(&self.tap);
        match track.kind().await {
            RtpCodecKind::Video => self.pass(ConnectionEvent::Video(VideoIn::new(track, tap))),
            RtpCodecKind::Audio => self.pass(ConnectionEvent::Audio(AudioIn::new(track, tap))),
            _ => {}
        }
    }
}
