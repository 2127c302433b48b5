//! H.264 NAL units in an Annex B byte stream: finding them, and what their first bytes say (ITU-T H.264 §7.3.1, Annex B).

use super::bits::Bits;

/// Coded slice of a picture that is not an IDR (`nal_unit_type` 1, Table 7-1).
pub const SLICE: u8 = 1;
/// Coded slice of an IDR picture.
pub const IDR: u8 = 5;
/// Supplemental enhancement information.
pub const SEI: u8 = 6;
/// Sequence parameter set.
pub const SPS: u8 = 7;
/// Picture parameter set.
pub const PPS: u8 = 8;
/// Access unit delimiter.
pub const AUD: u8 = 9;

/// The four-byte start code that stands before each NAL unit that we write.
pub const START_CODE: [u8; 4] = [0, 0, 0, 1];

/// The `nal_unit_type` of a NAL unit without its start code; `None` for an empty one.
#[must_use]
pub fn nal_type(nal: &[u8]) -> Option<u8> {
    nal.first().map(|header| header & 0x1f)
}

/// Whether a `nal_unit_type` is a coded slice or a partition of one (VCL, Table 7-1).
#[must_use]
pub fn is_vcl(nal_type: u8) -> bool {
    (SLICE..=IDR).contains(&nal_type)
}

/// Whether a slice is the first of its picture: `first_mb_in_slice`, an Exp-Golomb code, is 0 exactly when its first
/// bit is set (§7.3.3).
#[must_use]
pub fn is_first_slice(nal: &[u8]) -> bool {
    nal_type(nal).is_some_and(is_vcl) && nal.get(1).is_some_and(|byte| byte & 0x80 != 0)
}

/// Whether an Annex B access unit holds a slice of an IDR picture.
#[must_use]
pub fn is_idr(annex_b: &[u8]) -> bool {
    nal_units(annex_b).any(|nal| nal_type(nal) == Some(IDR))
}

/// The NAL units of an Annex B byte stream, in order, without start codes and without trailing zero bytes. Bytes before
/// the first start code are no NAL unit and are skipped; empty NAL units are too.
#[must_use]
pub fn nal_units(annex_b: &[u8]) -> NalUnits<'_> {
    let begin = find_start_code(annex_b, 0).map_or(annex_b.len(), |at| at + 3);
    NalUnits { stream: annex_b, begin }
}

/// See [`nal_units`].
#[derive(Clone, Debug)]
pub struct NalUnits<'a> {
    stream: &'a [u8],
    begin: usize,
}

impl<'a> NalUnits<'a> {
    /// The next NAL unit with the offset of its first byte (behind the start code).
    pub fn next_at(&mut self) -> Option<(usize, &'a [u8])> {
        while self.begin < self.stream.len() {
            let begin = self.begin;
            let next = find_start_code(self.stream, begin);
            self.begin = next.map_or(self.stream.len(), |at| at + 3);
            let nal = self.stream.get(begin..next.unwrap_or(self.stream.len()))?;
            let nal = trimmed(nal);
            if !nal.is_empty() {
                return Some((begin, nal));
            }
        }
        None
    }
}

impl<'a> Iterator for NalUnits<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<Self::Item> {
        self.next_at().map(|(_, nal)| nal)
    }
}

/// Offset of the next three-byte start code `00 00 01` at or after `from`.
fn find_start_code(stream: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    // The third byte decides how far to step: most bytes of a coded slice are above 1, so that two of three bytes are
    // never looked at.
    while let Some(&third) = stream.get(at + 2) {
        match third {
            0 => at += 1,
            1 if stream.get(at..at + 2) == Some(&[0, 0]) => return Some(at),
            _ => at += 3,
        }
    }
    None
}

/// The NAL units of an Annex B byte stream, each from its header to the end of the *stream*: whoever reads only headers
/// does not search a slice of many kilobytes for its end. [`bounded`] cuts a unit at its own.
pub fn nal_tails(annex_b: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            at = find_start_code(annex_b, at)? + 3;
            let tail = annex_b.get(at..)?;
            // Nothing but zeros up to the next start code, or the end: an empty unit.
            if !matches!(tail, [] | [0] | [0, 0] | [0, 0, 0 | 1, ..]) {
                return Some(tail);
            }
        }
    })
}

/// The unit at the beginning of a tail, without the zero bytes that trail it.
#[must_use]
pub fn bounded(tail: &[u8]) -> &[u8] {
    let end = find_start_code(tail, 0).unwrap_or(tail.len());
    trimmed(tail.get(..end).unwrap_or_default())
}

/// A NAL unit never ends in a zero byte (§7.4.1): what stands there is `trailing_zero_8bits`, or the first byte of a
/// four-byte start code.
fn trimmed(nal: &[u8]) -> &[u8] {
    let len = nal.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    nal.get(..len).unwrap_or_default()
}

/// Whether a slice NAL unit holds a B slice (§7.4.3, `slice_type` 1 or 6).
#[must_use]
pub fn is_b_slice(nal: &[u8]) -> bool {
    let mut bits = Bits::new(nal.get(1..).unwrap_or_default());
    let slice_type = bits.ue().and_then(|_first_macroblock| bits.ue());
    matches!(slice_type, Some(1 | 6))
}

/// Appends one NAL unit behind a start code.
pub(crate) fn put_nal(out: &mut bytes::BytesMut, nal: &[u8]) {
    out.extend_from_slice(&START_CODE);
    out.extend_from_slice(nal);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A payload as an encoder makes it: header of a given type, no start code inside, no zero at the end.
    pub(crate) fn any_nal() -> impl Strategy<Value = Vec<u8>> {
        (1u8..24, prop::collection::vec(any::<u8>(), 0..200)).prop_map(|(nal_type, tail)| {
            let mut nal = vec![0x60 | nal_type];
            for byte in tail {
                if byte <= 3 && nal.ends_with(&[0, 0]) {
                    nal.push(3);
                }
                nal.push(byte);
            }
            nal.push(0x80);
            nal
        })
    }

    #[test]
    fn three_and_four_byte_start_codes_both_separate() {
        let stream = [9, 9, 0, 0, 1, 0x67, 1, 2, 0, 0, 0, 1, 0x68, 3, 0, 0, 0, 0, 1, 0x65, 0x88, 0, 0];
        let nals: Vec<_> = nal_units(&stream).collect();
        assert_eq!(nals, [&[0x67u8, 1, 2][..], &[0x68, 3], &[0x65, 0x88]]);
        assert!(is_idr(&stream));
        assert!(is_first_slice(&[0x65, 0x88]) && !is_first_slice(&[0x65, 0x40]) && !is_first_slice(&[0x67, 0x88]));
    }

    #[test]
    fn a_stream_without_start_codes_has_no_nal_units() {
        for stream in [&[][..], &[0], &[0, 0], &[1, 2, 3, 4], &[0, 0, 1], &[0, 0, 1, 0, 0, 1], &[0, 0, 1, 0, 0]] {
            assert_eq!(nal_units(stream).count(), 0, "{stream:?}");
            assert_eq!(nal_tails(stream).count(), 0, "{stream:?}");
        }
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
        fn what_is_joined_with_start_codes_comes_apart_again(
            nals in prop::collection::vec(any_nal(), 0..8),
            short in prop::collection::vec(any::<bool>(), 8),
            zeros in 0usize..3,
        ) {
            let mut stream = Vec::new();
            for (nal, short) in nals.iter().zip(short) {
                stream.extend_from_slice(if short { &START_CODE[1..] } else { &START_CODE });
                stream.extend_from_slice(nal);
                stream.resize(stream.len() + zeros, 0);
            }
            prop_assert_eq!(nal_units(&stream).map(<[u8]>::to_vec).collect::<Vec<_>>(), nals.clone());
            prop_assert_eq!(nal_tails(&stream).map(|tail| bounded(tail).to_vec()).collect::<Vec<_>>(), nals);
        }

        #[test]
        fn arbitrary_bytes_yield_only_their_own_parts(stream in prop::collection::vec(0u8..4, 0..300)) {
            let mut units = nal_units(&stream);
            while let Some((at, nal)) = units.next_at() {
                prop_assert_eq!(&stream[at..at + nal.len()], nal);
                prop_assert_eq!(&stream[at - 3..at], &[0, 0, 1]);
                prop_assert!(!nal.windows(3).any(|w| w == [0, 0, 1]));
            }
            for tail in nal_tails(&stream) {
                prop_assert!(stream.ends_with(tail) && !bounded(tail).windows(3).any(|w| w == [0, 0, 1]));
                let _ = is_b_slice(tail);
            }
        }
    }
}
