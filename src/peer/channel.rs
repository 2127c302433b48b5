//! The datachannel.

use std::sync::Arc;

use rtc::shared::error::Error;
use webrtc::data_channel::{DataChannel, DataChannelEvent, RTCDataChannelState};

use super::PeerError;

/// What SCTP may hold of unacknowledged messages: about two seconds of detections.
pub(super) const SEND_BUFFER_BYTES: usize = 64 << 10;

/// A datachannel that carries text. Clones are the same channel.
#[derive(Clone)]
pub struct Channel(Arc<dyn DataChannel>);

/// What happens on a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChannelEvent {
    /// The other side sent a text; bytes that are no UTF-8 come with replacement characters.
    Message(String),
    /// The channel is gone, and with it, for a browser that leaves, the page.
    Closed,
}

impl Channel {
    pub(super) fn new(inner: Arc<dyn DataChannel>) -> Self {
        Self(inner)
    }

    /// The label, empty when the channel is gone.
    pub async fn label(&self) -> String {
        self.0.label().await.unwrap_or_default()
    }

    /// Whether a message can be sent.
    pub async fn is_open(&self) -> bool {
        matches!(self.0.ready_state().await, Ok(RTCDataChannelState::Open))
    }

    /// The next event. Only one task may wait.
    pub async fn recv(&self) -> ChannelEvent {
        loop {
            match self.0.poll().await {
                Some(DataChannelEvent::OnMessage(message)) => {
                    return ChannelEvent::Message(String::from_utf8_lossy(&message.data).into_owned());
                }
                Some(DataChannelEvent::OnClose) | None => return ChannelEvent::Closed,
                Some(_) => {}
            }
        }
    }

    /// Sends a text if there is room; `false` when the buffer is full.
    ///
    /// # Errors
    /// [`PeerError::Stack`] when the channel is not open.
    pub async fn try_send(&self, text: &str) -> Result<bool, PeerError> {
        match self.0.try_send_text(text).await {
            Ok(()) => Ok(true),
            Err(Error::ErrSendBufferFull) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Resolves when there is room again; `false` when the channel is gone.
    pub async fn writable(&self) -> bool {
        self.0.writable().await.is_ok()
    }

    /// Closes the channel.
    pub async fn close(&self) {
        let _ = self.0.close().await;
    }
}
