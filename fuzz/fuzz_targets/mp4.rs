//! Any bytes as an MP4 file: no panic, and a file that is accepted can be played.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use sightline_fuzz::source::file::H264File;
use sightline_fuzz::source::nal;

fuzz_target!(|data: &[u8]| {
    if let Ok(file) = H264File::from_bytes("fuzz", Bytes::copy_from_slice(data)) {
        assert!(file.units().next().is_some_and(|unit| unit.idr && nal::is_idr(&unit.data)));
        assert!(file.units().is_sorted_by_key(|unit| unit.decode_time));
        let _ = file.duration();
    }
});
