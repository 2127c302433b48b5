//! Packets in any order at any time: no panic, no endless polling, nothing before an IDR after a request for one.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sightline_fuzz::source::rtp::{Assembled, Assembler, AssemblerConfig};

fuzz_target!(|data: &[u8]| {
    let mut assembler = Assembler::new(AssemblerConfig { window: 32, ..AssemblerConfig::default() });
    let mut waiting = true;
    for packet in sightline_fuzz::packets(data) {
        let now = packet.arrived;
        assembler.push(packet);
        let mut polls = 0;
        while let Some(assembled) = assembler.poll(now) {
            polls += 1;
            assert!(polls < 200);
            match assembled {
                Assembled::AccessUnit(unit) => {
                    assert!(unit.idr || !waiting);
                    waiting = false;
                }
                Assembled::KeyframeNeeded(_) => waiting = true,
            }
        }
        assert!(assembler.deadline().is_none_or(|deadline| deadline > now));
    }
    let counters = assembler.counters();
    let refused = counters.duplicates + counters.late + counters.strays;
    assert!(refused <= counters.packets && counters.idrs <= counters.units);
});
