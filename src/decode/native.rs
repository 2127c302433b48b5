//! The openh264 decoder, its pictures named by the unit that they came from and given in decoding order.
//!
//! Two things of openh264 decide the shape of this file. The crate's `decode()` takes no timestamp; the native call
//! carries a number from the unit to its picture. And for every profile but the two Baselines the decoder keeps pictures
//! back to put them in order: at least one frame of delay even where nothing is reordered, and emptying that buffer by
//! hand loses picture buffers until decoding fails. Under the name of Scalable Baseline, whose parameter set has the
//! same syntax as High's, it decodes the same and keeps nothing back.

use std::ptr::null_mut;

use ::openh264::OpenH264API;
use ::openh264::decoder::{Decoder, DecoderConfig, Flush};
use openh264_sys2::{
    SBufferInfo, dsBitstreamError, dsDataErrorConcealed, dsErrorFree, dsNoParamSets, dsOutOfMemory, dsRefListNullPtrs,
    dsRefLost,
};

use crate::media::{FramePool, I420Frame, MAX_SIDE, Plane};

/// The profile under which High and Main streams are decoded without the native reorder buffer.
pub const UNBUFFERED_PROFILE: u8 = 83;

/// A native decoder and the only calls of it that the crate does not make safe.
pub struct Native(Decoder);

/// Native error bits (`DECODING_STATE`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NativeError(i32);

/// A picture and the number of the unit that it came from.
pub type Named = (u64, I420Frame);

impl Native {
    /// A decoder with error concealment off: a damaged picture is an error, never a guess.
    pub fn new() -> Result<Self, String> {
        let config = DecoderConfig::new().flush_after_decode(Flush::NoFlush);
        Decoder::with_api_config(OpenH264API::from_source(), config).map(Self).map_err(|error| error.to_string())
    }

    /// Decodes one access unit under the number `name` and gives its picture, copied into `pool`.
    pub fn decode(&mut self, data: &[u8], name: u64, pool: &FramePool) -> Result<Option<Named>, NativeError> {
        let len = i32::try_from(data.len()).map_err(|_| NativeError(dsBitstreamError))?;
        let mut planes = [null_mut::<u8>(); 3];
        let mut info = SBufferInfo { uiInBsTimeStamp: name, ..SBufferInfo::default() };
        // SAFETY: the decoder is initialised (the crate's constructor does it); `data` is readable for `len` bytes
        // during the call, which copies what it keeps; `planes` holds the three pointers and `info` is the struct that
        // the call writes.
        let state = unsafe {
            self.0.raw_api().decode_frame_no_delay(data.as_ptr(), len, planes.as_mut_ptr().cast(), &raw mut info)
        };
        if state != dsErrorFree {
            return Err(NativeError(state));
        }
        Ok(copy_out(planes, &info, pool))
    }
}

fn copy_out(planes: [*mut u8; 3], info: &SBufferInfo, pool: &FramePool) -> Option<Named> {
    if info.iBufferStatus != 1 || planes.iter().any(|plane| plane.is_null()) {
        return None;
    }
    // SAFETY: with status 1 the union holds the system buffer, the only kind that this decoder fills.
    let buffer = unsafe { info.UsrData.sSystemBuffer };
    let side = |side: i32| usize::try_from(side).ok().filter(|side| (1..=MAX_SIDE).contains(side));
    let (width, height) = (side(buffer.iWidth)?, side(buffer.iHeight)?);
    let [luma_stride, chroma_stride] = buffer.iStride;
    let mut frame = pool.frame(width, height);
    for (plane, pointer, stride) in
        [(Plane::Y, planes[0], luma_stride), (Plane::U, planes[1], chroma_stride), (Plane::V, planes[2], chroma_stride)]
    {
        let (width, height) = frame.plane_size(plane);
        let stride = usize::try_from(stride).ok().filter(|&stride| stride >= width)?;
        // SAFETY: the decoder's plane has `height` rows of `width` samples, `stride` bytes apart, from `pointer` on, and
        // is left alone until the next call, which needs the `&mut self` that our caller holds.
        let samples = unsafe { std::slice::from_raw_parts(pointer, (height - 1) * stride + width) };
        frame.copy_plane_from(plane, samples, stride);
    }
    Some((info.uiOutYuvTimeStamp, frame))
}

impl std::fmt::Display for NativeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let what = match self.0 {
            state if state & dsOutOfMemory != 0 => "no free picture buffer",
            state if state & (dsRefLost | dsRefListNullPtrs) != 0 => "a reference picture is missing",
            state if state & dsNoParamSets != 0 => "no parameter sets, or no IDR since a loss",
            state if state & dsDataErrorConcealed != 0 => "it refers to a damaged picture",
            state if state & dsBitstreamError != 0 => "the bitstream is damaged",
            _ => "the decoder refused it",
        };
        write!(f, "{what} (openh264 state {:#x})", self.0)
    }
}
