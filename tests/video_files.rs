//! Real MP4 files, from `shared/media`: every picture that the reference decoder counted must come out, and decode.

use std::path::PathBuf;

use openh264::OpenH264API;
use openh264::decoder::{Decoder, DecoderConfig, Flush};
use openh264::formats::YUVSource;
use sightline::source::file::H264File;
use sightline::source::nal;

fn videos() -> Option<PathBuf> {
    let shared = std::env::var_os("SIGHTLINE_SHARED")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from);
    let videos = shared.join("media/video");
    if !videos.is_dir() {
        println!("skipped: {} is not there", videos.display());
        return None;
    }
    Some(videos)
}

/// Decodes a file and returns how many pictures came out of it.
fn decoded(file: &H264File) -> usize {
    let config = DecoderConfig::new().flush_after_decode(Flush::NoFlush);
    let mut decoder = Decoder::with_api_config(OpenH264API::from_source(), config).unwrap();
    let size = file.size();
    let mut pictures = 0;
    for (index, unit) in file.units().enumerate() {
        let picture = decoder.decode(&unit.data).unwrap_or_else(|error| panic!("unit {index}: {error}"));
        if let Some(picture) = picture {
            assert_eq!(picture.dimensions(), (size.0 as usize, size.1 as usize));
            pictures += 1;
        }
    }
    pictures + decoder.flush_remaining().unwrap().len()
}

#[test]
fn real_files_give_every_picture_with_its_time() {
    let Some(videos) = videos() else { return };
    for (name, size, frame_rate, frames) in [
        ("highway_dashcam_720p.mp4", (1280, 720), 30.0, 67),
        // One more than the reference counts: the file's edit list hides the last picture, which we show.
        ("street_london_720p.mp4", (1280, 720), 29.955, 152),
        ("intel_one_by_one_person_432p.mp4", (768, 432), 10.0, 1394),
    ] {
        let file = H264File::open(videos.join(name)).unwrap();
        assert_eq!((file.size(), file.len()), (size, frames), "{name}");
        assert!((file.frame_rate() / frame_rate - 1.0).abs() < 0.01, "{name}: {} frames a second", file.frame_rate());
        let mut shown: Vec<_> = file.units().map(|unit| unit.rtp_timestamp).collect();
        let reordered = !shown.is_sorted();
        shown.sort_unstable();
        shown.dedup();
        assert_eq!((shown.len(), shown[0]), (frames, 0), "{name}: each picture has a time of its own");
        let span = f64::from(shown[frames - 1]) / 90_000.0;
        assert!((span - (frames - 1) as f64 / frame_rate).abs() < 0.1 + 0.01 * span, "{name}: {span} s");
        assert!(file.units().is_sorted_by_key(|unit| unit.decode_time));
        assert_eq!(decoded(&file), frames, "{name}");
        println!("{name}: {frames} pictures over {span:.2} s, B-frames: {reordered}");
    }
}

#[test]
fn the_same_film_as_an_elementary_stream_has_the_same_order_and_pictures() {
    let Some(videos) = videos() else { return };
    for name in ["highway_dashcam_720p.mp4", "street_london_720p.mp4"] {
        let film = H264File::open(videos.join(name)).unwrap();
        let stream: Vec<u8> = film.units().flat_map(|unit| unit.data.to_vec()).collect();
        let raw = H264File::from_bytes(name, stream.into()).unwrap();
        assert_eq!((raw.len(), raw.size()), (film.len(), film.size()));
        let order = |file: &H264File| {
            let mut order: Vec<_> = file.units().map(|unit| unit.rtp_timestamp).enumerate().collect();
            order.sort_by_key(|&(_, timestamp)| timestamp);
            order.into_iter().map(|(index, _)| index).collect::<Vec<_>>()
        };
        assert_eq!(order(&raw), order(&film), "{name}: by slice headers as by the file's index");
        for (raw, film) in raw.units().zip(film.units()) {
            assert!(nal::nal_units(&raw.data).eq(nal::nal_units(&film.data)));
            assert_eq!(raw.idr, film.idr);
        }
    }
}

#[test]
fn a_webm_file_is_refused_with_the_way_out() {
    let Some(videos) = videos() else { return };
    let error = H264File::open(videos.join("kurento_talking_head_360p.webm")).unwrap_err().to_string();
    assert!(error.contains("WebM") && error.contains("ffmpeg"), "{error}");
}
