//! The policy over every decoder: what to do when a unit is lost.

use std::time::Instant;

use super::info::Inspector;
use super::kind::Kind;
use super::{DecodeError, Decoder, Picture, StreamInfo};
use crate::media::{AccessUnit, FramePool, KeyframeGate, KeyframeRequest, VIDEO_CLOCK_HZ, VideoCodec};

/// A picture this far behind the last one shown is not late: the source began a new count.
const TIMESTAMP_JUMP: u32 = 10 * VIDEO_CLOCK_HZ;

/// What a stream's decoder has seen since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DecodeStats {
    /// Pictures given.
    pub decoded: u64,
    /// Units that failed to decode.
    pub broken: u64,
    /// Units passed over while waiting for an IDR.
    pub skipped: u64,
    /// Pictures thrown away because a later one had already been given.
    pub late: u64,
    /// Keyframes asked for.
    pub keyframe_requests: u64,
}

/// Decodes a stream so that no picture with a missing reference is ever shown.
///
/// It serves every codec, each unit by its own, and makes its decoder anew where the codec changes. After a loss or an error
/// nothing comes out until an IDR decodes. The first request for a keyframe goes up at once, further ones every
/// [`IDR_INTERVAL`](crate::media::IDR_INTERVAL) while none comes.
pub struct VideoDecoder {
    decoder: Option<(Kind, Box<dyn Decoder>)>,
    inspector: Inspector,
    codec: Option<VideoCodec>,
    pool: FramePool,
    keyframes: KeyframeRequest,
    waiting: bool,
    gate: KeyframeGate,
    shown: Option<u32>,
    stats: DecodeStats,
}

impl VideoDecoder {
    /// A decoder that is made when the first unit tells which: pictures are taken from `pool`, keyframes asked of
    /// `keyframes`.
    #[must_use]
    pub fn new(pool: FramePool, keyframes: KeyframeRequest) -> Self {
        Self {
            decoder: None,
            inspector: Inspector::default(),
            codec: None,
            pool,
            keyframes,
            waiting: true,
            gate: KeyframeGate::default(),
            shown: None,
            stats: DecodeStats::default(),
        }
    }

    /// The same with the decoder of H.264 made at once, so that a first picture does not wait for it.
    ///
    /// # Errors
    /// [`DecodeError::Failed`] when the codec cannot be initialised.
    pub fn h264(pool: FramePool, keyframes: KeyframeRequest) -> Result<Self, DecodeError> {
        let decoder = Some((Kind::OpenH264, Kind::OpenH264.make()?));
        Ok(Self { decoder, ..Self::new(pool, keyframes) })
    }

    /// Takes every access unit of the stream in decoding order and gives the picture that is due, if any.
    ///
    /// # Errors
    /// [`DecodeError::Broken`] has been counted and a keyframe asked for: go on with the next unit. Any other error ends
    /// the stream ([`DecodeError::ends_stream`]).
    pub fn decode(&mut self, unit: &AccessUnit) -> Result<Option<Picture>, DecodeError> {
        if self.codec.replace(unit.codec).is_some_and(|codec| codec != unit.codec) {
            self.begin_again();
        }
        self.inspector.look(unit);
        match self.decode_known(unit) {
            Ok(picture) => Ok(picture.and_then(|picture| self.in_order(picture))),
            Err(error) => {
                self.stats.broken += 1;
                if !error.ends_stream() {
                    self.waiting = true;
                    self.ask(unit.last_packet);
                }
                Err(error)
            }
        }
    }

    fn decode_known(&mut self, unit: &AccessUnit) -> Result<Option<Picture>, DecodeError> {
        // What the codec alone rules out is said at the first unit, the rest at the first IDR.
        let kind = Kind::of(unit.codec, self.inspector.sps().filter(|_| unit.idr))?;
        if self.waiting && !unit.idr {
            self.stats.skipped += 1;
            self.ask(unit.last_packet);
            return Ok(None);
        }
        if unit.idr && self.decoder.as_ref().is_none_or(|(present, _)| *present != kind) {
            self.decoder = Some((kind, kind.make()?));
        }
        let Some((_, decoder)) = &mut self.decoder else { return Ok(None) };
        let picture = decoder.decode(unit, &self.pool)?;
        if self.waiting {
            // The keyframe has come: the next loss asks at once.
            self.gate = KeyframeGate::default();
            self.waiting = false;
        }
        Ok(picture)
    }

    /// Begins a new epoch, as after a reconnect: reference pictures, pictures that wait for their turn, and what the stream
    /// said about itself are forgotten; the next picture is an IDR's, whatever its timestamp. The counts go on.
    pub fn reset(&mut self) {
        self.begin_again();
        self.inspector = Inspector::default();
        self.gate = KeyframeGate::default();
        self.codec = None;
    }

    fn begin_again(&mut self) {
        self.decoder = None;
        self.waiting = true;
        self.shown = None;
    }

    /// What the stream says about itself, once its headers have come.
    #[must_use]
    pub fn info(&self) -> Option<StreamInfo> {
        self.inspector.info()
    }

    /// Whether the stream has turned out to reorder its pictures: pictures come out one or two frames later, and a browser
    /// cannot be sent the stream as it is.
    #[must_use]
    pub fn reorders(&self) -> bool {
        self.info().is_some_and(|info| info.reorders)
    }

    /// Says that a unit of the stream never arrived whole: what follows may refer to it, so the next picture is an IDR.
    pub fn unit_lost(&mut self, now: Instant) {
        self.waiting = true;
        self.ask(now);
    }

    /// At the end of the stream: the next picture that still waits for its turn, until there is none.
    pub fn flush(&mut self) -> Option<Picture> {
        loop {
            let picture = self.decoder.as_mut().and_then(|(_, decoder)| decoder.flush())?;
            if let Some(picture) = self.in_order(picture) {
                return Some(picture);
            }
        }
    }

    /// What was decoded and what was not.
    #[must_use]
    pub fn stats(&self) -> DecodeStats {
        self.stats
    }

    fn ask(&mut self, now: Instant) {
        self.gate.ask();
        if self.gate.take(now) {
            self.stats.keyframe_requests += 1;
            self.keyframes.request();
        }
    }

    /// Holds back a picture that comes after a later one: it happens when a stream turns out to be reordered.
    fn in_order(&mut self, picture: Picture) -> Option<Picture> {
        if let Some(shown) = self.shown {
            let behind = shown.wrapping_sub(picture.rtp_timestamp);
            if (1..TIMESTAMP_JUMP).contains(&behind) {
                self.stats.late += 1;
                return None;
            }
        }
        self.shown = Some(picture.rtp_timestamp);
        self.stats.decoded += 1;
        Some(picture)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::media::{I420Frame, VideoCodec};

    /// A decoder that answers as told: a picture with the unit's own timing, an error, or nothing.
    struct Scripted(VecDeque<Result<bool, DecodeError>>);

    impl Decoder for Scripted {
        fn decode(&mut self, unit: &AccessUnit, _pool: &FramePool) -> Result<Option<Picture>, DecodeError> {
            Ok(self.0.pop_front().unwrap_or(Ok(true))?.then(|| Picture {
                picture: I420Frame::black(2, 2),
                rtp_timestamp: unit.rtp_timestamp,
                first_packet: unit.first_packet,
                last_packet: unit.last_packet,
                captured: unit.captured,
            }))
        }

        fn flush(&mut self) -> Option<Picture> {
            None
        }
    }

    struct Bench {
        decoder: VideoDecoder,
        asked: Arc<AtomicU32>,
        start: Instant,
    }

    impl Bench {
        fn new(script: impl IntoIterator<Item = Result<bool, DecodeError>>) -> Self {
            let asked = Arc::new(AtomicU32::new(0));
            let count = Arc::clone(&asked);
            let keyframes = KeyframeRequest::new(move || {
                count.fetch_add(1, Ordering::Relaxed);
            });
            let script = Box::new(Scripted(script.into_iter().collect()));
            let mut decoder = VideoDecoder::new(FramePool::new(), keyframes);
            decoder.decoder = Some((Kind::OpenH264, script));
            Self { decoder, asked, start: Instant::now() }
        }

        fn unit(&self, ms: u32, idr: bool) -> AccessUnit {
            let at = self.start + Duration::from_millis(u64::from(ms));
            let rtp_timestamp = ms.wrapping_mul(90);
            AccessUnit {
                codec: VideoCodec::H264,
                data: Bytes::new(),
                rtp_timestamp,
                idr,
                first_packet: at,
                last_packet: at,
                captured: None,
            }
        }

        /// Whether the unit of `ms` gave a picture.
        fn shows(&mut self, ms: u32, idr: bool) -> bool {
            let unit = self.unit(ms, idr);
            matches!(self.decoder.decode(&unit), Ok(Some(picture)) if picture.rtp_timestamp == unit.rtp_timestamp)
        }

        fn asked(&self) -> u32 {
            self.asked.load(Ordering::Relaxed)
        }
    }

    fn broken() -> Result<bool, DecodeError> {
        Err(DecodeError::Broken("a test".into()))
    }

    #[test]
    fn nothing_is_shown_before_the_first_idr_and_one_keyframe_is_asked_for() {
        let mut bench = Bench::new([]);
        assert!(!bench.shows(0, false));
        assert!(!bench.shows(33, false));
        assert_eq!(bench.asked(), 1);
        assert!(bench.shows(66, true));
        assert!(bench.shows(99, false));
        assert_eq!(bench.decoder.stats().skipped, 2);
    }

    #[test]
    fn a_broken_unit_hides_the_stream_until_an_idr_decodes() {
        let mut bench = Bench::new([Ok(true), broken(), broken(), Ok(true)]);
        assert!(bench.shows(0, true));
        assert!(!bench.shows(33, false), "broken");
        assert!(!bench.shows(66, false), "refers to the broken one");
        assert!(!bench.shows(99, true), "a broken IDR is no place to resume");
        assert!(!bench.shows(132, false));
        assert!(bench.shows(165, true));
        assert_eq!(bench.asked(), 1, "one request for the whole loss");
        let DecodeStats { decoded, broken, skipped, .. } = bench.decoder.stats();
        assert_eq!((decoded, broken, skipped), (2, 2, 2));
    }

    #[test]
    fn a_lost_unit_asks_for_one_keyframe_and_a_second_loss_for_another() {
        let mut bench = Bench::new([]);
        assert!(bench.shows(0, true));
        bench.decoder.unit_lost(bench.start + Duration::from_millis(40));
        assert_eq!(bench.asked(), 1);
        assert!(!bench.shows(66, false));
        assert!(bench.shows(99, true));
        bench.decoder.unit_lost(bench.start + Duration::from_millis(140));
        assert_eq!(bench.asked(), 2, "the IDR between them served the first");
    }

    #[test]
    fn a_request_that_is_not_served_is_repeated_at_the_idr_interval() {
        let mut bench = Bench::new([]);
        for ms in (0..1400).step_by(33) {
            assert!(!bench.shows(ms, false));
        }
        assert_eq!(bench.asked(), 3);
    }

    #[test]
    fn an_unsupported_stream_ends_without_a_keyframe_request() {
        let mut bench = Bench::new([Err(DecodeError::Unsupported("interlaced".into()))]);
        let unit = bench.unit(0, true);
        let error = bench.decoder.decode(&unit).unwrap_err();
        assert!(error.ends_stream());
        assert_eq!(bench.asked(), 0);
    }

    #[test]
    fn a_picture_behind_the_last_one_is_held_back_but_a_new_count_is_not() {
        let mut bench = Bench::new([]);
        assert!(bench.shows(60_000, true));
        assert!(!bench.shows(59_967, false));
        assert!(bench.shows(60_033, false));
        assert!(bench.shows(60_033, false), "the same timestamp twice is a source without a clock");
        assert!(bench.shows(7, true), "a restarted source");
        assert_eq!(bench.decoder.stats().late, 1);
    }

    #[test]
    fn a_new_epoch_shows_its_idr_whatever_its_timestamp_and_nothing_before_it() {
        let mut decoder = VideoDecoder::new(FramePool::new(), KeyframeRequest::ignored());
        let bench = Bench::new([]);
        let jpeg = |ms| AccessUnit {
            codec: VideoCodec::Jpeg,
            data: Bytes::from_static(include_bytes!("../../tests/data/jpeg/420.jpg")),
            ..bench.unit(ms, true)
        };
        assert!(decoder.decode(&jpeg(5000)).unwrap().is_some());
        assert!(decoder.decode(&jpeg(4000)).unwrap().is_none(), "late");
        decoder.reset();
        assert_eq!(decoder.info(), None);
        assert!(decoder.decode(&AccessUnit { idr: false, ..jpeg(2000) }).unwrap().is_none());
        assert!(decoder.decode(&jpeg(3000)).unwrap().is_some());
        assert_eq!(decoder.stats().decoded, 2, "the counts go on");
    }

    #[test]
    fn an_idr_that_does_not_decode_is_asked_for_again_after_a_reset() {
        let mut bench = Bench::new([]);
        assert!(!bench.shows(0, false));
        bench.decoder.reset();
        assert!(!bench.shows(10, false));
        assert_eq!(bench.asked(), 2, "another epoch, another request");
    }

    proptest! {
        #[test]
        fn after_a_loss_the_first_picture_is_an_idr(events in prop::collection::vec((0u8..4, any::<bool>()), 1..60)) {
            let mut bench = Bench::new(events.iter().filter(|(kind, _)| *kind < 3).map(|(kind, _)| if *kind == 0 { broken() } else { Ok(true) }));
            let mut intact = false;
            for (n, (kind, idr)) in events.iter().enumerate() {
                let ms = u32::try_from(n * 33).unwrap();
                if *kind == 3 {
                    bench.decoder.unit_lost(bench.start + Duration::from_millis(u64::from(ms)));
                    intact = false;
                    continue;
                }
                let result = bench.decoder.decode(&bench.unit(ms, *idr));
                if *idr { intact = true; }
                if result.is_err() { intact = false; }
                prop_assert!(matches!(result, Ok(Some(_))) <= intact, "shown although a reference is missing");
            }
        }
    }
}
