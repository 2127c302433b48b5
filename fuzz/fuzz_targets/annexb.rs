//! Any bytes as an elementary stream: the NAL units lie within it, and a file that is accepted can be played.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use sightline_fuzz::source::file::H264File;
use sightline_fuzz::source::nal;
use sightline_fuzz::source::sps::{Sps, parameter_set_id};

fuzz_target!(|data: &[u8]| {
    let mut units = nal::nal_units(data);
    while let Some((at, unit)) = units.next_at() {
        assert_eq!(data.get(at..at + unit.len()), Some(unit));
        if let Some(sps) = Sps::parse(unit) {
            assert!(sps.width > 0 && sps.height > 0);
            let _ = sps.order_lsb(data);
        }
        let _ = parameter_set_id(unit);
    }
    let stream = [&nal::START_CODE, data].concat();
    if let Ok(file) = H264File::from_bytes("fuzz", Bytes::from(stream)) {
        assert!(file.units().next().is_some_and(|unit| unit.idr));
        assert!(file.units().is_sorted_by_key(|unit| unit.decode_time));
        let _ = file.duration();
    }
});
