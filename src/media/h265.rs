//! H.265: NAL unit types, and as much of the sequence parameter set as says what a stream is (ITU-T H.265 §7.3).

use super::bits::Bits;
use super::sps::MAX_PARAMETER_SET_BYTES;

/// Sequence parameter set (`nal_unit_type` 33, Table 7-1).
pub const SPS: u8 = 33;

/// The `nal_unit_type` of a NAL unit without its start code; `None` for an empty one.
#[must_use]
pub fn nal_type(nal: &[u8]) -> Option<u8> {
    nal.first().map(|header| header >> 1 & 0x3f)
}

/// Whether a `nal_unit_type` is a slice segment (VCL, Table 7-1).
#[must_use]
pub fn is_vcl(nal_type: u8) -> bool {
    nal_type < 32
}

/// Whether a `nal_unit_type` is a slice of an IRAP picture (IDR, CRA or BLA), at which decoding can start.
#[must_use]
pub fn is_irap(nal_type: u8) -> bool {
    (16..=23).contains(&nal_type)
}

/// What an H.265 sequence parameter set says (§7.3.2.2), up to the depth of its reordering.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sps {
    /// `general_profile_idc`: 1 Main, 2 Main 10, 3 Main Still Picture, 4 range extensions.
    pub profile_idc: u8,
    /// `general_level_idc`: thirty times the level.
    pub level_idc: u8,
    /// Chroma: 0 none, 1 4:2:0, 2 4:2:2, 3 4:4:4.
    pub chroma_format_idc: u32,
    /// Bits of a luma or chroma sample, the larger of the two.
    pub bit_depth: u32,
    /// Width of the picture after cropping, in pixels.
    pub width: u32,
    /// Height of the picture after cropping, in pixels.
    pub height: u32,
    /// Whether the source says that it is interlaced (`general_interlaced_source_flag` alone).
    pub interlaced: bool,
    /// How many pictures may come before one that is shown earlier, at the highest temporal layer.
    pub max_num_reorder_pics: u32,
}

impl Sps {
    /// Reads a NAL unit of type 33, without its start code. `None` if it is no SPS, damaged, or of no possible size.
    #[must_use]
    pub fn parse(nal: &[u8]) -> Option<Self> {
        if nal_type(nal) != Some(SPS) || nal.len() > MAX_PARAMETER_SET_BYTES {
            return None;
        }
        let mut bits = Bits::new(nal.get(2..)?);
        bits.skip(4)?; // sps_video_parameter_set_id
        let sub_layers = bits.take(3)?; // minus 1
        bits.flag()?; // sps_temporal_id_nesting_flag
        let (profile_idc, interlaced, level_idc) = profile_tier_level(&mut bits, sub_layers)?;
        bits.ue().filter(|&id| id < 16)?; // sps_seq_parameter_set_id
        let chroma_format_idc = bits.ue().filter(|&idc| idc <= 3)?;
        if chroma_format_idc == 3 {
            bits.flag()?; // separate_colour_plane_flag
        }
        let (mut width, mut height) = (bits.ue()?, bits.ue()?);
        if bits.flag()? {
            let (unit_x, unit_y) = match chroma_format_idc {
                1 => (2, 2),
                2 => (2, 1),
                _ => (1, 1),
            };
            let (left, right, top, bottom) = (bits.ue()?, bits.ue()?, bits.ue()?, bits.ue()?);
            width = width.checked_sub(left.checked_add(right)?.checked_mul(unit_x)?)?;
            height = height.checked_sub(top.checked_add(bottom)?.checked_mul(unit_y)?)?;
        }
        if width == 0 || height == 0 {
            return None;
        }
        let bit_depth = bits.ue()?.max(bits.ue()?).checked_add(8)?;
        bits.ue()?; // log2_max_pic_order_cnt_lsb_minus4
        // One entry for each temporal layer, or one for all; the last is that of the highest.
        let entries = if bits.flag()? { sub_layers + 1 } else { 1 };
        let mut max_num_reorder_pics = 0;
        for _ in 0..entries {
            bits.ue()?; // sps_max_dec_pic_buffering_minus1
            max_num_reorder_pics = bits.ue()?;
            bits.ue()?; // sps_max_latency_increase_plus1
        }
        Some(Self {
            profile_idc,
            level_idc,
            chroma_format_idc,
            bit_depth,
            width,
            height,
            interlaced,
            max_num_reorder_pics,
        })
    }
}

/// Reads `profile_tier_level` (§7.3.3): the profile, whether the source is interlaced, and the level.
fn profile_tier_level(bits: &mut Bits<'_>, sub_layers: u32) -> Option<(u8, bool, u8)> {
    const MOST_SUB_LAYERS: u32 = 8;
    bits.skip(3)?; // general_profile_space, general_tier_flag
    let profile_idc = u8::try_from(bits.take(5)?).ok()?;
    bits.skip(32)?; // general_profile_compatibility_flag
    let progressive = bits.flag()?;
    let interlaced = bits.flag()?;
    bits.skip(46)?; // non-packed, frame-only, 43 bits of the profile, one reserved
    let level_idc = u8::try_from(bits.take(8)?).ok()?;
    let mut present = Vec::new();
    for _ in 0..sub_layers {
        present.push((bits.flag()?, bits.flag()?));
    }
    if sub_layers > 0 {
        bits.skip(2 * MOST_SUB_LAYERS.saturating_sub(sub_layers))?;
    }
    for (profile, level) in present {
        bits.skip(if profile { 88 } else { 0 } + if level { 8 } else { 0 })?;
    }
    Some((profile_idc, interlaced && !progressive, level_idc))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    }

    /// x265, 640×360 at 8 bits with B pictures, and 320×240 at 10 bits without.
    const MAIN: &str = "42010101600000030090000003000003003fa00502016965959a4932bc05a020000003002000000303c1";
    const MAIN10: &str = "42010102200000030090000003000003003ca00a080f136592a4932bc05a020000030002000003003c10";

    #[test]
    fn a_main_sps_gives_size_level_and_reordering() {
        let sps = Sps::parse(&bytes(MAIN)).unwrap();
        assert_eq!((sps.profile_idc, sps.width, sps.height, sps.bit_depth), (1, 640, 360, 8));
        assert_eq!((sps.level_idc, sps.chroma_format_idc, sps.interlaced), (63, 1, false));
        assert!(sps.max_num_reorder_pics > 0);
    }

    #[test]
    fn a_main_10_sps_gives_its_depth_and_that_nothing_is_reordered() {
        let sps = Sps::parse(&bytes(MAIN10)).unwrap();
        assert_eq!((sps.profile_idc, sps.width, sps.height, sps.bit_depth), (2, 320, 240, 10));
        assert_eq!(sps.max_num_reorder_pics, 0);
    }

    #[test]
    fn a_truncated_sps_is_refused() {
        let whole = bytes(MAIN);
        assert_eq!(Sps::parse(&whole[..20]), None);
        assert_eq!(Sps::parse(&[]), None);
        assert_eq!(Sps::parse(&[0x67, 0x42]), None, "H.264");
    }

    #[test]
    fn types_are_read_from_the_two_byte_header() {
        assert_eq!(nal_type(&[0x42, 0x01]), Some(SPS));
        assert!(is_irap(19) && is_irap(21) && !is_irap(1) && is_vcl(19) && !is_vcl(SPS));
    }

    proptest! {
        #[test]
        fn arbitrary_parameter_sets_never_panic(payload in prop::collection::vec(any::<u8>(), 0..120)) {
            let nal = [&[0x42, 0x01], &payload[..]].concat();
            if let Some(sps) = Sps::parse(&nal) {
                prop_assert!(sps.width > 0 && sps.height > 0);
            }
        }
    }
}
