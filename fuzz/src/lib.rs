//! The sans-IO parsers of the main crate, under the same paths as there, and what the fuzz targets share.

#![allow(clippy::all, clippy::pedantic)] // the main crate's lints are the main crate's

#[path = "../../src/media/mod.rs"]
pub mod media;

#[path = "../../src/source"]
pub mod source {
    mod error;
    pub mod file;
    pub mod rtp;

    pub use crate::media::{nal, sps};
    pub use error::SourceError;
}

use std::time::{Duration, Instant};

use bytes::Bytes;
use media::RtpPacket;

/// RTP packets out of fuzz input: eight bytes of header each (step of the sequence, of the timestamp, flags, time passed,
/// length), then the payload. Most values give a plausible stream, so that the fuzzer gets beyond the first checks.
pub fn packets(mut data: &[u8]) -> impl Iterator<Item = RtpPacket> {
    let (mut sequence, mut timestamp, mut now) = (65_500u16, u32::MAX - 9000, Instant::now());
    std::iter::from_fn(move || {
        let (head, tail) = data.split_first_chunk::<8>()?;
        let &[step, jump, ticks, flags, ms, kind, len_high, len_low] = head;
        sequence = match step {
            0..=199 => sequence.wrapping_add(1),
            200..=249 => sequence.wrapping_add(u16::from(step - 200)).wrapping_sub(25),
            _ => u16::from_be_bytes([jump, ticks]),
        };
        timestamp =
            if ticks & 3 == 0 { timestamp.wrapping_add(3000) } else { timestamp.wrapping_add(u32::from(ticks >> 7)) };
        now += Duration::from_millis(u64::from(ms));
        let len = usize::from(u16::from_be_bytes([len_high & 7, len_low])).min(tail.len());
        let (body, rest) = tail.split_at(len);
        data = rest;
        // Mostly one of the payload structures that mean something; the fuzzer's own bytes otherwise.
        let first = [0x61, 0x65, 0x67, 0x68, 0x78, 0x7c, 0x06, 0x09].get(usize::from(kind));
        let payload: Vec<u8> = first.into_iter().chain(body).copied().collect();
        Some(RtpPacket {
            sequence_number: sequence,
            timestamp,
            marker: flags & 1 == 1,
            payload: Bytes::from(payload),
            arrived: now,
        })
    })
}
