//! Whether the source's own access units may go to viewers as they are, and what has to stand before them.

use bytes::{Bytes, BytesMut};

use crate::decode::{Inspector, StreamInfo};
use crate::media::nal::{self, bounded, nal_tails};
use crate::media::sps::MAX_PARAMETER_SET_BYTES;
use crate::media::{AccessUnit, VideoCodec};

/// A stream that says it may have B-frames, and in so many units has none, is taken to have none.
const LOOKED_AT: u32 = 16;

/// Judges the access units of one source, in decoding order.
///
/// A browser that negotiated Constrained Baseline takes Main and High too, as long as pictures are shown in the order in which
/// they come.
#[derive(Debug, Default)]
pub(super) struct Original {
    codec: Option<VideoCodec>,
    inspector: Inspector,
    why_not: Option<String>,
    reorders: bool,
    /// Units so far.
    seen: u32,
    newest: Option<u32>,
    sps: Bytes,
    pps: Bytes,
}

impl Original {
    /// Forgets everything: another source may come.
    pub(super) fn begin_epoch(&mut self) {
        *self = Self::default();
    }

    /// The access unit as it may be forwarded, its parameter sets before an IDR; `None` when it may not. `output` is its
    /// output timestamp.
    pub(super) fn pass(&mut self, unit: &AccessUnit, output: u32) -> Option<Bytes> {
        if self.codec != Some(unit.codec) {
            self.begin_epoch();
            self.codec = Some(unit.codec);
        }
        self.inspector.look(unit);
        if unit.codec != VideoCodec::H264 {
            self.why_not = Some(format!("{} is encoded anew: browsers are sent H.264", unit.codec.name()));
            return None;
        }
        #[allow(clippy::cast_possible_wrap)] // the signed distance between two wrapping timestamps
        let goes_back = self.newest.is_some_and(|newest| output.wrapping_sub(newest) as i32 <= 0);
        self.newest = Some(output);
        self.seen = self.seen.saturating_add(1);
        self.reorders |= goes_back || self.info().is_some_and(|info| info.reorders);
        let passed = if unit.idr { self.with_parameter_sets(&unit.data) } else { unit.data.clone() };
        self.why_not = self.unfit();
        self.why_not.is_none().then_some(passed)
    }

    /// An IDR with its parameter sets, those of before where it has none.
    fn with_parameter_sets(&mut self, data: &Bytes) -> Bytes {
        let (mut sps, mut pps) = (BytesMut::new(), BytesMut::new());
        for tail in nal_tails(data) {
            let (sets, unit) = match nal::nal_type(tail) {
                Some(nal::SPS) => (&mut sps, bounded(tail)),
                Some(nal::PPS) => (&mut pps, bounded(tail)),
                Some(kind) if nal::is_vcl(kind) => break,
                _ => continue,
            };
            if sets.len() + unit.len() <= MAX_PARAMETER_SET_BYTES {
                sets.extend_from_slice(&nal::START_CODE);
                sets.extend_from_slice(unit);
            }
        }
        if !sps.is_empty() && !pps.is_empty() {
            self.sps = sps.freeze();
            self.pps = pps.freeze();
            return data.clone();
        }
        // Both or none: a picture parameter set refers to its sequence parameter set.
        let mut whole = BytesMut::with_capacity(self.sps.len() + self.pps.len() + data.len());
        whole.extend_from_slice(&self.sps);
        whole.extend_from_slice(&self.pps);
        whole.extend_from_slice(data);
        whole.freeze()
    }

    fn unfit(&self) -> Option<String> {
        if self.reorders {
            return Some("it has B-frames, which browsers show in the wrong order over WebRTC".to_owned());
        }
        if self.sps.is_empty() || self.pps.is_empty() {
            return Some("no IDR with its parameter sets has come yet".to_owned());
        }
        match self.info() {
            None => Some("its parameter set cannot be read".to_owned()),
            Some(info) if info.may_reorder && self.seen <= LOOKED_AT => {
                Some("it says that it may have B-frames: its first pictures are looked at".to_owned())
            }
            Some(info) if info.interlaced => Some("it is interlaced, which browsers do not take".to_owned()),
            Some(StreamInfo { profile_idc: 66 | 77 | 100, .. }) => None,
            Some(info) => Some(format!("its profile ({}) is one that browsers do not take", info.profile)),
        }
    }

    /// What the stream says about itself, once its headers have come.
    pub(super) fn info(&self) -> Option<StreamInfo> {
        self.inspector.info()
    }

    /// How the newest unit was coded.
    pub(super) fn codec(&self) -> Option<VideoCodec> {
        self.codec
    }

    /// Whether pictures come in another order than they are shown in.
    pub(super) fn reorders(&self) -> bool {
        self.reorders || self.info().is_some_and(|info| info.reorders)
    }

    /// Why units are not forwarded, if they are not.
    pub(super) fn why_not(&self) -> Option<&str> {
        self.why_not.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use proptest::prelude::*;

    use super::*;
    use crate::encode::{Config, Encoder, H264Encoder};
    use crate::media::I420Frame;

    fn unit(codec: VideoCodec, data: Bytes, idr: bool) -> AccessUnit {
        let now = Instant::now();
        AccessUnit { codec, data, rtp_timestamp: 0, idr, first_packet: now, last_packet: now, captured: None }
    }

    fn coded(idr: bool, encoder: &mut H264Encoder) -> AccessUnit {
        let encoded = encoder.encode(&I420Frame::black(64, 48), idr).unwrap();
        unit(VideoCodec::H264, encoded.data, encoded.idr)
    }

    fn types(data: &Bytes) -> Vec<u8> {
        nal::nal_units(data).filter_map(nal::nal_type).collect()
    }

    #[test]
    fn a_plain_stream_passes_untouched() {
        let (mut original, mut encoder) = (Original::default(), H264Encoder::new(Config::default()));
        for n in 0..5 {
            let unit = coded(n == 3, &mut encoder);
            assert_eq!(original.pass(&unit, n * 3000), Some(unit.data));
        }
        assert_eq!((original.info().unwrap().profile, original.why_not()), ("Constrained Baseline", None));
    }

    #[test]
    fn an_idr_without_parameter_sets_gets_those_of_before() {
        let (mut original, mut encoder) = (Original::default(), H264Encoder::new(Config::default()));
        let whole = coded(true, &mut encoder);
        let slice = nal::nal_units(&whole.data).last().unwrap();
        let bare = unit(VideoCodec::H264, [&nal::START_CODE[..], slice].concat().into(), true);
        assert_eq!(original.pass(&bare, 0), None, "nothing to put before it");
        assert!(original.why_not().unwrap().contains("parameter sets"));
        assert!(original.pass(&whole, 3000).is_some());
        let passed = original.pass(&bare, 6000).unwrap();
        assert_eq!(types(&passed), [nal::SPS, nal::PPS, nal::IDR]);
    }

    #[test]
    fn what_browsers_do_not_take_is_named() {
        let mut original = Original::default();
        assert_eq!(original.pass(&unit(VideoCodec::Jpeg, Bytes::new(), true), 0), None);
        assert!(original.why_not().unwrap().contains("Motion JPEG"));
        let mut encoder = H264Encoder::new(Config::default());
        assert!(original.pass(&coded(true, &mut encoder), 3000).is_some(), "another codec, another judgement");
        let back = coded(false, &mut encoder);
        assert_eq!(original.pass(&back, 1500), None);
        assert!(original.reorders() && original.why_not().unwrap().contains("B-frames"));
        assert_eq!(original.pass(&coded(true, &mut encoder), 9000), None, "for as long as the source stays");
        original.begin_epoch();
        assert!(original.pass(&coded(true, &mut encoder), 12_000).is_some());
    }

    #[test]
    fn a_stream_that_may_have_b_frames_is_looked_at_before_any_of_it_is_forwarded() {
        // An SPS of Main profile whose VUI says that one picture may be reordered, and slices of P type (`slice_type` 5).
        let set = "674d401ef201407b6022000003000200000300781e2c5a24";
        let sps = (0..set.len()).step_by(2).map(|at| u8::from_str_radix(&set[at..at + 2], 16).unwrap());
        let head: Vec<u8> = [0, 0, 0, 1].into_iter().chain(sps).chain([0, 0, 1, 0x68, 0xce, 0x38, 0x80]).collect();
        let mut original = Original::default();
        for n in 0..=LOOKED_AT {
            let slice = if n == 0 { [0, 0, 1, 0x65, 0x88, 0x80] } else { [0, 0, 1, 0x41, 0x9a, 0x80] };
            let data = if n == 0 { [&head[..], &slice].concat() } else { slice.to_vec() };
            let passed = original.pass(&unit(VideoCodec::H264, data.into(), n == 0), n * 3000);
            assert_eq!(passed.is_some(), n == LOOKED_AT, "unit {n}: {:?}", original.why_not());
            if n < LOOKED_AT {
                assert!(original.why_not().unwrap().contains("may have B-frames"));
            }
        }
        // One with B slices never is, also where they come at once.
        original.begin_epoch();
        let idr = [&head[..], &[0, 0, 1, 0x65, 0x88, 0x80]].concat();
        assert_eq!(original.pass(&unit(VideoCodec::H264, idr.into(), true), 0), None);
        assert_eq!(original.pass(&unit(VideoCodec::H264, vec![0, 0, 1, 0x01, 0x9e, 0x80].into(), false), 3000), None);
        assert!(original.reorders() && original.why_not().unwrap().contains("has B-frames"));
    }

    #[test]
    fn a_profile_that_browsers_do_not_take_is_named() {
        let (mut original, mut encoder) = (Original::default(), H264Encoder::new(Config::default()));
        let whole = coded(true, &mut encoder);
        let mut data = whole.data.to_vec();
        let sps =
            data.windows(5).position(|bytes| bytes[..4] == nal::START_CODE && bytes[4] & 0x1f == nal::SPS).unwrap();
        data[sps + 5] = 88;
        assert_eq!(original.pass(&unit(VideoCodec::H264, data.into(), true), 0), None);
        assert!(original.why_not().unwrap().contains("Extended"), "{:?}", original.why_not());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(units in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..300), any::<bool>(), any::<u32>()), 1..8)) {
            let mut original = Original::default();
            for (data, idr, output) in units {
                let _ = original.pass(&unit(VideoCodec::H264, data.into(), idr), output);
            }
        }
    }
}
