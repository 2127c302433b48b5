//! Annotated video as MP4 (ISO/IEC 14496-12, -15): one track of H.264 without reordering, all of it in one chunk, its index behind
//! it.

use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::Path;

use anyhow::{Context, anyhow, ensure};
use sightline::media::nal::{AUD, PPS, SPS, nal_type, nal_units};

/// Ticks in a second of all times in the file: the RTP clock of video.
const TIME_SCALE: u32 = 90_000;

/// How long the last picture is shown where there is no other to tell: a thirtieth of a second.
const LAST_SHOWN: u32 = TIME_SCALE / 30;

/// The head of the media data: a box of 64 bits of size.
const MDAT_HEAD: u64 = 16;

pub struct Mp4Writer {
    file: BufWriter<File>,
    /// Where the media data's box begins.
    mdat: u64,
    size: (u16, u16),
    parameters: Option<(Vec<u8>, Vec<u8>)>,
    samples: Vec<Sample>,
}

struct Sample {
    bytes: u32,
    /// When it is shown, in ticks.
    time: u32,
    idr: bool,
}

impl Mp4Writer {
    pub fn create(path: &Path, (width, height): (usize, usize)) -> anyhow::Result<Self> {
        let side = |side: usize| u16::try_from(side & !1).map_err(|_| anyhow!("{side} pixels are too many"));
        let size = (side(width)?, side(height)?);
        let mut file = BufWriter::new(File::create(path).with_context(|| path.display().to_string())?);
        let brands = boxed(b"ftyp", &[&b"isom"[..], &512u32.to_be_bytes(), b"isomiso2avc1mp41"]);
        file.write_all(&brands)?;
        // Its size is written when it is known.
        file.write_all(&[&1u32.to_be_bytes()[..], b"mdat", &0u64.to_be_bytes()].concat())?;
        Ok(Self { file, mdat: brands.len() as u64, size, parameters: None, samples: Vec::new() })
    }

    /// Takes an access unit (Annex B) that is shown at `time`, later than the one before.
    pub fn add(&mut self, annex_b: &[u8], idr: bool, time: u32) -> anyhow::Result<()> {
        let (mut sps, mut pps, mut sample) = (None, None, Vec::with_capacity(annex_b.len() + 16));
        for nal in nal_units(annex_b) {
            match nal_type(nal) {
                Some(SPS) => sps = Some(nal),
                Some(PPS) => pps = Some(nal),
                Some(AUD) => {}
                _ => {
                    sample.extend_from_slice(&u32::try_from(nal.len())?.to_be_bytes());
                    sample.extend_from_slice(nal);
                }
            }
        }
        if let (Some(sps), Some(pps)) = (sps, pps) {
            let (first, second) = self.parameters.get_or_insert_with(|| (sps.to_vec(), pps.to_vec()));
            ensure!(first == sps && second == pps, "the size of the pictures changes, which no MP4 track can follow");
        }
        ensure!(self.parameters.is_some(), "the video does not begin with its parameter sets");
        self.file.write_all(&sample)?;
        self.samples.push(Sample { bytes: u32::try_from(sample.len())?, time, idr });
        Ok(())
    }

    /// Writes the index. Without it the file cannot be played.
    pub fn finish(mut self) -> anyhow::Result<()> {
        let bytes = MDAT_HEAD + self.samples.iter().map(|sample| u64::from(sample.bytes)).sum::<u64>();
        let index = self.moov()?;
        self.file.write_all(&index)?;
        self.file.seek(SeekFrom::Start(self.mdat + 8))?;
        self.file.write_all(&bytes.to_be_bytes())?;
        self.file.flush()?;
        Ok(())
    }

    /// How long each picture is shown.
    fn durations(&self) -> Vec<u32> {
        let times = self.samples.iter().map(|sample| sample.time);
        let mut durations: Vec<u32> = times.clone().zip(times.skip(1)).map(|(a, b)| b.wrapping_sub(a)).collect();
        durations.push(durations.last().copied().unwrap_or(LAST_SHOWN));
        durations
    }

    fn moov(&self) -> anyhow::Result<Vec<u8>> {
        let durations = self.durations();
        let total: u64 = durations.iter().copied().map(u64::from).sum();
        let total = u32::try_from(total).unwrap_or(u32::MAX).to_be_bytes();
        let (width, height) = (u32::from(self.size.0) << 16, u32::from(self.size.1) << 16);
        let scale = TIME_SCALE.to_be_bytes();
        let mvhd = full(
            b"mvhd",
            0,
            &[&[0; 8], &scale, &total, &fixed(1.0), &[1, 0], &[0; 10], &matrix(), &[0; 24], &2u32.to_be_bytes()],
        );
        let sides = [width.to_be_bytes(), height.to_be_bytes()].concat();
        // Enabled, in the movie, in the preview.
        let tkhd = full(b"tkhd", 7, &[&[0; 8], &1u32.to_be_bytes(), &[0; 4], &total, &[0; 16], &matrix(), &sides]);
        // The language `und`, ISO 639-2, in three letters of 5 bits.
        let mdhd = full(b"mdhd", 0, &[&[0; 8], &scale, &total, &0x55c4u16.to_be_bytes(), &[0; 2]]);
        let hdlr = full(b"hdlr", 0, &[&[0; 4], b"vide", &[0; 12], b"video\0"]);
        let vmhd = full(b"vmhd", 1, &[&[0; 8]]);
        // The data is in this file.
        let url = full(b"url ", 1, &[]);
        let dinf = boxed(b"dinf", &[&full(b"dref", 0, &[&1u32.to_be_bytes(), &url])]);
        let minf = boxed(b"minf", &[&vmhd, &dinf, &self.stbl(&durations)?]);
        let mdia = boxed(b"mdia", &[&mdhd, &hdlr, &minf]);
        Ok(boxed(b"moov", &[&mvhd, &boxed(b"trak", &[&tkhd, &mdia])]))
    }

    fn stbl(&self, durations: &[u32]) -> anyhow::Result<Vec<u8>> {
        let count = u32::try_from(self.samples.len())?;
        let mut runs: Vec<(u32, u32)> = Vec::new();
        for &duration in durations {
            match runs.last_mut() {
                Some((length, same)) if *same == duration => *length += 1,
                _ => runs.push((1, duration)),
            }
        }
        let runs: Vec<[u32; 2]> = runs.into_iter().map(|(length, duration)| [length, duration]).collect();
        let sync: Vec<u32> = (1u32..).zip(&self.samples).filter(|(_, sample)| sample.idr).map(|(n, _)| n).collect();
        let sizes: Vec<u32> = self.samples.iter().map(|sample| sample.bytes).collect();
        let begin = self.mdat + MDAT_HEAD;
        Ok(boxed(
            b"stbl",
            &[
                &self.stsd()?,
                &full(b"stts", 0, &[&u32::try_from(runs.len())?.to_be_bytes(), &words(runs.as_flattened())]),
                &full(b"stss", 0, &[&u32::try_from(sync.len())?.to_be_bytes(), &words(&sync)]),
                &full(b"stsz", 0, &[&[0; 4], &count.to_be_bytes(), &words(&sizes)]),
                &full(b"stsc", 0, &[&words(&[1, 1, count, 1])]),
                &full(b"co64", 0, &[&1u32.to_be_bytes(), &begin.to_be_bytes()]),
            ],
        ))
    }

    fn stsd(&self) -> anyhow::Result<Vec<u8>> {
        let (sps, pps) = self.parameters.as_ref().context("the video has no picture")?;
        let profile = sps.get(1..4).context("the parameter set is too short")?;
        let length = |set: &[u8]| u16::try_from(set.len()).map(u16::to_be_bytes);
        // NAL units have four bytes of length before them; one set of each kind.
        let avc_c = boxed(b"avcC", &[&[1], profile, &[0xff, 0xe1], &length(sps)?, sps, &[1], &length(pps)?, pps]);
        let (width, height) = (self.size.0.to_be_bytes(), self.size.1.to_be_bytes());
        let resolution = fixed(72.0);
        let entry: &[&[u8]] = &[
            &[0; 6],
            &1u16.to_be_bytes(),
            &[0; 16],
            &width,
            &height,
            &resolution,
            &resolution,
            &[0; 4],
            &1u16.to_be_bytes(),
            &[0; 32],
            &24u16.to_be_bytes(),
            &[0xff, 0xff],
            &avc_c,
        ];
        Ok(full(b"stsd", 0, &[&1u32.to_be_bytes(), &boxed(b"avc1", entry)]))
    }
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

/// A number of 16 bits before the point and 16 behind it.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // of small constants
fn fixed(number: f32) -> [u8; 4] {
    ((number * 65536.0) as u32).to_be_bytes()
}

/// The matrix that turns nothing.
fn matrix() -> Vec<u8> {
    words(&[0x1_0000, 0, 0, 0, 0x1_0000, 0, 0, 0, 0x4000_0000])
}

fn boxed(kind: &[u8; 4], parts: &[&[u8]]) -> Vec<u8> {
    let length = 8 + parts.iter().map(|part| part.len()).sum::<usize>();
    // Only the index is made so, which is far from 4 GiB: a picture takes some twenty bytes there.
    let length = u32::try_from(length).unwrap_or(u32::MAX);
    [&[&length.to_be_bytes()[..], kind], parts].concat().concat()
}

/// A box with a version, 0, and flags.
fn full(kind: &[u8; 4], flags: u8, parts: &[&[u8]]) -> Vec<u8> {
    boxed(kind, &[&[&[0, 0, 0, flags][..]], parts].concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sightline::encode::{self, Encoder, H264Encoder};
    use sightline::media::I420Frame;
    use sightline::source::file::H264File;

    /// Pictures of growing brightness, coded, and the file that they are written to.
    fn written(steps: &[u32], size: (usize, usize)) -> (Vec<encode::Encoded>, H264File, Vec<u8>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.mp4");
        let mut encoder = H264Encoder::new(encode::Config::default());
        let mut writer = Mp4Writer::create(&path, size).unwrap();
        let (mut coded, mut time) = (Vec::new(), 0);
        for (n, step) in steps.iter().enumerate() {
            let mut frame = I420Frame::black(size.0, size.1);
            frame.planes_mut().0.fill(u8::try_from(n * 7 % 200).unwrap());
            let unit = encoder.encode(&frame, n % 4 == 0).unwrap();
            writer.add(&unit.data, unit.idr, time).unwrap();
            coded.push(unit);
            time += step;
        }
        writer.finish().unwrap();
        (coded, H264File::open(&path).unwrap(), std::fs::read(&path).unwrap())
    }

    fn vcl(annex_b: &[u8]) -> Vec<Vec<u8>> {
        let coded = nal_units(annex_b).filter(|nal| nal_type(nal).is_some_and(sightline::media::nal::is_vcl));
        coded.map(<[u8]>::to_vec).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn what_is_written_is_read_again(steps in prop::collection::vec(1u32..20_000, 1..12), odd in 0usize..2) {
            let (coded, file, _) = written(&steps, (64 + odd, 48 + odd));
            prop_assert_eq!(file.size(), (64, 48));
            prop_assert_eq!(file.len(), coded.len());
            let mut time = 0;
            for ((unit, coded), step) in file.units().zip(&coded).zip(&steps) {
                prop_assert_eq!((unit.rtp_timestamp, unit.idr), (time, coded.idr));
                prop_assert_eq!(vcl(&unit.data), vcl(&coded.data));
                time += step;
            }
        }
    }

    #[test]
    fn the_boxes_fill_the_file_exactly() {
        let (_, _, bytes) = written(&[3000; 5], (64, 48));
        let (mut rest, mut kinds) = (&bytes[..], Vec::new());
        while !rest.is_empty() {
            let size = u32::from_be_bytes(rest[..4].try_into().unwrap());
            let size = if size == 1 { u64::from_be_bytes(rest[8..16].try_into().unwrap()) } else { u64::from(size) };
            kinds.push(String::from_utf8(rest[4..8].to_vec()).unwrap());
            rest = &rest[usize::try_from(size).unwrap()..];
        }
        assert_eq!(kinds, ["ftyp", "mdat", "moov"]);
    }

    #[test]
    fn pictures_of_another_size_end_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = Mp4Writer::create(&folder.path().join("x.mp4"), (64, 48)).unwrap();
        let mut encoder = H264Encoder::new(encode::Config::default());
        let unit = encoder.encode(&I420Frame::black(64, 48), true).unwrap();
        writer.add(&unit.data, unit.idr, 0).unwrap();
        let unit = encoder.encode(&I420Frame::black(96, 48), true).unwrap();
        assert!(writer.add(&unit.data, unit.idr, 3000).unwrap_err().to_string().contains("size"));
    }
}
