//! Elementary streams: access units by the rules of ITU-T H.264 §7.4.1.2.3, times by the frame rate and the order of output.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::{Content, Movie, Problem, Unit, rtp_ticks};
use crate::source::nal::{self, AUD, IDR, PPS, SEI, SPS, nal_units};
use crate::source::sps::{Sps, parameter_set_id};

/// The frame rate of a stream that states none.
const DEFAULT_FRAME_RATE: f64 = 30.0;

/// Whether the data begin with a start code, behind any number of zero bytes.
pub(super) fn looks_like(data: &[u8]) -> bool {
    let zeros = data.iter().take_while(|&&byte| byte == 0).count();
    zeros >= 2 && data.get(zeros) == Some(&1)
}

/// A picture's place in output order (§8.2.1.1), and whether a new sequence of pictures begins with it.
struct Picture {
    begin: usize,
    content: Content,
    /// Relative to the IDR before; `None` if the stream does not reorder, or the slice header is damaged.
    order: Option<i64>,
    sets: Bytes,
}

/// Unwraps `pic_order_cnt_lsb` (§8.2.1.1).
#[derive(Default)]
struct OrderCount {
    msb: i64,
    lsb: i64,
}

impl OrderCount {
    fn of(&mut self, slice: &[u8], sps: &Sps) -> Option<i64> {
        let lsb = i64::from(sps.order_lsb(slice)?);
        let range = 1i64 << sps.order_bits()?;
        if nal::nal_type(slice) == Some(IDR) {
            *self = Self::default();
        }
        let msb = match lsb - self.lsb {
            back if back <= -range / 2 => self.msb + range,
            ahead if ahead > range / 2 => self.msb - range,
            _ => self.msb,
        };
        // Only pictures that others refer to count for the next one: `nal_ref_idc` is not 0.
        if slice.first().is_some_and(|header| header & 0x60 != 0) {
            *self = Self { msb, lsb };
        }
        Some(msb + lsb)
    }
}

pub(super) fn read(data: &Bytes) -> Result<Movie, Problem> {
    let mut pictures: Vec<Picture> = Vec::new();
    let mut first_sps: Option<Sps> = None;
    let mut sps: Option<Sps> = None;
    let mut known: BTreeMap<(u8, u8), &[u8]> = BTreeMap::new();
    let mut order = OrderCount::default();
    // The unit being read: where it began and what it holds.
    let mut open: Option<Picture> = None;
    let mut units = nal_units(data);
    while let Some((at, nal)) = units.next_at() {
        let nal_type = nal::nal_type(nal).unwrap_or(0);
        if pictures.is_empty() && open.is_none() && nal.starts_with(&[0x40, 0x01]) {
            return Err(Problem::Unsupported("an H.265 (HEVC) elementary stream".into()));
        }
        let opens = matches!(nal_type, SEI | SPS | PPS | AUD | 14..=18) || nal::is_first_slice(nal);
        if opens && open.as_ref().is_some_and(|picture| picture.content.vcl) {
            pictures.extend(open.take());
        }
        let picture = open.get_or_insert_with(|| {
            // The zero byte before a three-byte start code belongs to it, if it is there.
            let begin = if at >= 4 && data.get(at - 4) == Some(&0) { at - 4 } else { at - 3 };
            Picture { begin, content: Content::default(), order: None, sets: Bytes::new() }
        });
        picture.content.note(nal);
        match nal_type {
            SPS | PPS => {
                if let Some(id) = parameter_set_id(nal) {
                    known.insert((nal_type, id), nal);
                }
                if let Some(parsed) = Sps::parse(nal) {
                    first_sps = first_sps.or(Some(parsed));
                    sps = Some(parsed);
                }
            }
            _ if nal::is_first_slice(nal) => {
                picture.order = sps.as_ref().and_then(|sps| order.of(nal, sps));
                if picture.content.lacks_sets() {
                    let mut sets = BytesMut::new();
                    known.values().for_each(|set| nal::put_nal(&mut sets, set));
                    picture.sets = sets.freeze();
                }
            }
            _ => {}
        }
    }
    pictures.extend(open.filter(|picture| picture.content.vcl));
    let Some(sps) = first_sps else {
        return Problem::damaged("there is no H.264 sequence parameter set in it");
    };
    // What stands before the first IDR cannot be decoded.
    let first = pictures.iter().position(|picture| picture.content.idr);
    let Some(pictures) = first.and_then(|first| pictures.get(first..)) else {
        return Problem::damaged("there is no IDR picture in it");
    };
    let frame_rate = sps.frame_rate.unwrap_or(DEFAULT_FRAME_RATE);
    let ends = pictures.iter().skip(1).map(|picture| picture.begin).chain([data.len()]);
    let ranks = output_ranks(pictures);
    let units = pictures.iter().zip(ends).zip(ranks).enumerate().map(|(index, ((picture, end), rank))| Unit {
        range: picture.begin..end,
        rtp_timestamp: frame_ticks(rank, frame_rate),
        decode_time: Duration::from_secs_f64(index as f64 / frame_rate),
        idr: picture.content.idr,
        sets: picture.sets.clone(),
    });
    let units = units.collect();
    Ok(Movie { width: sps.width, height: sps.height, frame_rate, units, nal_length: None })
}

/// For each picture in decoding order, its number in output order. An IDR is output before all that follow it, and after
/// all that stand before it (§8.2.1).
fn output_ranks(pictures: &[Picture]) -> Vec<usize> {
    let mut ranks = vec![0; pictures.len()];
    let mut begin = 0;
    for sequence in pictures.chunk_by(|_, next| !next.content.idr) {
        let mut by_output: Vec<usize> = (0..sequence.len()).collect();
        if sequence.iter().all(|picture| picture.order.is_some()) {
            by_output.sort_by_key(|&index| sequence.get(index).and_then(|picture| picture.order));
        }
        for (rank, index) in by_output.into_iter().enumerate() {
            if let Some(place) = ranks.get_mut(begin + index) {
                *place = begin + rank;
            }
        }
        begin += sequence.len();
    }
    ranks
}

/// When the frame of a number is shown, at a constant rate. Counted in millionths, 29.97 stays exact over hours.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // rates are 1 to 1000
fn frame_ticks(number: usize, frame_rate: f64) -> u32 {
    rtp_ticks(number as i128 * 1_000_000, (frame_rate * 1_000_000.0).round() as u32)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::source::file::H264File;

    /// Baseline 640×480 without VUI, as Chromium's encoder makes it.
    const SPS_NAL: &[u8] = &[0x67, 0x42, 0xc0, 0x1f, 0x8c, 0x8d, 0x40, 0x50, 0x1e, 0xd0, 0x0f, 0x08, 0x84, 0x6a];
    const PPS_NAL: &[u8] = &[0x68, 0xce, 0x3c, 0x80];

    fn stream(nals: &[&[u8]]) -> Bytes {
        nals.iter().flat_map(|nal| [&nal::START_CODE, *nal].concat()).collect::<Vec<_>>().into()
    }

    fn types(unit: &[u8]) -> Vec<u8> {
        nal_units(unit).filter_map(nal::nal_type).collect()
    }

    #[test]
    fn access_units_begin_where_the_standard_says() {
        let data = stream(&[
            &[0x61, 0x88], // before the first IDR
            &[0x09, 0x10],
            SPS_NAL,
            PPS_NAL,
            &[0x65, 0x88, 1],
            &[0x65, 0x48, 2], // second slice
            &[0x61, 0x88, 3],
            &[0x61, 0x48, 4],
            &[0x06, 5],
            &[0x61, 0x88, 6],
            &[0x65, 0x88, 7], // an IDR without parameter sets
        ]);
        let file = H264File::from_bytes("test", data).unwrap();
        let units: Vec<_> = file.units().collect();
        let kinds: Vec<_> = units.iter().map(|unit| types(&unit.data)).collect();
        assert_eq!(kinds, [vec![9, 7, 8, 5, 5], vec![1, 1], vec![6, 1], vec![7, 8, 5]]);
        assert_eq!(units.iter().map(|unit| unit.idr).collect::<Vec<_>>(), [true, false, false, true]);
        assert_eq!(units.iter().map(|unit| unit.rtp_timestamp).collect::<Vec<_>>(), [0, 3000, 6000, 9000]);
        assert_eq!((file.size(), file.frame_rate(), file.len()), ((640, 480), 30.0, 4));
        assert_eq!(file.duration(), Duration::from_secs_f64(4.0 / 30.0));
        assert!(units.iter().all(|unit| unit.data.starts_with(&nal::START_CODE)));
    }

    #[test]
    fn b_frames_are_stamped_in_output_order() {
        let picture = |idr, order| Picture {
            begin: 0,
            content: Content { idr, vcl: true, ..Content::default() },
            order: Some(order),
            sets: Bytes::new(),
        };
        // I P B B P | I P B, in decoding order.
        let pictures: Vec<_> =
            [(true, 0), (false, 6), (false, 2), (false, 4), (false, 8), (true, 0), (false, 4), (false, 2)]
                .map(|(idr, order)| picture(idr, order))
                .into();
        assert_eq!(output_ranks(&pictures), [0, 3, 1, 2, 4, 5, 7, 6]);
    }

    #[test]
    fn ntsc_rates_stay_exact() {
        let hours = 30_000 * 36;
        assert!(frame_ticks(hours, 30_000.0 / 1001.0).abs_diff(36 * 90_090_000) <= 4);
        assert_eq!(frame_ticks(1, 25.0), 3600);
    }

    #[test]
    fn streams_without_what_is_needed_say_what_is_missing() {
        let message = |nals: &[&[u8]]| H264File::from_bytes("test", stream(nals)).unwrap_err().to_string();
        assert!(message(&[&[0x65, 0x88]]).contains("parameter set"));
        assert!(message(&[SPS_NAL, PPS_NAL, &[0x61, 0x88]]).contains("IDR"));
        assert!(message(&[&[0x40, 0x01, 0x0c], &[0x42, 0x01]]).contains("HEVC"));
    }

    proptest! {
        #[test]
        fn arbitrary_streams_never_panic(parts in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..20)), 0..20)) {
            let nals: Vec<Vec<u8>> = parts.into_iter().map(|(first, tail)| [&[first], tail.as_slice()].concat()).collect();
            let mut all = vec![SPS_NAL, PPS_NAL, &[0x65, 0x88, 1]];
            all.extend(nals.iter().map(Vec::as_slice));
            let file = H264File::from_bytes("test", stream(&all)).unwrap();
            prop_assert!(file.units().next().unwrap().idr);
            prop_assert_eq!(file.units().count(), file.len());
            let _ = H264File::from_bytes("test", stream(&all[3..]));
        }
    }
}
