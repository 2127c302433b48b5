//! The sequence parameter set, as far as a source needs it: picture size, frame rate, and what orders the pictures.

use super::nal::{self, IDR};

/// A longer parameter set is refused: real ones have tens of bytes, one with all scaling lists under 2,000.
pub const MAX_PARAMETER_SET_BYTES: usize = 4096;

/// What an H.264 sequence parameter set says (ITU-T H.264 §7.3.2.1, Annex E).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sps {
    /// `seq_parameter_set_id`, 0 to 31.
    pub id: u8,
    /// `profile_idc`: 66 Baseline, 77 Main, 100 High, …
    pub profile_idc: u8,
    /// Width of the picture after cropping, in pixels.
    pub width: u32,
    /// Height of the picture after cropping, in pixels.
    pub height: u32,
    /// Frames per second by the VUI's timing (§E.2.1), where it stands and makes sense.
    pub frame_rate: Option<f64>,
    /// Whether all pictures are frames, never fields (`frame_mbs_only_flag`).
    pub progressive: bool,
    order: PictureOrder,
}

/// What is needed to read a slice's picture order count (§7.3.3).
#[derive(Clone, Copy, Debug, PartialEq)]
struct PictureOrder {
    frame_num_bits: u32,
    /// Bits of `pic_order_cnt_lsb`; `None` for the types 1 and 2, where output order is not in the slice header.
    lsb_bits: Option<u32>,
    separate_colour_planes: bool,
}

impl Sps {
    /// Reads a NAL unit of type 7, without its start code. `None` if it is no SPS, damaged, or of no possible size.
    #[must_use]
    pub fn parse(nal: &[u8]) -> Option<Self> {
        if nal::nal_type(nal) != Some(nal::SPS) || nal.len() > MAX_PARAMETER_SET_BYTES {
            return None;
        }
        let bytes = unescape(nal.get(1..)?);
        let mut bits = Bits::new(&bytes);
        let profile_idc = u8::try_from(bits.take(8)?).ok()?;
        bits.take(16)?; // constraint flags, level_idc
        let id = u8::try_from(bits.ue()?).ok().filter(|&id| id < 32)?;
        let mut chroma_format = 1;
        let mut separate_colour_planes = false;
        if matches!(profile_idc, 100 | 110 | 122 | 244 | 44 | 83 | 86 | 118 | 128 | 138 | 139 | 134 | 135) {
            chroma_format = bits.ue()?;
            if chroma_format == 3 {
                separate_colour_planes = bits.flag()?;
            }
            bits.ue()?; // bit_depth_luma_minus8
            bits.ue()?; // bit_depth_chroma_minus8
            bits.flag()?; // qpprime_y_zero_transform_bypass_flag
            if bits.flag()? {
                for list in 0..if chroma_format == 3 { 12 } else { 8 } {
                    if bits.flag()? {
                        skip_scaling_list(&mut bits, if list < 6 { 16 } else { 64 })?;
                    }
                }
            }
        }
        let frame_num_bits = bits.ue()?.checked_add(4).filter(|&n| n <= 16)?;
        let lsb_bits = match bits.ue()? {
            0 => Some(bits.ue()?.checked_add(4).filter(|&n| n <= 16)?),
            1 => {
                bits.flag()?;
                bits.ue()?; // offset_for_non_ref_pic, signed; only its length matters
                bits.ue()?;
                for _ in 0..bits.ue().filter(|&n| n < 256)? {
                    bits.ue()?;
                }
                None
            }
            2 => None,
            _ => return None,
        };
        bits.ue()?; // max_num_ref_frames
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
            let (unit_x, unit_y) = match chroma_format {
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
        // The VUI comes last and is often damaged or absent: without it the rest still holds.
        let frame_rate = if bits.flag().unwrap_or(false) { vui_frame_rate(&mut bits) } else { None };
        let order = PictureOrder { frame_num_bits, lsb_bits, separate_colour_planes };
        Some(Self { id, profile_idc, width, height, frame_rate, progressive, order })
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
        let bytes = unescape(slice.get(1..slice.len().min(32))?);
        let mut bits = Bits::new(&bytes);
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
    let bytes = unescape(nal.get(from..nal.len().min(from + 8))?);
    Bits::new(&bytes).ue().filter(|&id| id <= limit).and_then(|id| u8::try_from(id).ok())
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

/// The frame rate of VUI parameters (§E.1.1), if they state one that is between 1 and 1000 frames a second.
fn vui_frame_rate(bits: &mut Bits<'_>) -> Option<f64> {
    if bits.flag()? && bits.take(8)? == 255 {
        bits.take(32)?; // sar_width, sar_height
    }
    if bits.flag()? {
        bits.flag()?; // overscan_appropriate_flag
    }
    if bits.flag()? {
        bits.take(4)?; // video_format, video_full_range_flag
        if bits.flag()? {
            bits.take(24)?; // colour primaries, transfer, matrix
        }
    }
    if bits.flag()? {
        bits.ue()?;
        bits.ue()?; // chroma_sample_loc_type
    }
    if !bits.flag()? {
        return None;
    }
    let (tick, scale) = (bits.take(32)?, bits.take(32)?);
    // A frame lasts two ticks (§E.2.1).
    let rate = f64::from(scale) / (2.0 * f64::from(tick));
    (1.0..=1000.0).contains(&rate).then_some(rate)
}

/// Takes the emulation prevention bytes out (§7.4.1.1): `00 00 03` stands for `00 00`.
fn unescape(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len());
    let mut zeros = 0;
    for &byte in payload {
        if zeros >= 2 && byte == 3 {
            zeros = 0;
            continue;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        out.push(byte);
    }
    out
}

/// Reads bits, most significant first; every read past the end is `None`.
struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Bits<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    fn bit(&mut self) -> Option<u32> {
        let byte = self.bytes.get(self.at / 8)?;
        let bit = (byte >> (7 - self.at % 8)) & 1;
        self.at += 1;
        Some(u32::from(bit))
    }

    fn flag(&mut self) -> Option<bool> {
        Some(self.bit()? == 1)
    }

    /// Up to 32 bits as an unsigned number.
    fn take(&mut self, count: u32) -> Option<u32> {
        let mut value = 0;
        for _ in 0..count {
            value = value << 1 | self.bit()?;
        }
        Some(value)
    }

    /// Exp-Golomb, unsigned (§9.1), up to 2³² − 2.
    fn ue(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while self.bit()? == 0 {
            zeros += 1;
            if zeros > 31 {
                return None;
            }
        }
        let tail = self.take(zeros)?;
        Some((1u32 << zeros) - 1 + tail)
    }

    /// Exp-Golomb, signed (§9.1.1).
    fn se(&mut self) -> Option<i64> {
        let code = i64::from(self.ue()?);
        Some(if code % 2 == 0 { -(code / 2) } else { (code + 1) / 2 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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

    proptest! {
        #[test]
        fn arbitrary_parameter_sets_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), profile in prop::sample::select(vec![66u8, 100, 244])) {
            let mut nal = vec![0x67, profile];
            nal.extend(&bytes);
            if let Some(sps) = Sps::parse(&nal) {
                prop_assert!(sps.width > 0 && sps.height > 0 && sps.id < 32);
                let _ = sps.order_lsb(&bytes);
            }
            let _ = parameter_set_id(&nal);
        }

        #[test]
        fn exp_golomb_codes_read_back(values in prop::collection::vec(0u32..u32::MAX, 1..10)) {
            let mut text = String::new();
            for &value in &values {
                let binary = format!("{:b}", u64::from(value) + 1);
                text += &"0".repeat(binary.len() - 1);
                text += &binary;
            }
            let bytes: Vec<u8> = text.as_bytes().chunks(8).map(|chunk| {
                chunk.iter().enumerate().fold(0, |byte, (n, &bit)| byte | (bit - b'0') << (7 - n))
            }).collect();
            let mut bits = Bits::new(&bytes);
            for value in values {
                prop_assert_eq!(bits.ue(), Some(value));
            }
        }
    }
}
