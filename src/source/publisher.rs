//! A publisher's WebRTC video to access units.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::time::sleep_until;

use super::rtp::{Assembled, Assembler, AssemblerConfig, Counters};
use crate::media::{AccessUnit, StreamClock};
use crate::peer::VideoIn;

/// The counts of an assembler at work, to be read from elsewhere.
#[derive(Clone, Debug, Default)]
pub struct IngestCounters(Arc<Mutex<Counters>>);

impl IngestCounters {
    /// What happened so far.
    #[must_use]
    pub fn get(&self) -> Counters {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, counters: Counters) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = counters;
    }
}

/// Receives until the track ends: each access unit goes to `deliver`, in decoding order and without gaps. A loss that
/// cannot be mended becomes a PLI to the publisher.
pub async fn ingest(mut video: VideoIn, counters: IngestCounters, mut deliver: impl FnMut(AccessUnit)) {
    let keyframes = video.keyframe_request();
    let mut assembler = Assembler::new(AssemblerConfig::default());
    let mut clock = StreamClock::new();
    loop {
        let deadline = assembler.deadline();
        let packet = tokio::select! {
            packet = video.recv() => match packet {
                Some(packet) => Some(packet),
                None => return,
            },
            () = sleep_until(deadline.unwrap_or_else(Instant::now).into()), if deadline.is_some() => None,
        };
        if let Some(packet) = packet {
            assembler.push(packet);
        }
        while let Some(assembled) = assembler.poll(Instant::now()) {
            match assembled {
                Assembled::AccessUnit(mut unit) => {
                    if let Some(report) = video.sender_report() {
                        clock.on_sender_report(report);
                    }
                    unit.captured = unit.captured.or_else(|| clock.captured(unit.rtp_timestamp));
                    deliver(unit);
                }
                Assembled::KeyframeNeeded(reason) => {
                    tracing::debug!(reason = reason.name(), "asking the publisher for a keyframe");
                    keyframes.request();
                }
            }
        }
        counters.set(assembler.counters());
    }
}
