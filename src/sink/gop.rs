//! The frames of a bitstream since its last IDR: what a new viewer needs to be in the middle of it at once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::frame::EncodedFrame;

/// The most frames that are kept: two seconds at 30 frames a second. A viewer would be longer at decoding more than at waiting.
pub(super) const MAX_FRAMES: usize = 60;

/// The most bytes of payload that are kept.
pub(super) const MAX_BYTES: usize = 1 << 20;

/// What a viewer's decoder takes for a frame, roughly: a phone's, at 720p.
const DECODE_TIME: Duration = Duration::from_millis(4);

/// What a byte takes on a viewer's link, roughly: 50 Mbit/s.
const BYTE_TIME: Duration = Duration::from_nanos(160);

/// The frames since the last IDR, as long as they are few enough.
#[derive(Debug, Default)]
pub(super) struct Gop {
    frames: Vec<Arc<EncodedFrame>>,
    bytes: usize,
    began: Option<Instant>,
}

impl Gop {
    /// Takes the bitstream's next frame.
    pub(super) fn put(&mut self, frame: &Arc<EncodedFrame>, now: Instant) {
        if frame.idr {
            self.clear();
            self.began = Some(now);
        } else if self.frames.is_empty() {
            return;
        }
        self.bytes += frame.payloads.iter().map(Bytes::len).sum::<usize>();
        if self.frames.len() == MAX_FRAMES || self.bytes > MAX_BYTES {
            self.forget();
        } else {
            self.frames.push(Arc::clone(frame));
        }
    }

    /// The bitstream ended, or what came of it is too old to be shown.
    pub(super) fn clear(&mut self) {
        self.forget();
        self.began = None;
    }

    fn forget(&mut self) {
        self.frames.clear();
        self.bytes = 0;
    }

    /// When the last IDR came, whether or not all since then is kept.
    pub(super) fn began(&self) -> Option<Instant> {
        self.began
    }

    /// What is kept, from the IDR on; empty when that is not everything.
    pub(super) fn frames(&self) -> &[Arc<EncodedFrame>] {
        &self.frames
    }

    /// About how long a viewer that gets all of it is at catching up with the newest picture; `None` when it is not there.
    pub(super) fn catching_up(&self) -> Option<Duration> {
        let frames = u32::try_from(self.frames.len()).ok().filter(|&frames| frames > 0)?;
        Some(DECODE_TIME * frames + BYTE_TIME * u32::try_from(self.bytes).unwrap_or(u32::MAX))
    }
}
