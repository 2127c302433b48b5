//! Audio through a session: passed on, never decoded.

use std::sync::Arc;

use tokio::sync::broadcast;
use tokio::task::JoinSet;
use tracing::Instrument;

use super::Session;
use crate::media::AudioPacket;
use crate::peer::{AudioIn, AudioOut};

impl Session {
    /// Gives the publisher's audio to the stream, and back to the publisher itself where it wants it.
    pub(super) fn serve_audio(
        &self,
        mut audio: AudioIn,
        mut out: Option<AudioOut>,
        feeder: u64,
        tasks: &mut JoinSet<()>,
    ) {
        let place = Arc::clone(&self.place);
        let serve = async move {
            while let Some(packet) = audio.recv().await {
                if let Some(echo) = &mut out
                    && echo.send(&packet).await.is_err()
                {
                    out = None;
                }
                place.push_audio(feeder, packet);
            }
        };
        tasks.spawn(serve.in_current_span());
    }
}

/// Passes the stream's audio on until either ends. A listener that is too slow loses its own packets.
pub(super) async fn pass_audio(mut audio: broadcast::Receiver<AudioPacket>, mut out: AudioOut) {
    loop {
        match audio.recv().await {
            Ok(packet) => {
                if out.send(&packet).await.is_err() {
                    return;
                }
            }
            Err(broadcast::error::RecvError::Lagged(missed)) => tracing::debug!(missed, "audio went by unheard"),
            Err(broadcast::error::RecvError::Closed) => return,
        }
    }
}
