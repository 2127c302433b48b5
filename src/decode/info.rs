//! What a stream says about itself in its headers: for its status, and to choose its decoder by.

use crate::media::nal::{self, bounded, is_b_slice, nal_tails};
use crate::media::sps::Sps;
use crate::media::{AccessUnit, VideoCodec, h265, jpeg};

/// What the headers of a coded stream say.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StreamInfo {
    /// How it is coded.
    pub codec: VideoCodec,
    /// `profile_idc` of H.264 (66, 77, 100, …) or `general_profile_idc` of H.265 (1, 2, …); 0 for JPEG.
    pub profile_idc: u8,
    /// The profile's name, like `Constrained Baseline`; `unknown` for one that has none here.
    pub profile: &'static str,
    /// The level, like 3.1; `None` for JPEG.
    pub level: Option<f32>,
    /// Whether pictures come in another order than they are shown in: H.264 once a B slice has been seen, H.265 by its
    /// parameter set.
    pub reorders: bool,
    /// Whether the stream says that they may.
    pub may_reorder: bool,
    /// Whether pictures may be fields.
    pub interlaced: bool,
    /// Bits of a sample.
    pub bit_depth: u32,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
}

/// Reads the headers of each access unit, up to its first slice.
#[derive(Debug, Default)]
pub struct Inspector {
    info: Option<StreamInfo>,
    /// The parameter set that `info` was made from, and what of it the choice of a decoder needs.
    set: Vec<u8>,
    sps: Option<Sps>,
}

impl Inspector {
    /// What the stream has said so far.
    #[must_use]
    pub fn info(&self) -> Option<StreamInfo> {
        self.info
    }

    /// The newest readable parameter set of an H.264 stream.
    pub(super) fn sps(&self) -> Option<&Sps> {
        self.sps.as_ref()
    }

    /// Looks at the next unit of the stream.
    pub fn look(&mut self, unit: &AccessUnit) {
        if self.info.is_some_and(|info| info.codec != unit.codec) {
            *self = Self::default();
        }
        match unit.codec {
            VideoCodec::H264 => self.look_at_h264(&unit.data),
            VideoCodec::H265 => self.look_at_h265(&unit.data),
            VideoCodec::Jpeg => self.info = jpeg::Headers::read(&unit.data).map(|headers| of_jpeg(&headers)),
        }
    }

    fn look_at_h264(&mut self, data: &[u8]) {
        for tail in nal_tails(data) {
            match nal::nal_type(tail) {
                Some(nal::SPS) if self.set != bounded(tail) => {
                    if let Some(sps) = Sps::parse(bounded(tail)) {
                        self.set = bounded(tail).to_vec();
                        self.info = Some(of_h264(&sps));
                        self.sps = Some(sps);
                    }
                }
                Some(kind) if nal::is_vcl(kind) => {
                    if let Some(info) = &mut self.info {
                        info.reorders |= is_b_slice(tail);
                    }
                    return;
                }
                _ => {}
            }
        }
    }

    fn look_at_h265(&mut self, data: &[u8]) {
        for tail in nal_tails(data) {
            match h265::nal_type(tail) {
                Some(h265::SPS) if self.set != bounded(tail) => {
                    if let Some(sps) = h265::Sps::parse(bounded(tail)) {
                        self.set = bounded(tail).to_vec();
                        self.info = Some(of_h265(&sps));
                    }
                }
                Some(kind) if h265::is_vcl(kind) => return,
                _ => {}
            }
        }
    }
}

fn of_h264(sps: &Sps) -> StreamInfo {
    const SET_1: u8 = 0x40;
    const SETS_4_AND_5: u8 = 0x0c;
    let profile = match sps.profile_idc {
        44 => "CAVLC 4:4:4 Intra",
        66 if sps.constraint_flags & SET_1 != 0 => "Constrained Baseline",
        66 => "Baseline",
        77 => "Main",
        88 => "Extended",
        100 if sps.constraint_flags & SETS_4_AND_5 == SETS_4_AND_5 => "Constrained High",
        100 => "High",
        110 => "High 10",
        122 => "High 4:2:2",
        244 => "High 4:4:4 Predictive",
        _ => "unknown",
    };
    StreamInfo {
        codec: VideoCodec::H264,
        profile_idc: sps.profile_idc,
        profile,
        level: Some(f32::from(sps.level_idc) / 10.0),
        reorders: false,
        may_reorder: sps.max_num_reorder_frames.is_some_and(|most| most > 0),
        interlaced: !sps.progressive,
        bit_depth: sps.bit_depth,
        width: sps.width,
        height: sps.height,
    }
}

fn of_h265(sps: &h265::Sps) -> StreamInfo {
    let profile = match sps.profile_idc {
        1 => "Main",
        2 => "Main 10",
        3 => "Main Still Picture",
        4 => "Range Extensions",
        _ => "unknown",
    };
    StreamInfo {
        codec: VideoCodec::H265,
        profile_idc: sps.profile_idc,
        profile,
        level: Some(f32::from(sps.level_idc) / 30.0),
        reorders: sps.max_num_reorder_pics > 0,
        may_reorder: sps.max_num_reorder_pics > 0,
        interlaced: sps.interlaced,
        bit_depth: sps.bit_depth,
        width: sps.width,
        height: sps.height,
    }
}

fn of_jpeg(headers: &jpeg::Headers) -> StreamInfo {
    StreamInfo {
        codec: VideoCodec::Jpeg,
        profile_idc: 0,
        profile: headers.process(),
        level: None,
        reorders: false,
        may_reorder: false,
        interlaced: false,
        bit_depth: u32::from(headers.bits),
        width: u32::from(headers.width),
        height: u32::from(headers.height),
    }
}
