//! One encode of a stream: there while somebody needs it.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::rate::Rate;
use super::video::lock;
use crate::encode::{Config, EncodeError, Encoder, H264Encoder};
use crate::media::{Detection, Detections, Frame, I420Frame, KeyframeGate, Mark};
use crate::peer::packetize;
use crate::sink::{Bitstream, EncodedFrame};

/// An encoder that nobody needed for this long is given up with its memory; the next begins with an IDR.
const IDLE: Duration = Duration::from_secs(10);

/// One encode.
pub(super) struct Rendition {
    bitstream: Bitstream,
    config: Config,
    encoder: Option<Box<dyn Encoder>>,
    gate: Arc<Mutex<KeyframeGate>>,
    rate: Rate,
    used: Instant,
}

impl Rendition {
    /// An encode whose IDRs are asked for at `gate`.
    pub(super) fn new(bitstream: Bitstream, config: Config, gate: Arc<Mutex<KeyframeGate>>) -> Self {
        Self { bitstream, config, encoder: None, gate, rate: Rate::default(), used: Instant::now() }
    }

    /// Whether a picture of this size may be encoded now. `limit`: what the way to the slowest viewer carries, in bits a second.
    pub(super) fn admits(&mut self, picture: &I420Frame, limit: Option<u32>) -> bool {
        let full = self.config.bitrate(picture.width(), picture.height());
        self.rate.admits(Instant::now(), limit, full)
    }

    /// Encodes a frame, in which `boxes` are drawn. An IDR that was asked for is asked for still when this fails.
    pub(super) fn encode(
        &mut self,
        mut frame: Frame,
        boxes: Vec<Detection>,
        result: Option<Arc<Detections>>,
        limit: Option<u32>,
    ) -> Result<(EncodedFrame, usize), EncodeError> {
        let now = Instant::now();
        self.used = now;
        let full = self.config.bitrate(frame.picture.width(), frame.picture.height());
        let encoder = self.encoder.get_or_insert_with(|| Box::new(H264Encoder::new(self.config.clone())));
        if let Some(bps) = self.rate.aim(limit, full, self.config.max_fps)
            && let Err(error) = encoder.set_bitrate(bps)
        {
            // The picture goes out at the rate before; the next one tries again.
            self.rate.forget();
            tracing::debug!(%error, "bitrate");
        }
        let wanted = lock(&self.gate).take(now);
        let encoded = encoder.encode(&frame.picture, wanted).inspect_err(|_| lock(&self.gate).ask())?;
        frame.ledger.mark(Mark::Encoded);
        if encoded.idr && !wanted {
            lock(&self.gate).on_keyframe(now);
        }
        let bytes = encoded.data.len();
        self.rate.spent(bytes, now);
        let encoded = EncodedFrame {
            bitstream: self.bitstream,
            payloads: packetize(&encoded.data),
            idr: encoded.idr,
            frame_id: frame.id,
            rtp_timestamp: frame.rtp_timestamp,
            captured: frame.captured,
            ledger: frame.ledger,
            boxes,
            result,
        };
        Ok((encoded, bytes))
    }

    /// Whether an IDR is asked for and may be made now.
    pub(super) fn has_to_begin(&self, now: Instant) -> bool {
        lock(&self.gate).is_due(now)
    }

    /// Gives the encoder up if nobody needed it for a while.
    pub(super) fn rest(&mut self, now: Instant) {
        if now.saturating_duration_since(self.used) > IDLE {
            self.encoder = None;
            self.rate = Rate::default();
        }
    }
}
