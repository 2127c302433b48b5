//! Audio through a session: passed on, never decoded.

use std::sync::Arc;

use tokio::sync::broadcast;
use tokio::task::JoinSet;
use tracing::Instrument;

use super::Session;
use crate::media::{AudioCodec, AudioPacket, RtpPacket};
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
                place.push_audio(
                    feeder,
                    AudioPacket {
                        codec: AudioCodec::Opus,
                        rtp_timestamp: packet.timestamp,
                        marker: packet.marker,
                        payload: packet.payload.clone(),
                        arrived: packet.arrived,
                    },
                );
                if let Some(echo) = &mut out
                    && echo.send(packet).await.is_err()
                {
                    out = None;
                }
            }
        };
        tasks.spawn(serve.in_current_span());
    }
}

/// Passes the stream's audio on until either ends. A listener that is too slow loses its own packets.
pub(super) async fn pass_audio(mut audio: broadcast::Receiver<AudioPacket>, mut out: AudioOut) {
    let mut sequence_number = 0u16;
    loop {
        match audio.recv().await {
            Ok(AudioPacket { rtp_timestamp, marker, payload, arrived, .. }) => {
                sequence_number = sequence_number.wrapping_add(1);
                let packet = RtpPacket { sequence_number, timestamp: rtp_timestamp, marker, payload, arrived };
                if out.send(packet).await.is_err() {
                    return;
                }
            }
            Err(broadcast::error::RecvError::Lagged(missed)) => tracing::debug!(missed, "audio went by unheard"),
            Err(broadcast::error::RecvError::Closed) => return,
        }
    }
}
