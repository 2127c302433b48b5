//! One peer connection, and what happens on it.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rtc::data_channel::RTCDataChannelInit;
use rtc::peer_connection::transport::RTCIceCandidateInit;
use rtc::rtp_transceiver::rtp_sender::RtpCodecKind;
use tokio::sync::{Notify, mpsc};
use webrtc::data_channel::DataChannel;
use webrtc::media_stream::track_remote::TrackRemote;
use webrtc::peer_connection::{
    PeerConnection, PeerConnectionEventHandler, RTCIceGatheringState, RTCPeerConnectionState, RTCSessionDescription,
};

use super::channel::Channel;
use super::fragment::{self, Credentials, MAX_CANDIDATES};
use super::mux::{Mux, Route};
use super::tap::{NetworkStats, Tap};
use super::tracks::{AudioIn, VideoIn};
use super::{CHANNEL_LABEL, PeerError, sdp};

/// Host candidates are there within milliseconds; longer than this and something is broken.
const GATHERING_LIMIT: Duration = Duration::from_secs(2);

/// A connection that was there and from which nothing comes is lost this long after that was noticed.
pub(super) const LOST_AFTER: Duration = Duration::from_secs(3);

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
    pub(super) gathered: Arc<Notify>,
    /// Addresses in front of a NAT, told beside our own.
    pub(super) public: Vec<IpAddr>,
    /// What we answered, where ICE goes on changing it. One fragment at a time.
    pub(super) remote: tokio::sync::Mutex<Option<Remote>>,
    /// Our user fragment, which names the ICE generation.
    pub(super) generation: Mutex<String>,
    pub(super) closed: AtomicBool,
}

/// The other side's offer, as the stack has it.
pub(super) struct Remote {
    offer: String,
    credentials: Credentials,
    /// Candidates that were added since the offer or the last restart.
    candidates: usize,
}

impl Remote {
    pub(super) fn new(offer: String) -> Result<Self, PeerError> {
        let credentials = sdp::credentials(&offer)
            .ok_or_else(|| PeerError::BadDescription("the offer has no ice-ufrag and ice-pwd".to_owned()))?;
        Ok(Self { offer, credentials, candidates: 0 })
    }
}

/// What a fragment led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Patched {
    /// Its candidates were added (trickle ICE).
    Added,
    /// ICE began anew: what to tell the other side.
    Restarted {
        /// Our new credentials and candidates, as `application/trickle-ice-sdpfrag`.
        fragment: String,
        /// What names the new generation.
        etag: String,
    },
}

impl Connection {
    /// Names the current ICE generation; another one after each ICE restart (RFC 9725 §4.3.1).
    #[must_use]
    pub fn etag(&self) -> String {
        self.generation.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes an SDP fragment (`application/trickle-ice-sdpfrag`, RFC 8840) of the side whose offer was answered: adds its
    /// candidates, or begins ICE anew where it has other credentials. Media pauses then until the new path is found; the
    /// keys, the tracks and the channel stay.
    ///
    /// `is_meant` says whether the fragment is for the generation of this [`etag`](Self::etag).
    ///
    /// # Errors
    /// [`PeerError::BadFragment`] for what cannot be read, [`PeerError::OtherGeneration`] when `is_meant` says no: the
    /// connection is as it was before.
    pub async fn patch(&self, text: &str, is_meant: impl Fn(&str) -> bool + Send) -> Result<Patched, PeerError> {
        let fragment = fragment::read(text)?;
        let mut remote = self.remote.lock().await;
        let Some(remote) = remote.as_mut() else {
            return Err(PeerError::BadFragment("this connection was offered by us: it takes no fragments".to_owned()));
        };
        if self.closed.load(Ordering::Acquire) {
            return Err(PeerError::Closed);
        }
        if !is_meant(&self.etag()) {
            return Err(PeerError::OtherGeneration);
        }
        match fragment.credentials {
            Some(credentials) if credentials != remote.credentials => {
                let offer = fragment::restarted(&remote.offer, &credentials);
                self.inner.set_remote_description(RTCSessionDescription::offer(offer.clone())?).await?;
                *remote = Remote { offer, credentials, candidates: 0 };
                let answer = self.inner.create_answer(None).await?;
                self.inner.set_local_description(answer).await?;
                let description = self.gathered_description().await?;
                self.add_candidates(remote, &fragment.candidates).await;
                Ok(Patched::Restarted { fragment: fragment::write(&description), etag: self.etag() })
            }
            _ => {
                self.add_candidates(remote, &fragment.candidates).await;
                Ok(Patched::Added)
            }
        }
    }

    /// Adds what can be used of the candidates; others (TCP, names that nobody resolves) are no error (RFC 9725 §4.3.2).
    async fn add_candidates(&self, remote: &mut Remote, candidates: &[String]) {
        for candidate in candidates.iter().take(MAX_CANDIDATES.saturating_sub(remote.candidates)) {
            remote.candidates += 1;
            let init =
                RTCIceCandidateInit { candidate: format!("candidate:{candidate}"), ..RTCIceCandidateInit::default() };
            if let Err(error) = self.inner.add_ice_candidate(init).await {
                tracing::debug!(%error, "a candidate that is not used");
            }
        }
    }

    /// The local description once all candidates are in it, with the shared port; from here on checks find the peer.
    pub(super) async fn gathered_description(&self) -> Result<String, PeerError> {
        if tokio::time::timeout(GATHERING_LIMIT, self.gathered.notified()).await.is_err() {
            tracing::warn!("gathering of host candidates is not complete; answering with those that are there");
        }
        let local = self.inner.local_description().await.ok_or(PeerError::Closed)?;
        let ufrag = sdp::credentials(&local.sdp)
            .ok_or_else(|| PeerError::BadDescription("our own description has no ice-ufrag".to_owned()))?
            .ufrag;
        self.mux.register(&ufrag, &self.route);
        self.tap.capture.negotiated(&local.sdp);
        *self.generation.lock().unwrap_or_else(PoisonError::into_inner) = ufrag;
        Ok(sdp::rewrite_candidates(&local.sdp, self.mux.port(), &self.public))
    }

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
    /// How often the state has changed.
    pub(super) changes: Arc<AtomicU64>,
}

impl Handler {
    /// Gives the connection up unless its state changes again in time. The stack's own limit holds for the first path too,
    /// which may take longer to be found.
    fn lose_after_a_while(&self, change: u64) {
        let (events, changes) = (self.events.downgrade(), Arc::clone(&self.changes));
        tokio::spawn(async move {
            tokio::time::sleep(LOST_AFTER).await;
            if changes.load(Ordering::Acquire) == change
                && let Some(events) = events.upgrade()
            {
                let _ = events.try_send(ConnectionEvent::State(ConnectionState::Ended));
            }
        });
    }

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
        let change = self.changes.fetch_add(1, Ordering::AcqRel) + 1;
        if state == RTCPeerConnectionState::Disconnected {
            self.lose_after_a_while(change);
        }
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
