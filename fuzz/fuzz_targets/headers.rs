//! Any bytes as what a decoder reads first: parameter sets of H.264 and H.265, slices, and the headers of a JPEG image.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sightline_fuzz::media::sps::Sps;
use sightline_fuzz::media::{h265, jpeg, nal};

fuzz_target!(|data: &[u8]| {
    for tail in nal::nal_tails(data) {
        assert!(data.ends_with(tail) && nal::bounded(tail).len() <= tail.len());
        let _ = nal::is_b_slice(tail);
    }
    for header in [&[][..], &[0x67], &[0x42, 0x01]] {
        let unit = [header, data].concat();
        if let Some(sps) = Sps::parse(&unit) {
            assert!(sps.width > 0 && sps.height > 0);
            if matches!(sps.profile_idc, 66 | 77 | 88 | 100) && unit.len() < 2000 {
                let renamed = Sps::parse(&sps.renamed(&unit, 83)).expect("the same parameter set");
                assert_eq!((renamed.width, renamed.height, renamed.id), (sps.width, sps.height, sps.id));
            }
        }
        if let Some(sps) = h265::Sps::parse(&unit) {
            assert!(sps.width > 0 && sps.height > 0);
        }
    }
    let image = [&[0xff, 0xd8], data].concat();
    if let Some(headers) = jpeg::Headers::read(&image) {
        assert_eq!(image.get(headers.scan..headers.scan + 2), Some(&[0xff, 0xda][..]));
    }
});
