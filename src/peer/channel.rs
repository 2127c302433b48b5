//! The datachannel.

use std::sync::Arc;
use std::time::Duration;

use rtc::shared::error::Error;
use webrtc::data_channel::{DataChannel, DataChannelEvent, RTCDataChannelState};

use super::PeerError;

/// What SCTP may hold of unacknowledged messages: about two seconds of detections.
pub(super) const SEND_BUFFER_BYTES: usize = 64 << 10;

/// How soon a message that found no room is tried again.
const RETRY_INTERVAL: Duration = Duration::from_millis(10);

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

    /// Waits until messages can be sent; `false` when the channel will never open. To be asked before the first
    /// [`recv`](Self::recv).
    pub async fn opened(&self) -> bool {
        while !self.is_open().await {
            match self.0.poll().await {
                Some(DataChannelEvent::OnClose) | None => return false,
                // Nothing can be said on a channel that is not open, so no message is passed over here.
                Some(_) => {}
            }
        }
        true
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

    /// Resolves after a full buffer when it is worth trying again; `false` when the channel is gone.
    pub async fn writable(&self) -> bool {
        // The stack takes a buffer with room for one byte for writable. Whoever has a longer message would ask and try
        // without a pause, and the connection's own task, which empties the buffer, would not get its turn.
        tokio::time::sleep(RETRY_INTERVAL).await;
        self.0.writable().await.is_ok()
    }

    /// Closes the channel.
    pub async fn close(&self) {
        let _ = self.0.close().await;
    }
}
