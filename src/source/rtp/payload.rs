//! The payload structures of RFC 6184, looked at from outside: what a packet holds, and what can be wrong with it.

use crate::media::MAX_ACCESS_UNIT_BYTES;
use crate::source::nal::{self, AUD, IDR, SPS};

/// `nal_unit_type` of the payload structures (RFC 6184 §5.2, Table 1).
pub(super) const STAP_A: u8 = 24;
pub(super) const FU_A: u8 = 28;

/// Why an access unit cannot be used. It costs that unit, and those that depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// A packet of it is missing.
    #[error("a packet of the access unit was lost")]
    Incomplete,
    /// An aggregation or fragment is shorter than it says, or a NAL unit is damaged (RFC 6184 §5.3, §5.7, §5.8).
    #[error("the payload is malformed")]
    Malformed,
    /// A fragment without its start, or a fragmented NAL unit without its end (RFC 6184 §5.8).
    #[error("a fragmented NAL unit lacks its start or end")]
    Fragment,
    /// A payload structure that packetization mode 1 does not have: STAP-B, MTAP, FU-B, or a reserved type.
    #[error("payload type {0} is not of packetization mode 1")]
    Unsupported(u8),
    /// It is larger than [`MAX_ACCESS_UNIT_BYTES`].
    #[error("the access unit is larger than {MAX_ACCESS_UNIT_BYTES} bytes")]
    Oversize,
    /// An IDR, and no SPS or PPS was ever seen.
    #[error("an IDR without parameter sets")]
    NoParameterSets,
}

/// What the first bytes of a payload say about the access unit that it belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PayloadKind {
    /// It begins with an access unit delimiter or an SPS: nothing that matters stands before it in its unit.
    pub starts_unit: bool,
    /// It holds (a part of) an SPS.
    pub sps: bool,
    /// It holds (a part of) a slice.
    pub vcl: bool,
    /// It holds (a part of) a slice of an IDR picture.
    pub idr: bool,
}

impl PayloadKind {
    /// Looks at a payload of any structure; damaged ones say nothing.
    #[must_use]
    pub fn of(payload: &[u8]) -> Self {
        let mut kind = Self::default();
        let mut note = |nal_type: u8, first: bool| {
            kind.starts_unit |= first && matches!(nal_type, AUD | SPS);
            kind.sps |= nal_type == SPS;
            kind.vcl |= nal::is_vcl(nal_type);
            kind.idr |= nal_type == IDR;
        };
        match nal::nal_type(payload) {
            Some(nal_type @ 1..=23) => note(nal_type, true),
            Some(STAP_A) => {
                for (index, nal) in aggregated(payload).map_while(Result::ok).enumerate() {
                    note(nal::nal_type(nal).unwrap_or(0), index == 0);
                }
            }
            Some(FU_A) => {
                if let Some(header) = payload.get(1) {
                    note(header & 0x1f, header & 0x80 != 0);
                }
            }
            _ => {}
        }
        kind
    }
}

/// The NAL units of a STAP-A payload (RFC 6184 §5.7.1): a 16-bit size before each.
pub(super) fn aggregated(payload: &[u8]) -> impl Iterator<Item = Result<&[u8], UnitError>> {
    let mut rest = payload.get(1..).unwrap_or_default();
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let cut = rest.split_first_chunk::<2>().and_then(|(size, tail)| {
            let size = usize::from(u16::from_be_bytes(*size));
            if size == 0 { None } else { tail.split_at_checked(size) }
        });
        let Some((nal, tail)) = cut else {
            rest = &[];
            return Some(Err(UnitError::Malformed));
        };
        rest = tail;
        Some(Ok(nal))
    })
}
