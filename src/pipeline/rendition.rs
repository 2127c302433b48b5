//! One encode of a stream: there while somebody needs it.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::ladder::{Ladder, Rung};
use super::overload::{Relief, relief};
use super::rate::{Pace, Rate};
use super::status::RenditionStatus;
use super::video::lock;
use crate::encode::{Config, EncodeError, Encoder, H264Encoder, Scaler};
use crate::media::{Detection, Detections, Frame, I420Frame, KeyframeGate, Mark};
use crate::peer::packetize;
use crate::sink::{Bitstream, EncodedFrame};

/// An encoder that nobody needed for this long is given up with its memory; the next begins with an IDR.
const IDLE: Duration = Duration::from_secs(10);

/// What the bitrate of a picture follows from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Affords {
    /// The size of the source's picture.
    pub(super) source: (usize, usize),
    /// What the way to the slowest viewer carries, in bits a second.
    pub(super) limit: Option<u32>,
}

/// One encode.
pub(super) struct Rendition {
    bitstream: Bitstream,
    tier: usize,
    config: Config,
    encoder: Option<Box<dyn Encoder>>,
    gate: Arc<Mutex<KeyframeGate>>,
    rate: Rate,
    ladder: Ladder,
    rung: Rung,
    /// Counts the pictures of which one in so many is encoded.
    turn: u32,
    /// Of the pictures that come.
    pace: Pace,
    scaler: Scaler,
    relief: Relief,
    /// The size of the last picture that was encoded.
    size: Option<(usize, usize)>,
    used: Instant,
}

impl Rendition {
    /// An encode whose IDRs are asked for at `gate`.
    pub(super) fn new(bitstream: Bitstream, tier: usize, config: Config, gate: Arc<Mutex<KeyframeGate>>) -> Self {
        Self {
            bitstream,
            tier,
            config,
            encoder: None,
            gate,
            rate: Rate::default(),
            ladder: Ladder::default(),
            rung: Rung::default(),
            turn: 0,
            pace: Pace::default(),
            scaler: Scaler::new(),
            relief: relief(0),
            size: None,
            used: Instant::now(),
        }
    }

    /// Makes the encoder ready for pictures of a size before the first one comes. Where that has another size nothing is gained.
    pub(super) fn prewarm(&mut self, (width, height): (usize, usize)) {
        let encoder = self.encoder.get_or_insert_with(|| Box::new(H264Encoder::new(self.config.clone())));
        if let Err(error) = encoder.prewarm(width, height) {
            tracing::debug!(%error, "an encoder is not made ready");
        }
        self.used = Instant::now();
    }

    /// Whether a picture of this size is encoded now. `limit`: what the way to the slowest viewer carries, in bits a second;
    /// `relief`: what the machine is relieved of.
    pub(super) fn admits(&mut self, picture: &I420Frame, limit: Option<u32>, relief: Relief) -> bool {
        let now = Instant::now();
        let source = (picture.width(), picture.height());
        self.relief = relief;
        let full = self.full(source);
        self.pace.put(now);
        let limit = limit.filter(|limit| *limit < full);
        self.rung = self.ladder.choose(now, limit, source, self.pace.fps().unwrap_or(f64::from(self.config.max_fps)));
        self.rung = self.rung.no_larger(relief.quarters);
        self.turn = (self.turn + 1) % self.rung.every;
        self.rate.admits(now, limit, full) && self.turn == 0
    }

    /// What suits the picture, in bits a second.
    fn full(&self, (width, height): (usize, usize)) -> u32 {
        let (width, height) = Rung::default().no_larger(self.relief.quarters).size(width, height);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a share of what fits
        let full = (f64::from(self.config.bitrate(width, height)) * f64::from(self.relief.bitrate)) as u32;
        full
    }

    /// The picture in the size in which it is encoded.
    pub(super) fn fit(&mut self, picture: Arc<I420Frame>) -> Arc<I420Frame> {
        let source = (picture.width(), picture.height());
        let (width, height) = self.rung.size(source.0, source.1);
        if (width, height) == source { picture } else { Arc::new(self.scaler.scale(&picture, width, height)) }
    }

    /// Encodes a frame that was made to fit, in which `boxes` are drawn; they are told in pixels of the source. An IDR that was asked for is asked for still when this fails.
    pub(super) fn encode(
        &mut self,
        mut frame: Frame,
        boxes: Vec<Detection>,
        result: Option<Arc<Detections>>,
        Affords { source, limit }: Affords,
    ) -> Result<(EncodedFrame, usize), EncodeError> {
        let now = Instant::now();
        self.used = now;
        let full = self.full(source);
        let pace = self.pace.fps().map(|fps| fps / f64::from(self.rung.every));
        let encoder = self.encoder.get_or_insert_with(|| Box::new(H264Encoder::new(self.config.clone())));
        if let Some(bps) = self.rate.aim(limit, full, self.config.max_fps, pace)
            && let Err(error) = encoder.set_bitrate(bps)
        {
            // The picture goes out at the rate before; the next one tries again.
            self.rate.forget();
            tracing::debug!(%error, "bitrate");
        }
        let wanted = lock(&self.gate).take(now);
        let size = Some((frame.picture.width(), frame.picture.height()));
        let begins = self.size.take() != size;
        let mut encoded = encoder.encode(&frame.picture, wanted).inspect_err(|_| lock(&self.gate).ask())?;
        if begins && encoded.idr && Rate::is_too_large(encoded.data.len(), limit) {
            // The first IDR of a codec is as large as the picture's size suggests; by now it knows the picture.
            encoded = encoder.encode(&frame.picture, true).inspect_err(|_| lock(&self.gate).ask())?;
        }
        self.size = size;
        frame.ledger.mark(Mark::Encoded);
        if encoded.idr && !wanted {
            lock(&self.gate).on_keyframe(now);
        }
        let bytes = encoded.data.len();
        self.rate.spent(bytes, now);
        let encoded = EncodedFrame {
            bitstream: self.bitstream,
            tier: self.tier,
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

    /// How it is now, for a source whose pictures have this size.
    pub(super) fn status(&self, source: (usize, usize)) -> RenditionStatus {
        let (width, height) = self.rung.size(source.0, source.1);
        let video = if self.bitstream == Bitstream::Plain { "plain" } else { "annotated" };
        let bitrate_bps = self.rate.aimed();
        RenditionStatus {
            video,
            tier: self.tier,
            viewers: 0,
            width,
            height,
            every: self.rung.every,
            bitrate_bps,
            used: self.used,
        }
    }

    /// Whether an IDR is asked for and may be made now.
    pub(super) fn has_to_begin(&self, now: Instant) -> bool {
        lock(&self.gate).is_due(now)
    }

    /// Gives the encoder up if nobody needed it for a while.
    pub(super) fn rest(&mut self, now: Instant) {
        if now.saturating_duration_since(self.used) > IDLE {
            (self.encoder, self.size) = (None, None);
            self.rate = Rate::default();
            (self.ladder, self.rung, self.scaler) = (Ladder::default(), Rung::default(), Scaler::new());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::{FrameLedger, RtpTimestamp};

    /// A textured picture, of which an IDR is large at the quality that the codec begins with.
    fn textured() -> Frame {
        let mut picture = I420Frame::black(640, 480);
        for (n, sample) in picture.planes_mut().0.iter_mut().enumerate() {
            *sample = 60 + ((n / 3).wrapping_mul(2_654_435_761) >> 9 & 63) as u8;
        }
        Frame {
            id: 0,
            rtp_timestamp: RtpTimestamp { output: 0, source: 0 },
            captured: None,
            picture: Arc::new(picture),
            ledger: FrameLedger::default(),
        }
    }

    fn first_idr(limit: Option<u32>) -> usize {
        let gate = Arc::new(Mutex::new(KeyframeGate::default()));
        let mut rendition = Rendition::new(Bitstream::Annotated, 0, Config::default(), gate);
        let affords = Affords { source: (640, 480), limit };
        let (encoded, bytes) = rendition.encode(textured(), Vec::new(), None, affords).unwrap();
        assert!(encoded.idr);
        bytes
    }

    #[test]
    fn the_first_idr_on_a_narrow_link_is_made_to_fit_it() {
        let (free, narrow) = (first_idr(None), first_idr(Some(400_000)));
        assert!(narrow * 2 < free, "{narrow} bytes, and {free} where there is no limit");
    }
}
