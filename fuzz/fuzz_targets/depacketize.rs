//! Payloads in any order: no panic, no unit over the limit, and what comes out is Annex B with its parameter sets.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sightline_fuzz::media::MAX_ACCESS_UNIT_BYTES;
use sightline_fuzz::source::nal::{self, PPS, SPS};
use sightline_fuzz::source::rtp::Depacketizer;

fuzz_target!(|data: &[u8]| {
    let mut depacketizer = Depacketizer::new();
    for packet in sightline_fuzz::packets(data) {
        depacketizer.push(&packet);
        if !packet.marker {
            continue;
        }
        if let Some(Ok(unit)) = depacketizer.finish() {
            assert!(unit.data.starts_with(&nal::START_CODE) && unit.data.len() <= MAX_ACCESS_UNIT_BYTES);
            assert!(unit.first_packet <= unit.last_packet);
            if unit.idr {
                let has = |wanted| nal::nal_units(&unit.data).any(|nal| nal::nal_type(nal) == Some(wanted));
                assert!(has(SPS) && has(PPS));
            }
        }
    }
});
