//! H.264 by openh264: each picture with its own access unit, unless B slices reorder them.

use std::ops::Range;

use super::native::{Native, UNBUFFERED_PROFILE};
use super::reorder::Reorder;
use super::{DecodeError, Decoder, Picture, range};
use crate::media::nal::{self, IDR, SLICE, bounded, is_b_slice, nal_tails, nal_type};
use crate::media::sps::Sps;
use crate::media::{AccessUnit, FramePool, MAX_ACCESS_UNIT_BYTES};

/// How deep a stream is taken to reorder that may, and does not say how deep: two is a pyramid of B slices.
const GUESSED_DEPTH: u32 = 2;

/// Such a stream without a B slice among so many pictures is taken to have none, and is delayed no longer.
const PICTURES_OF_DOUBT: u32 = 15;

/// An H.264 decoder: Baseline without FMO, Main and High, 4:2:0 at 8 bits, progressive. A stream of full range comes out in
/// limited range.
///
/// A stream without B slices gives each picture with its own access unit. Where pictures are reordered they come out in
/// the order of presentation, by their RTP timestamps, behind as many others as the SPS announces. Where it announces
/// nothing, the first pictures tell whether there are any B slices.
pub struct H264Decoder {
    native: Native,
    /// The parameter set of the stream as it came, and as the native decoder is given it.
    sps: Vec<u8>,
    native_sps: Vec<u8>,
    rewritten: Vec<u8>,
    reorder: Reorder,
    /// Pictures so far of a stream that does not say whether it reorders; `None` once that is known.
    without_b_slice: Option<u32>,
    full_range: bool,
    units: u64,
    /// The native decoder is to be made anew at the next IDR: nothing of before may come out any more.
    stale: bool,
}

/// What a unit says about itself.
#[derive(Default)]
struct Contents {
    sps: Option<Range<usize>>,
    picture: bool,
    b_slice: bool,
}

impl H264Decoder {
    /// A decoder that waits for its first IDR.
    ///
    /// # Errors
    /// [`DecodeError::Failed`] when the codec cannot be initialised.
    pub fn new() -> Result<Self, DecodeError> {
        Ok(Self {
            native: Native::new().map_err(DecodeError::Failed)?,
            sps: Vec::new(),
            native_sps: Vec::new(),
            rewritten: Vec::new(),
            reorder: Reorder::default(),
            without_b_slice: None,
            full_range: false,
            units: 0,
            stale: false,
        })
    }

    fn on_sps(&mut self, unit: &[u8]) -> Result<(), DecodeError> {
        if self.sps == unit {
            return Ok(());
        }
        let sps = Sps::parse(unit).ok_or_else(|| DecodeError::Broken("the SPS is unreadable".into()))?;
        if let Some((what, remedy)) = beyond_openh264(&sps) {
            return Err(DecodeError::Unsupported(format!("{what} ({remedy})")));
        }
        let may_reorder = !sps.is_baseline() && sps.max_num_ref_frames >= 2;
        self.without_b_slice = (may_reorder && sps.max_num_reorder_frames.is_none()).then_some(0);
        self.reorder.set_depth(if may_reorder { sps.max_num_reorder_frames.unwrap_or(GUESSED_DEPTH) } else { 0 });
        self.native_sps = if sps.is_baseline() { unit.to_vec() } else { sps.renamed(unit, UNBUFFERED_PROFILE) };
        self.full_range = sps.full_range;
        self.stale |= !self.sps.is_empty();
        self.sps = unit.to_vec();
        Ok(())
    }

    /// Ends the guess at the stream's depth, one way or the other.
    fn doubt(&mut self, b_slice: bool) {
        self.without_b_slice = match self.without_b_slice {
            Some(_) if b_slice => None,
            Some(PICTURES_OF_DOUBT) => {
                self.reorder.set_depth(0);
                None
            }
            seen => seen.map(|seen| seen + 1),
        };
    }

    /// Writes the unit again, its parameter set replaced by the one for the native decoder.
    fn rewrite(&mut self, data: &[u8], sps: Range<usize>) {
        self.rewritten.clear();
        for part in [data.get(..sps.start), Some(&self.native_sps[..]), data.get(sps.end..)].into_iter().flatten() {
            self.rewritten.extend_from_slice(part);
        }
    }

    fn broken(&mut self, why: &impl ToString) -> DecodeError {
        self.stale = true;
        self.reorder.clear();
        DecodeError::Broken(why.to_string())
    }
}

impl Decoder for H264Decoder {
    fn decode(&mut self, unit: &AccessUnit, pool: &FramePool) -> Result<Option<Picture>, DecodeError> {
        if unit.data.len() > MAX_ACCESS_UNIT_BYTES {
            return Err(self.broken(&format!("{} bytes are too many", unit.data.len())));
        }
        let contents = inspect(&unit.data);
        if let Some(sps) = contents.sps.as_ref().and_then(|range| unit.data.get(range.clone())) {
            self.on_sps(sps).map_err(|error| if error.ends_stream() { error } else { self.broken(&error) })?;
        }
        if self.stale && unit.idr {
            self.native = Native::new().map_err(DecodeError::Failed)?;
            self.stale = false;
        }
        self.units += 1;
        let data = match contents.sps {
            Some(range) if self.native_sps != self.sps => {
                self.rewrite(&unit.data, range);
                &self.rewritten[..]
            }
            _ => &unit.data[..],
        };
        match self.native.decode(data, self.units, pool) {
            Ok(Some((name, mut picture))) if name == self.units => {
                if self.full_range {
                    range::limit(&mut picture);
                }
                let AccessUnit { rtp_timestamp, first_packet, last_packet, captured, .. } = *unit;
                let picture = Picture { picture, rtp_timestamp, first_packet, last_packet, captured };
                self.doubt(contents.b_slice);
                Ok(self.reorder.put(picture, unit.idr, contents.b_slice))
            }
            Ok(None) if !contents.picture => Ok(None),
            Ok(_) => Err(self.broken(&"slices of the picture are missing")),
            Err(error) => Err(self.broken(&error)),
        }
    }

    fn flush(&mut self) -> Option<Picture> {
        self.reorder.next()
    }
}

/// Reads headers up to the first slice; what follows is the rest of the same picture.
fn inspect(data: &[u8]) -> Contents {
    let mut contents = Contents::default();
    for tail in nal_tails(data) {
        match nal_type(tail) {
            Some(nal::SPS) => {
                let start = data.len() - tail.len();
                contents.sps = Some(start..start + bounded(tail).len());
            }
            Some(SLICE | IDR) => {
                contents.picture = true;
                contents.b_slice = is_b_slice(tail);
                break;
            }
            _ => {}
        }
    }
    contents
}

/// What openh264 cannot take in a stream, with what its owner can do, or `None`.
pub(super) fn beyond_openh264(sps: &Sps) -> Option<(String, &'static str)> {
    if !sps.progressive {
        Some(("interlaced H.264".into(), "set the camera to progressive"))
    } else if sps.bit_depth != 8 {
        Some((format!("H.264 with {} bits a sample", sps.bit_depth), "set the camera to 8 bits"))
    } else if sps.chroma_format_idc > 1 {
        Some(("H.264 with more chroma than 4:2:0".into(), "set the camera to 4:2:0"))
    } else if !matches!(sps.profile_idc, 66 | 77 | 88 | 100) {
        Some((format!("H.264 profile {}", sps.profile_idc), "set the camera to Baseline, Main or High"))
    } else {
        None
    }
}

#[cfg(test)]
#[path = "h264_tests.rs"]
mod tests;
