//! The H.264 sequence parameter set: how large a picture is, how often it comes, how it is coded, and what orders it.

use super::bits::{BitWriter, Bits};
use super::nal::{self, IDR};

/// A longer parameter set is refused: real ones have tens of bytes, one with all scaling lists under 2,000.
pub const MAX_PARAMETER_SET_BYTES: usize = 4096;

/// What an H.264 sequence parameter set says (ITU-T H.264 §7.3.2.1, Annex E).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sps {
    /// `seq_parameter_set_id`, 0 to 31.
    pub id: u8,
    /// `profile_idc`: 66 Baseline, 77 Main, 88 Extended, 100 High, 110 High 10, 122 High 4:2:2, 244 High 4:4:4.
    pub profile_idc: u8,
    /// The constraint flags, set 0 in the most significant bit.
    pub constraint_flags: u8,
    /// `level_idc`: ten times the level.
    pub level_idc: u8,
    /// Chroma: 0 none, 1 4:2:0, 2 4:2:2, 3 4:4:4.
    pub chroma_format_idc: u32,
    /// Bits of a luma or chroma sample, the larger of the two.
    pub bit_depth: u32,
    /// Width of the picture after cropping, in pixels.
    pub width: u32,
    /// Height of the picture after cropping, in pixels.
    pub height: u32,
    /// Frames per second by the VUI's timing (§E.2.1), where it stands and makes sense.
    pub frame_rate: Option<f64>,
    /// Whether samples use the whole range of 0 to 255 (`video_full_range_flag`) rather than 16 to 235.
    pub full_range: bool,
    /// Whether all pictures are frames, never fields (`frame_mbs_only_flag`).
    pub progressive: bool,
    /// How many pictures others may refer to at once; a B slice refers to two.
    pub max_num_ref_frames: u32,
    /// How many pictures may come before one that is shown earlier; `None` where the stream does not say.
    pub max_num_reorder_frames: Option<u32>,
    order: PictureOrder,
    /// Bits from the beginning of the payload to the end of `seq_parameter_set_id`.
    after_id: usize,
}

/// What is needed to read a slice's picture order count (§7.3.3).
#[derive(Clone, Copy, Debug, PartialEq)]
struct PictureOrder {
    frame_num_bits: u32,
    /// Bits of `pic_order_cnt_lsb`; `None` for the types 1 and 2, where output order is not in the slice header.
    lsb_bits: Option<u32>,
    separate_colour_planes: bool,
}

/// What of the VUI (§E.1.1) is of use. What stands behind the place where it breaks off is at its default.
#[derive(Default)]
struct Vui {
    full_range: bool,
    frame_rate: Option<f64>,
    max_num_reorder_frames: Option<u32>,
}

impl Sps {
    /// Reads a NAL unit of type 7, without its start code. `None` if it is no SPS, damaged, or of no possible size.
    #[must_use]
    pub fn parse(nal: &[u8]) -> Option<Self> {
        if nal::nal_type(nal) != Some(nal::SPS) || nal.len() > MAX_PARAMETER_SET_BYTES {
            return None;
        }
        let mut bits = Bits::new(nal.get(1..)?);
        let profile_idc = u8::try_from(bits.take(8)?).ok()?;
        let constraint_flags = u8::try_from(bits.take(8)?).ok()?;
        let level_idc = u8::try_from(bits.take(8)?).ok()?;
        let id = u8::try_from(bits.ue()?).ok().filter(|&id| id < 32)?;
        let after_id = bits.consumed();
        let (mut chroma_format_idc, mut bit_depth) = (1, 8);
        let mut separate_colour_planes = false;
        if matches!(profile_idc, 100 | 110 | 122 | 244 | 44 | 83 | 86 | 118 | 128 | 138 | 139 | 134 | 135) {
            chroma_format_idc = bits.ue().filter(|&idc| idc <= 3)?;
            if chroma_format_idc == 3 {
                separate_colour_planes = bits.flag()?;
            }
            bit_depth = bits.ue()?.max(bits.ue()?).checked_add(8)?;
            bits.flag()?; // qpprime_y_zero_transform_bypass_flag
            if bits.flag()? {
                for list in 0..if chroma_format_idc == 3 { 12 } else { 8 } {
                    if bits.flag()? {
                        skip_scaling_list(&mut bits, if list < 6 { 16 } else { 64 })?;
                    }
                }
            }
        }
        let frame_num_bits = bits.ue()?.checked_add(4).filter(|&n| n <= 16)?;
        let order_type = bits.ue()?;
        let lsb_bits = Some(picture_order_bits(&mut bits, order_type)?).filter(|&bits| bits > 0);
        let max_num_ref_frames = bits.ue()?;
        bits.flag()?; // gaps_in_frame_num_value_allowed_flag
        let mb_wide = bits.ue()?.checked_add(1)?;
        let map_units_high = bits.ue()?.checked_add(1)?;
        let progressive = bits.flag()?;
        if !progressive {
            bits.flag()?; // mb_adaptive_frame_field_flag
        }
        bits.flag()?; // direct_8x8_inference_flag
        let fields = if progressive { 1 } else { 2 };
        let (mut width, mut height) = (mb_wide.checked_mul(16)?, map_units_high.checked_mul(16 * fields)?);
        if bits.flag()? {
            let (unit_x, unit_y) = match chroma_format_idc {
                1 => (2, 2 * fields),
                2 => (2, fields),
                _ => (1, fields),
            };
            let (left, right, top, bottom) = (bits.ue()?, bits.ue()?, bits.ue()?, bits.ue()?);
            width = width.checked_sub(left.checked_add(right)?.checked_mul(unit_x)?)?;
            height = height.checked_sub(top.checked_add(bottom)?.checked_mul(unit_y)?)?;
        }
        if width == 0 || height == 0 {
            return None;
        }
        let mut vui = Vui::default();
        if bits.flag().unwrap_or(false) {
            // A VUI that ends early is a bug of the camera, not a reason to refuse it.
            let _ = vui.read(&mut bits);
        }
        Some(Self {
            id,
            profile_idc,
            constraint_flags,
            level_idc,
            chroma_format_idc,
            bit_depth,
            width,
            height,
            frame_rate: vui.frame_rate,
            full_range: vui.full_range,
            progressive,
            max_num_ref_frames,
            // With type 2 the output order is the decoding order (§8.2.1.3), whatever the VUI says.
            max_num_reorder_frames: if order_type == 2 { Some(0) } else { vui.max_num_reorder_frames },
            order: PictureOrder { frame_num_bits, lsb_bits, separate_colour_planes },
            after_id,
        })
    }

    /// Whether the profile has no B slices (§A.2.1): no picture is shown out of the decoding order.
    #[must_use]
    pub fn is_baseline(&self) -> bool {
        self.profile_idc == 66
    }

    /// The same parameter set under another name of profile, for a decoder that changes its ways by the name:
    /// `nal` is what was parsed. The syntax that follows a High-like name is written where the old one has none.
    #[must_use]
    pub fn renamed(&self, nal: &[u8], high_like_profile: u8) -> Vec<u8> {
        const PROFILE_BITS: usize = 8;
        // chroma_format_idc 1, both bit depths 8, no transform bypass, no scaling matrix
        const HIGH_SYNTAX: [bool; 7] = [false, true, false, true, true, false, false];
        let mut bits = Bits::new(nal.get(1..).unwrap_or_default());
        let mut out = BitWriter::default();
        for shift in (0..PROFILE_BITS).rev() {
            bits.flag();
            out.push(high_like_profile >> shift & 1 == 1);
        }
        let has_high_syntax = self.profile_idc == 100;
        while let Some(bit) = bits.flag() {
            out.push(bit);
            if bits.consumed() == self.after_id && !has_high_syntax {
                HIGH_SYNTAX.into_iter().for_each(|bit| out.push(bit));
            }
        }
        out.into_nal(nal.first().copied().unwrap_or(nal::SPS))
    }

    /// Bits of `pic_order_cnt_lsb`, if slices carry it (picture order count type 0, the one that B-frames need).
    #[must_use]
    pub fn order_bits(&self) -> Option<u32> {
        self.order.lsb_bits
    }

    /// `pic_order_cnt_lsb` of a slice NAL unit (§7.3.3): the picture's place in output order, modulo
    /// 2^[`order_bits`](Self::order_bits).
    #[must_use]
    pub fn order_lsb(&self, slice: &[u8]) -> Option<u32> {
        let lsb_bits = self.order.lsb_bits?;
        // The fields in question stand within the first 20 bytes.
        let mut bits = Bits::new(slice.get(1..slice.len().min(32))?);
        bits.ue()?; // first_mb_in_slice
        bits.ue()?; // slice_type
        bits.ue()?; // pic_parameter_set_id
        if self.order.separate_colour_planes {
            bits.take(2)?;
        }
        bits.take(self.order.frame_num_bits)?;
        if !self.progressive && bits.flag()? {
            bits.flag()?; // bottom_field_flag
        }
        if nal::nal_type(slice) == Some(IDR) {
            bits.ue()?; // idr_pic_id
        }
        bits.take(lsb_bits)
    }
}

/// The id of a parameter set: of an SPS 0 to 31 (behind three bytes of profile and level), of a PPS 0 to 255.
#[must_use]
pub fn parameter_set_id(nal: &[u8]) -> Option<u8> {
    if nal.len() > MAX_PARAMETER_SET_BYTES {
        return None;
    }
    let (from, limit) = match nal::nal_type(nal)? {
        nal::SPS => (4, 31),
        nal::PPS => (1, 255),
        _ => return None,
    };
    let id = nal.get(from..nal.len().min(from + 8))?;
    Bits::new(id).ue().filter(|&id| id <= limit).and_then(|id| u8::try_from(id).ok())
}

fn skip_scaling_list(bits: &mut Bits<'_>, size: usize) -> Option<()> {
    let (mut last, mut next) = (8i64, 8i64);
    for _ in 0..size {
        if next != 0 {
            next = (last + bits.se()? + 256).rem_euclid(256);
        }
        last = if next == 0 { last } else { next };
    }
    Some(())
}

/// Reads what follows `pic_order_cnt_type`, and gives the bits of `pic_order_cnt_lsb`: 0 where there are none.
fn picture_order_bits(bits: &mut Bits<'_>, order_type: u32) -> Option<u32> {
    match order_type {
        0 => bits.ue()?.checked_add(4).filter(|&n| n <= 16),
        1 => {
            bits.flag()?; // delta_pic_order_always_zero_flag
            bits.ue()?; // offset_for_non_ref_pic; signed codes have the same length
            bits.ue()?; // offset_for_top_to_bottom_field
            for _ in 0..bits.ue().filter(|&n| n < 256)? {
                bits.ue()?;
            }
            Some(0)
        }
        2 => Some(0),
        _ => None,
    }
}

impl Vui {
    fn read(&mut self, bits: &mut Bits<'_>) -> Option<()> {
        const EXTENDED_SAR: u32 = 255;
        if bits.flag()? && bits.take(8)? == EXTENDED_SAR {
            bits.skip(32)?; // sar_width, sar_height
        }
        if bits.flag()? {
            bits.flag()?; // overscan_appropriate_flag
        }
        if bits.flag()? {
            bits.skip(3)?; // video_format
            self.full_range = bits.flag()?;
            if bits.flag()? {
                bits.skip(24)?; // colour primaries, transfer, matrix
            }
        }
        if bits.flag()? {
            bits.ue()?;
            bits.ue()?; // chroma_sample_loc_type
        }
        if bits.flag()? {
            let (tick, scale) = (bits.take(32)?, bits.take(32)?);
            bits.flag()?; // fixed_frame_rate_flag
            // A frame lasts two ticks (§E.2.1).
            let rate = f64::from(scale) / (2.0 * f64::from(tick));
            self.frame_rate = (1.0..=1000.0).contains(&rate).then_some(rate);
        }
        let mut hrd = false;
        for _nal_then_vcl in 0..2 {
            if bits.flag()? {
                hrd = true;
                let count = bits.ue()?.min(31) + 1;
                bits.skip(8)?; // bit_rate_scale, cpb_size_scale
                for _ in 0..count {
                    bits.ue()?;
                    bits.ue()?;
                    bits.flag()?;
                }
                bits.skip(20)?; // four lengths of five bits
            }
        }
        if hrd {
            bits.flag()?; // low_delay_hrd_flag
        }
        bits.flag()?; // pic_struct_present_flag
        if bits.flag()? {
            bits.flag()?; // motion_vectors_over_pic_boundaries_flag
            for _ in 0..4 {
                bits.ue()?; // max_bytes_per_pic_denom, max_bits_per_mb_denom, log2_max_mv_length_horizontal and _vertical
            }
            self.max_num_reorder_frames = Some(bits.ue()?);
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Parameter sets as encoders wrote them, each from a stream made for the purpose.
    fn sps(hex: &str) -> Sps {
        Sps::parse(&bytes(hex)).expect("a whole SPS")
    }

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    }

    #[test]
    fn a_baseline_sps_gives_its_size() {
        // Chromium's encoder at 640×480, constrained baseline 3.1.
        let sps =
            Sps::parse(&[0x67, 0x42, 0xc0, 0x1f, 0x8c, 0x8d, 0x40, 0x50, 0x1e, 0xd0, 0x0f, 0x08, 0x84, 0x6a]).unwrap();
        assert_eq!((sps.id, sps.profile_idc, sps.width, sps.height), (0, 66, 640, 480));
    }

    #[test]
    fn a_high_profile_sps_gives_cropped_size_and_frame_rate() {
        // x264, High 4.0, 1920×1080 (1088 coded, 8 rows cropped) at 25 frames a second.
        let nal = [
            0x67, 0x64, 0x00, 0x28, 0xac, 0xd9, 0x40, 0x78, 0x02, 0x27, 0xe5, 0xc0, 0x44, 0x00, 0x00, 0x03, 0x00, 0x04,
            0x00, 0x00, 0x03, 0x00, 0xc8, 0x3c, 0x60, 0xc6, 0x58,
        ];
        let sps = Sps::parse(&nal).unwrap();
        assert_eq!((sps.profile_idc, sps.width, sps.height, sps.progressive), (100, 1920, 1080, true));
        assert_eq!(sps.frame_rate, Some(25.0));
        assert!(sps.order_bits().is_some());
        assert_eq!(parameter_set_id(&nal), Some(0));
    }

    #[test]
    fn a_truncated_sps_is_refused_or_lacks_only_its_vui() {
        let nal = [
            0x67, 0x64, 0x00, 0x28, 0xac, 0xd9, 0x40, 0x78, 0x02, 0x27, 0xe5, 0xc0, 0x44, 0x00, 0x00, 0x03, 0x00, 0x04,
            0x00, 0x00, 0x03, 0x00, 0xc8, 0x3c, 0x60, 0xc6, 0x58,
        ];
        for len in 0..nal.len() {
            if let Some(sps) = Sps::parse(&nal[..len]) {
                assert_eq!((sps.width, sps.height), (1920, 1080));
            }
        }
        assert_eq!(Sps::parse(&nal[..8]), None);
    }

    #[test]
    fn parameter_set_ids_are_read_behind_their_headers() {
        assert_eq!(parameter_set_id(&[0x68, 0b1000_0000]), Some(0));
        assert_eq!(parameter_set_id(&[0x68, 0b0000_0001]), None, "the code is cut off");
        assert_eq!(parameter_set_id(&[0x68, 0b0110_0000]), Some(2));
        assert_eq!(parameter_set_id(&[0x67, 66, 0, 31, 0b0101_0000]), Some(1));
        assert_eq!(parameter_set_id(&[0x65, 0x80]), None);
        assert_eq!(parameter_set_id(&[]), None);
    }

    #[test]
    fn baseline_cannot_reorder() {
        let baseline = sps("6742c01ed900a03db0110000030001000003003c0f162e48");
        assert!(baseline.is_baseline());
        assert_eq!(baseline.max_num_reorder_frames, Some(0));
        assert_eq!(baseline.constraint_flags, 0xc0);
    }

    #[test]
    fn the_vui_says_how_many_pictures_are_reordered() {
        assert_eq!(sps("674d401ed900a03db0110000030001000003003c0f162e48").max_num_reorder_frames, Some(0));
        assert_eq!(sps("674d401ef201407b6022000003000200000300781e2c5a24").max_num_reorder_frames, Some(1));
        assert_eq!(sps("6764001eacd940a03db0110000030001000003003c0f162d96").max_num_reorder_frames, Some(2));
        assert_eq!(sps("6764001eacb201407b6022000003000200000300781e2c5c90").max_num_reorder_frames, Some(0));
    }

    #[test]
    fn a_renamed_parameter_set_says_the_same() {
        for hex in [
            "674d401ed900a03db0110000030001000003003c0f162e48",
            "674d401ef201407b6022000003000200000300781e2c5a24",
            "6764001eacd940a03db0110000030001000003003c0f162d96",
        ] {
            let unit = bytes(hex);
            let original = Sps::parse(&unit).unwrap();
            let unit = original.renamed(&unit, 83);
            assert!(!unit.windows(3).any(|bytes| bytes[..2] == [0, 0] && bytes[2] < 3), "emulates a start code");
            let renamed = Sps::parse(&unit).unwrap();
            assert_eq!(renamed.profile_idc, 83);
            assert_eq!(Sps { profile_idc: original.profile_idc, ..renamed }, original);
        }
    }

    #[test]
    fn sampling_depth_and_interlacing_are_seen() {
        let high10 = sps("676e001ea6cb201407b60220000003002000000781e2c5c9");
        assert_eq!((high10.bit_depth, high10.chroma_format_idc), (10, 1));
        let high422 = sps("677a001ebcb201407b6022000003000200000300781e2c5c90");
        assert_eq!((high422.bit_depth, high422.chroma_format_idc), (8, 2));
        assert_eq!(sps("67f4001e919640280f6c0440000003004000000f03c58b92").chroma_format_idc, 3);
        let interlaced = sps("6764001eace40281ed8088000003000800000301e0f8a15240");
        assert!(!interlaced.progressive && high10.progressive);
    }

    #[test]
    fn the_colour_range_is_told() {
        // x264 with `-color_range pc`, High 4:2:0, and the same without.
        assert!(sps("6764001eacd940a03db016c8000003000800000301e078b16cb0").full_range);
        assert!(!sps("6764001eacd940a03db0110000030001000003003c0f162d96").full_range);
    }

    proptest! {
        #[test]
        fn arbitrary_parameter_sets_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), profile in prop::sample::select(vec![66u8, 100, 244])) {
            let mut nal = vec![0x67, profile];
            nal.extend(&bytes);
            if let Some(sps) = Sps::parse(&nal) {
                prop_assert!(sps.width > 0 && sps.height > 0 && sps.id < 32);
                let _ = sps.order_lsb(&bytes);
                prop_assert!(sps.renamed(&nal, 83).len() <= nal.len() * 3 / 2 + 3);
            }
            let _ = parameter_set_id(&nal);
        }
    }
}
