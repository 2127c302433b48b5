//! MP4 and QuickTime files (ISO/IEC 14496-12 and -15), whole and fragmented: the first H.264 track's samples.
//!
//! A reader of our own, because the crates at hand index and allocate by what the file says; this one trusts nothing in it.

use std::ops::Range;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::boxes::{Fields, FourCc, atoms, child, path};
use super::samples::{Sample, Samples, fragments, sample_tables};
use super::{Content, Movie, Problem, Unit, rtp_ticks};
use crate::source::nal;
use crate::source::sps::Sps;

/// Whether the data begin with a box that MP4 and QuickTime files begin with.
pub(super) fn looks_like(data: &[u8]) -> bool {
    matches!(data.get(4..8), Some(b"ftyp" | b"moov" | b"mdat" | b"wide" | b"free" | b"skip" | b"styp" | b"pnot"))
}

/// What the sample description says (ISO/IEC 14496-15 §5.3.3).
struct AvcConfig {
    nal_length: usize,
    sets: Bytes,
    sps: Sps,
}

/// The chosen track.
struct Track<'a> {
    id: u32,
    scale: u32,
    config: AvcConfig,
    tables: &'a [u8],
}

pub(super) fn read(data: &Bytes) -> Result<Movie, Problem> {
    let Some(moov) = child(data, b"moov") else {
        return Problem::damaged("it has no index (moov box): the recording was cut off before its end");
    };
    let track = video_track(moov)?;
    let mut samples = Samples::new(data.len());
    if sample_tables(track.tables, &mut samples).is_none() {
        return Problem::damaged("its sample tables contradict each other");
    }
    // A fragment that does not make sense ends the film there.
    let _ = fragments(data, moov, track.id, &mut samples);
    let samples = samples.list;
    let AvcConfig { nal_length, sets, sps } = track.config;
    let earliest = samples.iter().map(Sample::composition_time).min().unwrap_or(0);
    let begin = samples.first().map_or(0, |sample| sample.decode_time);
    let mut units = Vec::with_capacity(samples.len());
    let mut decode_time = Duration::ZERO;
    for sample in &samples {
        let Some((range, content)) = sample_content(data, sample, nal_length) else {
            tracing::warn!(usable = units.len(), indexed = samples.len(), "the video file is cut off or damaged");
            break;
        };
        // An empty sample stands for a picture that was left out.
        if content.vcl {
            // Fragments may claim to go back in time.
            decode_time = decode_time.max(seconds(sample.decode_time.saturating_sub(begin), track.scale));
            units.push(Unit {
                range,
                rtp_timestamp: rtp_ticks(sample.composition_time() - earliest, track.scale),
                decode_time,
                idr: content.idr,
                sets: if content.lacks_sets() { sets.clone() } else { Bytes::new() },
            });
        }
    }
    let Some(first_idr) = units.iter().position(|unit| unit.idr) else {
        return Problem::damaged("there is no whole IDR picture in its H.264 track");
    };
    // Recordings that were cut without encoding may begin with pictures that depend on what is gone.
    units.drain(..first_idr);
    let skipped = units.first().map_or(Duration::ZERO, |unit| unit.decode_time);
    let earliest = units.iter().map(|unit| unit.rtp_timestamp).min().unwrap_or(0);
    for unit in &mut units {
        unit.decode_time = unit.decode_time.saturating_sub(skipped);
        unit.rtp_timestamp = unit.rtp_timestamp.wrapping_sub(earliest);
    }
    let frame_rate = average_rate(&units);
    Ok(Movie { width: sps.width, height: sps.height, frame_rate, units, nal_length: Some(nal_length) })
}

/// Where a sample stands and what is in it; `None` if it lies outside the file or its NAL units do not fill it.
fn sample_content(data: &[u8], sample: &Sample, nal_length: usize) -> Option<(Range<usize>, Content)> {
    let from = usize::try_from(sample.offset).ok()?;
    let range = from..from.checked_add(usize::try_from(sample.size).ok()?)?;
    let mut content = Content::default();
    for nal in nal_units(data.get(range.clone())?, nal_length) {
        content.note(nal?);
    }
    Some((range, content))
}

/// A time as a file counts it; what is beyond all reason saturates.
fn seconds(ticks: u64, scale: u32) -> Duration {
    Duration::try_from_secs_f64(ticks as f64 / f64::from(scale)).unwrap_or(Duration::MAX)
}

/// Frames per second over the whole file; 30 for a single picture, and never beyond what a duration can be made of.
fn average_rate(units: &[Unit]) -> f64 {
    let seconds = units.last().map_or(0.0, |unit| unit.decode_time.as_secs_f64());
    let rate = units.len().saturating_sub(1) as f64 / seconds;
    if rate.is_finite() { rate.clamp(0.001, 1000.0) } else { 30.0 }
}

/// The NAL units of a sample: a length of 1 to 4 bytes before each (ISO/IEC 14496-15 §5.3.2). The last item is `None` if
/// the sample ends within one.
pub(super) fn nal_units(sample: &[u8], length: usize) -> impl Iterator<Item = Option<&[u8]>> {
    let mut fields = Fields(sample);
    std::iter::from_fn(move || {
        if fields.0.is_empty() {
            return None;
        }
        let nal = fields.bytes(length).and_then(|size| {
            let size = size.iter().fold(0usize, |size, &byte| size << 8 | usize::from(byte));
            fields.bytes(size)
        });
        if nal.is_none() {
            fields = Fields(&[]);
        }
        Some(nal)
    })
}

/// The first track of H.264, or an error that names what is there instead.
fn video_track(moov: &[u8]) -> Result<Track<'_>, Problem> {
    let mut others = Vec::new();
    for trak in atoms(moov, 0).filter(|atom| &atom.kind == b"trak").map(|atom| atom.content) {
        let Some(mdia) = child(trak, b"mdia") else { continue };
        if child(mdia, b"hdlr").and_then(|hdlr| hdlr.get(8..12)) != Some(b"vide") {
            continue;
        }
        let Some(tables) = path(mdia, &[b"minf", b"stbl"]) else { continue };
        let Some(entry) = child(tables, b"stsd").and_then(|stsd| atoms(stsd.get(8..)?, 0).next()) else { continue };
        if !matches!(&entry.kind, b"avc1" | b"avc3") {
            others.push(codec_name(entry.kind));
            continue;
        }
        let track = child(trak, b"tkhd").and_then(track_id).zip(child(mdia, b"mdhd").and_then(time_scale));
        // 78 bytes of a visual sample entry stand before its boxes (ISO/IEC 14496-12 §12.1.3).
        let config = entry.content.get(78..).and_then(|boxes| avc_config(child(boxes, b"avcC")?));
        let (Some((id, scale)), Some(config)) = (track, config) else {
            return Problem::damaged("the description of its H.264 track (avcC box) is missing or makes no sense");
        };
        return Ok(Track { id, scale, config, tables });
    }
    Err(Problem::Unsupported(if others.is_empty() { "no video track".into() } else { others.join(", ") }))
}

fn codec_name(kind: FourCc) -> String {
    match &kind {
        b"hvc1" | b"hev1" | b"dvh1" | b"dvhe" => "H.265 (HEVC) video".into(),
        b"av01" => "AV1 video".into(),
        b"vp08" => "VP8 video".into(),
        b"vp09" => "VP9 video".into(),
        b"mp4v" => "MPEG-4 Part 2 video".into(),
        b"encv" => "encrypted video".into(),
        b"apcn" | b"apch" | b"apcs" | b"apco" | b"ap4h" => "ProRes video".into(),
        other => format!("video of the kind “{}”", other.escape_ascii()),
    }
}

fn track_id(tkhd: &[u8]) -> Option<u32> {
    let mut fields = Fields(tkhd);
    let (version, _) = fields.version()?;
    fields.time(version)?;
    fields.time(version)?;
    fields.u32()
}

fn time_scale(mdhd: &[u8]) -> Option<u32> {
    let mut fields = Fields(mdhd);
    let (version, _) = fields.version()?;
    fields.time(version)?;
    fields.time(version)?;
    fields.u32().filter(|&scale| scale > 0)
}

fn avc_config(avcc: &[u8]) -> Option<AvcConfig> {
    let mut fields = Fields(avcc);
    fields.bytes(4)?; // version, profile, compatibility, level
    let nal_length = usize::from(fields.u8()? & 3) + 1;
    let mut sets = BytesMut::new();
    let mut sps = None;
    for mask in [0x1f, 0xff] {
        for _ in 0..fields.u8()? & mask {
            let size = fields.u16()?;
            let set = fields.bytes(usize::from(size))?;
            nal::put_nal(&mut sets, set);
            sps = sps.or_else(|| Sps::parse(set));
        }
    }
    Some(AvcConfig { nal_length, sets: sets.freeze(), sps: sps? })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::source::SourceError;
    use crate::source::file::H264File;

    const SPS_NAL: &[u8] = &[0x67, 0x42, 0xc0, 0x1f, 0x8c, 0x8d, 0x40, 0x50, 0x1e, 0xd0, 0x0f, 0x08, 0x84, 0x6a];
    const PPS_NAL: &[u8] = &[0x68, 0xce, 0x3c, 0x80];

    fn atom(kind: &FourCc, parts: &[&[u8]]) -> Vec<u8> {
        let content = parts.concat();
        [&u32::try_from(content.len() + 8).unwrap().to_be_bytes()[..], kind, &content].concat()
    }

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_be_bytes()).collect()
    }

    /// Three pictures in decoding order I, P, B: each one NAL unit behind a four-byte length.
    fn samples() -> Vec<Vec<u8>> {
        [&[0x65, 0x88, 1][..], &[0x61, 0x88, 2, 3], &[0x01, 0x88, 4]]
            .map(|nal| [&u32::try_from(nal.len()).unwrap().to_be_bytes()[..], nal].concat())
            .into()
    }

    fn movie(codec: &FourCc, tables: &[u8], more: &[u8]) -> Vec<u8> {
        let sets = |nal: &[u8]| [&u16::try_from(nal.len()).unwrap().to_be_bytes()[..], nal].concat();
        let avcc = atom(b"avcC", &[&[1, 66, 0, 31, 0xff, 0xe1], &sets(SPS_NAL), &[1], &sets(PPS_NAL)]);
        let stsd = atom(b"stsd", &[&words(&[0, 1]), &atom(codec, &[&[0; 78], &avcc])]);
        let stbl = atom(b"stbl", &[&stsd, tables]);
        let mdhd = atom(b"mdhd", &[&words(&[0, 0, 0, 600, 0, 0])]);
        let hdlr = atom(b"hdlr", &[&words(&[0, 0]), b"vide", &[0; 13]]);
        let mdia = atom(b"mdia", &[&mdhd, &hdlr, &atom(b"minf", &[&stbl])]);
        let sound = atom(b"trak", &[&atom(b"mdia", &[&atom(b"hdlr", &[&words(&[0, 0]), b"soun", &[0; 13]])])]);
        let trak = atom(b"trak", &[&atom(b"tkhd", &[&words(&[0, 0, 0, 7, 0])]), &mdia]);
        atom(b"moov", &[&sound, &trak, more])
    }

    fn whole(codec: &FourCc) -> Vec<u8> {
        let start = atom(b"ftyp", &[b"isom"]);
        let samples = samples();
        let first = u32::try_from(start.len() + 8).unwrap();
        let sizes: Vec<u32> = samples.iter().map(|sample| u32::try_from(sample.len()).unwrap()).collect();
        let tables = [
            atom(b"stsz", &[&words(&[0, 0, 3]), &words(&sizes)]),
            atom(b"stts", &[&words(&[0, 1, 3, 20])]),
            atom(b"ctts", &[&words(&[0, 3, 1, 20, 1, 40, 1, 0])]),
            // Two chunks: one of two samples, one of one.
            atom(b"stsc", &[&words(&[0, 2, 1, 2, 1, 2, 1, 1])]),
            atom(b"stco", &[&words(&[0, 2, first, first + sizes[0] + sizes[1]])]),
        ]
        .concat();
        [start, atom(b"mdat", &[&samples.concat()]), movie(codec, &tables, &[])].concat()
    }

    fn fragmented() -> Vec<u8> {
        let tables = [atom(b"stsz", &[&words(&[0, 0, 0])]), atom(b"stsc", &[&words(&[0, 0])])].concat();
        let trex = atom(b"mvex", &[&atom(b"trex", &[&words(&[0, 7, 1, 20, 0, 0])])]);
        let mut file = [atom(b"ftyp", &[b"iso5"]), movie(b"avc1", &tables, &trex)].concat();
        for (number, sample) in (0u32..).zip(samples()) {
            let moof = |offset: u32| {
                let trun = [0x0000_0a01, 1, offset, u32::try_from(sample.len()).unwrap(), [20, 40, 0][number as usize]];
                let tfhd = atom(b"tfhd", &[&words(&[0x0002_0000, 7])]);
                let tfdt = atom(b"tfdt", &[&words(&[0x0100_0000, 0, number * 20])]);
                atom(b"moof", &[&atom(b"traf", &[&tfhd, &tfdt, &atom(b"trun", &[&words(&trun)])])])
            };
            let offset = u32::try_from(moof(0).len() + 8).unwrap();
            file.extend([moof(offset), atom(b"mdat", &[&sample])].concat());
        }
        file
    }

    #[test]
    fn whole_and_fragmented_files_give_the_same_units() {
        for data in [whole(b"avc1"), whole(b"avc3"), fragmented()] {
            let file = H264File::from_bytes("test.mp4", data.into()).unwrap();
            assert_eq!((file.size(), file.len()), ((640, 480), 3));
            assert!((file.frame_rate() - 30.0).abs() < 1e-3);
            let units: Vec<_> = file.units().collect();
            let nals: Vec<_> = units.iter().map(|unit| nal::nal_units(&unit.data).collect::<Vec<_>>()).collect();
            assert_eq!(nals[0], [SPS_NAL, PPS_NAL, &[0x65, 0x88, 1]]);
            assert_eq!(nals[1..], [[&[0x61, 0x88, 2, 3][..]], [&[0x01, 0x88, 4]]]);
            // I is shown first, then B, then P.
            assert_eq!(units.iter().map(|unit| unit.rtp_timestamp).collect::<Vec<_>>(), [0, 6000, 3000]);
            let due: Vec<_> = units.iter().map(|unit| unit.decode_time.as_micros()).collect();
            assert_eq!(due, [0, 33_333, 66_666]);
            assert_eq!(units.iter().map(|unit| unit.idr).collect::<Vec<_>>(), [true, false, false]);
        }
    }

    #[test]
    fn another_codec_is_named_with_the_way_out() {
        for (codec, name) in [(b"hvc1", "HEVC"), (b"av01", "AV1"), (b"zzzz", "zzzz")] {
            let error = H264File::from_bytes("film.mp4", whole(codec).into()).unwrap_err();
            assert!(matches!(&error, SourceError::Unsupported { .. }));
            let message = error.to_string();
            assert!(message.contains("film.mp4") && message.contains(name) && message.contains("ffmpeg"), "{message}");
        }
    }

    #[test]
    fn a_file_that_was_cut_off_plays_as_far_as_it_goes() {
        let data = fragmented();
        let last = H264File::from_bytes("test.mp4", data[..data.len() - 1].to_vec().into()).unwrap();
        assert_eq!(last.len(), 2);
        let data = whole(b"avc1");
        let message = H264File::from_bytes("test.mp4", data[..60].to_vec().into()).unwrap_err().to_string();
        assert!(message.contains("index"), "{message}");
    }

    #[test]
    fn a_small_file_cannot_claim_millions_of_samples() {
        let tables = [
            atom(b"stsz", &[&words(&[0, 1, u32::MAX])]),
            atom(b"stts", &[&words(&[0, 1, u32::MAX, 1])]),
            atom(b"stsc", &[&words(&[0, 1, 1, u32::MAX, 1])]),
            atom(b"stco", &[&words(&[0, 1, 0])]),
        ];
        let data = movie(b"avc1", &tables.concat(), &[]);
        let track = video_track(child(&data, b"moov").unwrap()).unwrap();
        let mut samples = Samples::new(data.len());
        assert_eq!(sample_tables(track.tables, &mut samples), Some(()));
        assert_eq!(samples.list.len(), data.len());
        assert!(H264File::from_bytes("test.mp4", data.into()).is_err());
    }

    proptest! {
        #[test]
        fn damaged_files_never_panic(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
            end in any::<prop::sample::Index>(),
            cut in any::<bool>(),
            parts in any::<bool>(),
        ) {
            let mut data = if parts { fragmented() } else { whole(b"avc1") };
            for (index, value) in changes {
                let at = index.index(data.len());
                data[at] = value;
            }
            if cut {
                data.truncate(end.index(data.len()));
            }
            if let Ok(file) = H264File::from_bytes("test.mp4", data.into()) {
                prop_assert_eq!(file.units().count(), file.len());
                prop_assert!(file.units().is_sorted_by_key(|unit| unit.decode_time));
                prop_assert!(file.duration() >= file.units().last().unwrap().decode_time);
                prop_assert!(file.units().next().is_some_and(|unit| unit.idr && nal::is_idr(&unit.data)));
            }
        }
    }
}
