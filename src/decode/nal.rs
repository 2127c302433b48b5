//! Just enough of the H.264 syntax to choose how to decode: NAL units in Annex B, sequence parameter sets, slice types.

/// NAL unit types (ITU-T H.264 table 7-1).
pub const NAL_SLICE: u8 = 1;
/// A slice of an IDR picture.
pub const NAL_IDR: u8 = 5;
/// A sequence parameter set.
pub const NAL_SPS: u8 = 7;

/// The NAL units of an Annex B byte stream, each from its header to the end of the *stream*: whoever reads only headers
/// does not search a slice of many kilobytes for its end. [`bounded`] cuts a unit at its own.
pub fn nal_tails(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = data;
    std::iter::from_fn(move || {
        rest = after_start_code(rest)?;
        Some(rest)
    })
    .filter(|tail| !bounded_is_empty(tail))
}

/// The unit at the beginning of a tail, without the zero bytes that trail it.
pub fn bounded(tail: &[u8]) -> &[u8] {
    let end = find_start_code(tail).unwrap_or(tail.len());
    trim_zeros(tail.get(..end).unwrap_or_default())
}

fn bounded_is_empty(tail: &[u8]) -> bool {
    matches!(tail, [] | [0, ..])
}

fn find_start_code(data: &[u8]) -> Option<usize> {
    let mut from = 0;
    // Looking for the 1 first skips most of a slice's bytes: it is rarer than 0 pairs are to check.
    while let Some(one) = data.get(from..)?.iter().position(|&byte| byte == 1) {
        let one = from + one;
        if one >= 2 && data.get(one - 2..one) == Some(&[0, 0]) {
            return Some(one - 2);
        }
        from = one + 1;
    }
    None
}

fn after_start_code(data: &[u8]) -> Option<&[u8]> {
    data.get(find_start_code(data)? + 3..)
}

fn trim_zeros(unit: &[u8]) -> &[u8] {
    let end = unit.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    unit.get(..end).unwrap_or_default()
}

/// The type of a NAL unit (`nal_unit_type`).
pub fn nal_type(unit: &[u8]) -> u8 {
    unit.first().map_or(0, |header| header & 0x1f)
}

/// Whether a slice NAL unit holds a B slice (§7.4.3, `slice_type` 1 or 6).
pub fn is_b_slice(unit: &[u8]) -> bool {
    let mut bits = Bits::new(unit.get(1..).unwrap_or_default());
    let slice_type = bits.ue().and_then(|_first_macroblock| bits.ue());
    matches!(slice_type, Some(1 | 6))
}

/// What decides how a stream is decoded, from its sequence parameter set (§7.3.2.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sps {
    /// 66 Baseline, 77 Main, 88 Extended, 100 High, 110 High 10, 122 High 4:2:2, 244 High 4:4:4.
    pub profile_idc: u8,
    /// The constraint flags, set 0 in the most significant bit.
    pub constraint_flags: u8,
    /// 0 monochrome, 1 4:2:0, 2 4:2:2, 3 4:4:4.
    pub chroma_format_idc: u32,
    /// Bits of a luma or chroma sample, the larger of the two.
    pub bit_depth: u32,
    /// False: field or macroblock-adaptive coding, that is interlaced.
    pub frame_mbs_only: bool,
    /// How many pictures others may refer to at once; a B slice refers to two.
    pub max_num_ref_frames: u32,
    /// How many pictures may come before one that is shown earlier; `None` where the stream does not say.
    pub max_num_reorder_frames: Option<u32>,
    /// Bits from the beginning of the payload to the end of `seq_parameter_set_id`.
    after_id: usize,
}

impl Sps {
    /// Reads a sequence parameter set NAL unit, header included; `None` if it is truncated or impossible.
    pub fn parse(unit: &[u8]) -> Option<Self> {
        let mut bits = Bits::new(unit.get(1..)?);
        let profile_idc = u8::try_from(bits.take(8)?).ok()?;
        let constraint_flags = u8::try_from(bits.take(8)?).ok()?;
        bits.take(8)?; // level_idc
        bits.ue()?; // seq_parameter_set_id
        let after_id = bits.consumed;
        let (mut chroma_format_idc, mut bit_depth) = (1, 8);
        if matches!(profile_idc, 100 | 110 | 122 | 244 | 44 | 83 | 86 | 118 | 128 | 138 | 139 | 134 | 135) {
            chroma_format_idc = bits.ue()?;
            if chroma_format_idc == 3 {
                bits.take(1)?; // separate_colour_plane_flag
            }
            bit_depth = bits.ue()?.max(bits.ue()?).checked_add(8)?;
            bits.take(1)?; // qpprime_y_zero_transform_bypass_flag
            if bits.flag()? {
                for list in 0..if chroma_format_idc == 3 { 12 } else { 8 } {
                    if bits.flag()? {
                        skip_scaling_list(&mut bits, if list < 6 { 16 } else { 64 })?;
                    }
                }
            }
        }
        bits.ue()?; // log2_max_frame_num_minus4
        let pic_order_cnt_type = bits.ue()?;
        match pic_order_cnt_type {
            0 => {
                bits.ue()?; // log2_max_pic_order_cnt_lsb_minus4
            }
            1 => {
                bits.take(1)?; // delta_pic_order_always_zero_flag
                bits.ue()?; // offset_for_non_ref_pic; signed codes have the same length
                bits.ue()?; // offset_for_top_to_bottom_field
                for _ in 0..bits.ue()?.min(255) {
                    bits.ue()?;
                }
            }
            _ => {}
        }
        let max_num_ref_frames = bits.ue()?;
        bits.take(1)?; // gaps_in_frame_num_value_allowed_flag
        bits.ue()?; // pic_width_in_mbs_minus1
        bits.ue()?; // pic_height_in_map_units_minus1
        let frame_mbs_only = bits.flag()?;
        if !frame_mbs_only {
            bits.take(1)?; // mb_adaptive_frame_field_flag
        }
        bits.take(1)?; // direct_8x8_inference_flag
        if bits.flag()? {
            for _crop_offset in 0..4 {
                bits.ue()?;
            }
        }
        // With type 2 the output order is the decoding order (§8.2.1.3), whatever the VUI says. A VUI that ends early
        // is a bug of the camera, not a reason to refuse it.
        let max_num_reorder_frames = match pic_order_cnt_type {
            2 => Some(0),
            _ if bits.flag()? => vui_max_num_reorder_frames(&mut bits),
            _ => None,
        };
        Some(Self {
            profile_idc,
            constraint_flags,
            chroma_format_idc,
            bit_depth,
            frame_mbs_only,
            max_num_ref_frames,
            max_num_reorder_frames,
            after_id,
        })
    }

    /// Whether the profile has no B slices (§A.2.1): no picture is shown out of the decoding order.
    pub fn is_baseline(&self) -> bool {
        self.profile_idc == 66
    }

    /// The same parameter set under another name of profile, for a decoder that changes its ways by the name:
    /// `unit` is what was parsed. The syntax that follows a High-like name is written where the old one has none.
    pub fn renamed(&self, unit: &[u8], high_like_profile: u8) -> Vec<u8> {
        const PROFILE_BITS: usize = 8;
        // chroma_format_idc 1, both bit depths 8, no transform bypass, no scaling matrix
        const HIGH_SYNTAX: [bool; 7] = [false, true, false, true, true, false, false];
        let mut bits = Bits::new(unit.get(1..).unwrap_or_default());
        let mut out = BitWriter::default();
        for shift in (0..PROFILE_BITS).rev() {
            bits.flag();
            out.push(high_like_profile >> shift & 1 == 1);
        }
        let has_high_syntax = self.profile_idc == 100;
        while let Some(bit) = bits.flag() {
            out.push(bit);
            if bits.consumed == self.after_id && !has_high_syntax {
                HIGH_SYNTAX.into_iter().for_each(|bit| out.push(bit));
            }
        }
        let header = unit.first().copied().unwrap_or(NAL_SPS);
        let mut renamed = vec![header];
        let mut zeros = 0;
        for byte in out.bytes {
            if zeros >= 2 && byte <= 3 {
                renamed.push(3);
                zeros = 0;
            }
            zeros = if byte == 0 { zeros + 1 } else { 0 };
            renamed.push(byte);
        }
        renamed
    }
}

fn skip_scaling_list(bits: &mut Bits, size: u32) -> Option<()> {
    let (mut last, mut next) = (8i64, 8i64);
    for _ in 0..size {
        if next != 0 {
            next = (last + bits.se()?).rem_euclid(256);
        }
        if next != 0 {
            last = next;
        }
    }
    Some(())
}

/// Walks the VUI (§E.1.1) to `max_num_reorder_frames`.
fn vui_max_num_reorder_frames(bits: &mut Bits) -> Option<u32> {
    const EXTENDED_SAR: u32 = 255;
    if bits.flag()? && bits.take(8)? == EXTENDED_SAR {
        bits.take(32)?;
    }
    if bits.flag()? {
        bits.take(1)?; // overscan_appropriate_flag
    }
    if bits.flag()? {
        bits.take(4)?; // video_format, video_full_range_flag
        if bits.flag()? {
            bits.take(24)?; // primaries, transfer, matrix
        }
    }
    if bits.flag()? {
        bits.ue()?; // chroma_sample_loc_type_top_field
        bits.ue()?; // chroma_sample_loc_type_bottom_field
    }
    if bits.flag()? {
        bits.take(32)?; // num_units_in_tick
        bits.take(32)?; // time_scale
        bits.take(1)?; // fixed_frame_rate_flag
    }
    let mut hrd = false;
    for _nal_then_vcl in 0..2 {
        if bits.flag()? {
            hrd = true;
            let count = bits.ue()?.min(31) + 1;
            bits.take(8)?; // bit_rate_scale, cpb_size_scale
            for _ in 0..count {
                bits.ue()?;
                bits.ue()?;
                bits.take(1)?;
            }
            bits.take(20)?; // four lengths of five bits
        }
    }
    if hrd {
        bits.take(1)?; // low_delay_hrd_flag
    }
    bits.take(1)?; // pic_struct_present_flag
    if !bits.flag()? {
        return None;
    }
    bits.take(1)?; // motion_vectors_over_pic_boundaries_flag
    for _ in 0..4 {
        bits.ue()?; // max_bytes_per_pic_denom, max_bits_per_mb_denom, log2_max_mv_length_horizontal and _vertical
    }
    bits.ue()
}

/// Reads bits of a NAL unit's payload, passing over emulation prevention bytes (§7.4.1).
struct Bits<'a> {
    bytes: &'a [u8],
    position: usize,
    zeros: u32,
    current: u8,
    left: u32,
    consumed: usize,
}

/// Collects bits into bytes; the last byte is filled with zeros.
#[derive(Default)]
struct BitWriter {
    bytes: Vec<u8>,
    used: u32,
}

impl BitWriter {
    fn push(&mut self, bit: bool) {
        if self.used.is_multiple_of(8) {
            self.bytes.push(0);
        }
        if let Some(last) = self.bytes.last_mut() {
            *last |= u8::from(bit) << (7 - self.used % 8);
        }
        self.used += 1;
    }
}

impl<'a> Bits<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0, zeros: 0, current: 0, left: 0, consumed: 0 }
    }

    fn flag(&mut self) -> Option<bool> {
        if self.left == 0 {
            let mut byte = self.next_byte()?;
            if self.zeros >= 2 && byte == 3 {
                self.zeros = 0;
                byte = self.next_byte()?;
            }
            self.zeros = if byte == 0 { self.zeros + 1 } else { 0 };
            (self.current, self.left) = (byte, 8);
        }
        self.left -= 1;
        self.consumed += 1;
        Some(self.current >> self.left & 1 == 1)
    }

    fn next_byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.position)?;
        self.position += 1;
        Some(byte)
    }

    /// The next `count` bits, at most 32.
    fn take(&mut self, count: u32) -> Option<u32> {
        (0..count).try_fold(0, |value, _| Some(value << 1 | u32::from(self.flag()?)))
    }

    /// An unsigned Exp-Golomb code (§9.1).
    fn ue(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while !self.flag()? {
            zeros += 1;
            if zeros > 31 {
                return None;
            }
        }
        Some((1 << zeros) - 1 + self.take(zeros)?)
    }

    /// A signed Exp-Golomb code (§9.1.1).
    fn se(&mut self) -> Option<i64> {
        let code = i64::from(self.ue()?);
        Some(if code % 2 == 0 { -(code / 2) } else { code / 2 + 1 })
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
            let Sps { profile_idc, after_id, .. } = Sps::parse(&unit).unwrap();
            assert_eq!(profile_idc, 83);
            let renamed = Sps { profile_idc: original.profile_idc, ..Sps::parse(&unit).unwrap() };
            assert_eq!((renamed, after_id), (original, original.after_id));
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
        assert!(!interlaced.frame_mbs_only && high10.frame_mbs_only);
    }

    #[test]
    fn start_codes_of_three_and_four_bytes_split_units() {
        let data = [9, 0, 0, 0, 1, 0x67, 1, 2, 0, 0, 1, 0x68, 3, 0, 0, 0, 1, 0x65, 0, 0, 3, 0, 0, 0, 0];
        let units: Vec<&[u8]> = nal_tails(&data).map(bounded).collect();
        assert_eq!(units, [&[0x67, 1, 2][..], &[0x68, 3], &[0x65, 0, 0, 3]]);
    }

    #[test]
    fn a_stream_without_start_codes_has_no_units() {
        assert_eq!(nal_tails(&[1, 2, 3, 0, 0]).count(), 0);
        assert_eq!(nal_tails(&[]).count(), 0);
        assert_eq!(nal_tails(&[0, 0, 1]).count(), 0);
    }

    #[test]
    fn slice_types_are_read_from_the_slice_header() {
        // first_mb_in_slice 0 = "1"; slice_type 5, 6, 7 = "00110", "00111", "0001000"
        assert!(!is_b_slice(&[0x41, 0b1001_1000]));
        assert!(is_b_slice(&[0x01, 0b1001_1100]));
        assert!(!is_b_slice(&[0x65, 0b1000_1000]));
        assert!(!is_b_slice(&[0x41]));
    }

    proptest! {
        #[test]
        fn garbage_never_panics_and_units_lie_within(data in prop::collection::vec(prop_oneof![Just(0u8), Just(1u8), any::<u8>()], 0..200)) {
            let mut total = 0;
            for tail in nal_tails(&data) {
                let unit = bounded(tail);
                total += unit.len();
                prop_assert!(find_start_code(unit).is_none());
                let _ = (Sps::parse(tail), is_b_slice(tail), nal_type(tail));
                if let Some(sps) = Sps::parse(unit) {
                    let renamed = sps.renamed(unit, 83);
                    prop_assert!(renamed.len() <= unit.len() * 3 / 2 + 3);
                }
            }
            prop_assert!(total <= data.len());
            let _ = Sps::parse(&data);
        }

        #[test]
        fn units_put_together_come_apart_again(units in prop::collection::vec(prop::collection::vec(2u8.., 1..30), 0..6)) {
            let stream: Vec<u8> = units.iter().flat_map(|unit| [&[0, 0, 0, 1][..], unit].concat()).collect();
            let split: Vec<Vec<u8>> = nal_tails(&stream).map(|tail| bounded(tail).to_vec()).collect();
            prop_assert_eq!(split, units);
        }
    }
}
