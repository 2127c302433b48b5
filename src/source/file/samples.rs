//! Where the samples of an MP4 track stand and when they are due: sample tables and movie fragments.

use super::boxes::{Fields, FourCc, atoms, child};

/// One sample of the track, times in the track's time scale.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sample {
    pub(super) offset: u64,
    pub(super) size: u32,
    pub(super) decode_time: u64,
    pub(super) composition_offset: i32,
}

impl Sample {
    /// When the sample is shown.
    pub(super) fn composition_time(&self) -> i128 {
        i128::from(self.decode_time) + i128::from(self.composition_offset)
    }
}

/// The samples found so far. They may not claim more bytes than the file has, at least one each, so that a small file cannot
/// cost much time or memory whatever its tables say.
pub(super) struct Samples {
    /// In decoding order.
    pub(super) list: Vec<Sample>,
    unclaimed: u64,
}

impl Samples {
    /// None yet, of a file of `file_len` bytes.
    pub(super) fn new(file_len: usize) -> Self {
        Self { list: Vec::new(), unclaimed: file_len as u64 }
    }

    /// `None` if the file is too short for the sample.
    fn add(&mut self, sample: Sample) -> Option<()> {
        self.unclaimed = self.unclaimed.checked_sub(u64::from(sample.size.max(1)))?;
        self.list.push(sample);
        Some(())
    }
}

/// Reads the samples of an unfragmented file (ISO/IEC 14496-12 §8.6, §8.7). `None` if the tables contradict each other.
/// A file that was cut off has fewer samples than its tables say.
pub(super) fn sample_tables(tables: &[u8], samples: &mut Samples) -> Option<()> {
    let table = |kind: &FourCc, head: usize| -> Option<Fields<'_>> { Some(Fields(child(tables, kind)?.get(head..)?)) };
    let mut sizes = table(b"stsz", 4)?;
    let (constant, count) = (sizes.u32()?, usize::try_from(sizes.u32()?).ok()?);
    if constant == 0 && count > sizes.0.len() / 4 {
        return None;
    }
    if count == 0 {
        return Some(());
    }
    let mut durations = Runs::new(table(b"stts", 8)?);
    let mut offsets = table(b"ctts", 8).map(Runs::new);
    let mut chunks = Chunks::new(tables)?;
    let mut chunk = (0u64, 0u32);
    let mut decode_time = 0u64;
    for _ in 0..count {
        let size = if constant == 0 { sizes.u32()? } else { constant };
        while chunk.1 == 0 {
            chunk = chunks.next()?;
        }
        #[allow(clippy::cast_possible_wrap)] // signed in version 1, and never that large in version 0
        let composition_offset = offsets.as_mut().and_then(Runs::next).unwrap_or(0) as i32;
        if samples.add(Sample { offset: chunk.0, size, decode_time, composition_offset }).is_none() {
            break;
        }
        chunk = (chunk.0.checked_add(u64::from(size))?, chunk.1 - 1);
        decode_time = decode_time.checked_add(u64::from(durations.next()?))?;
    }
    Some(())
}

/// A run-length table: how often, and the value.
struct Runs<'a> {
    entries: Fields<'a>,
    left: u32,
    value: u32,
}

impl<'a> Runs<'a> {
    fn new(entries: Fields<'a>) -> Self {
        Self { entries, left: 0, value: 0 }
    }
}

impl Iterator for Runs<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        while self.left == 0 {
            (self.left, self.value) = (self.entries.u32()?, self.entries.u32()?);
        }
        self.left -= 1;
        Some(self.value)
    }
}

/// The chunks in order: where each begins and how many samples it holds.
struct Chunks<'a> {
    offsets: Fields<'a>,
    wide: bool,
    /// First chunk, samples per chunk, description; each holds until the next entry's first chunk.
    runs: Fields<'a>,
    number: u32,
    per_chunk: u32,
    next_run: Option<(u32, u32)>,
}

impl<'a> Chunks<'a> {
    fn new(tables: &'a [u8]) -> Option<Self> {
        let (offsets, wide) = match child(tables, b"stco") {
            Some(offsets) => (offsets, false),
            None => (child(tables, b"co64")?, true),
        };
        let mut runs = Fields(child(tables, b"stsc")?.get(8..)?);
        let next_run = Self::run(&mut runs);
        Some(Self { offsets: Fields(offsets.get(8..)?), wide, runs, number: 0, per_chunk: 0, next_run })
    }

    fn run(runs: &mut Fields<'_>) -> Option<(u32, u32)> {
        let run = (runs.u32()?, runs.u32()?);
        runs.u32()?;
        Some(run)
    }
}

impl Iterator for Chunks<'_> {
    type Item = (u64, u32);

    fn next(&mut self) -> Option<(u64, u32)> {
        let offset = if self.wide { self.offsets.u64()? } else { u64::from(self.offsets.u32()?) };
        self.number += 1;
        if let Some((first, per_chunk)) = self.next_run
            && first <= self.number
        {
            self.per_chunk = per_chunk;
            self.next_run = Self::run(&mut self.runs);
        }
        Some((offset, self.per_chunk))
    }
}

/// What a fragment's samples are unless it says otherwise: duration and size.
#[derive(Clone, Copy, Default)]
struct Defaults {
    duration: u32,
    size: u32,
}

/// Adds the samples of movie fragments (ISO/IEC 14496-12 §8.8). `None` where they stop making sense.
pub(super) fn fragments(data: &[u8], moov: &[u8], id: u32, samples: &mut Samples) -> Option<()> {
    let trexs = child(moov, b"mvex").into_iter().flat_map(|mvex| atoms(mvex, 0));
    let defaults = trexs.filter(|atom| &atom.kind == b"trex").find_map(|trex| {
        let mut fields = Fields(trex.content.get(4..)?);
        let track = fields.u32()?;
        fields.u32()?; // sample description
        let defaults = Defaults { duration: fields.u32()?, size: fields.u32()? };
        (track == id).then_some(defaults)
    });
    let mut time = 0;
    for moof in atoms(data, 0).filter(|atom| &atom.kind == b"moof") {
        for traf in atoms(moof.content, 0).filter(|atom| &atom.kind == b"traf") {
            fragment(traf.content, moof.begin, id, defaults.unwrap_or_default(), &mut time, samples)?;
        }
    }
    Some(())
}

fn fragment(
    traf: &[u8],
    moof_begin: usize,
    id: u32,
    defaults: Defaults,
    time: &mut u64,
    samples: &mut Samples,
) -> Option<()> {
    let mut tfhd = Fields(child(traf, b"tfhd")?);
    let (_, flags) = tfhd.version()?;
    if tfhd.u32()? != id {
        return Some(());
    }
    let mut offset = if flags & 1 != 0 { tfhd.u64()? } else { u64::try_from(moof_begin).ok()? };
    let base = offset;
    if flags & 2 != 0 {
        tfhd.u32()?;
    }
    let duration = if flags & 8 != 0 { tfhd.u32()? } else { defaults.duration };
    let size = if flags & 0x10 != 0 { tfhd.u32()? } else { defaults.size };
    if let Some(tfdt) = child(traf, b"tfdt") {
        let mut tfdt = Fields(tfdt);
        let (version, _) = tfdt.version()?;
        *time = tfdt.time(version)?;
    }
    for trun in atoms(traf, 0).filter(|atom| &atom.kind == b"trun") {
        let mut trun = Fields(trun.content);
        let (_, flags) = trun.version()?;
        let count = trun.u32()?;
        if flags & 1 != 0 {
            let relative = i64::from(trun.u32()?.cast_signed());
            offset = base.checked_add_signed(relative)?;
        }
        if flags & 4 != 0 {
            trun.u32()?;
        }
        for _ in 0..count {
            let duration = if flags & 0x100 != 0 { trun.u32()? } else { duration };
            let size = if flags & 0x200 != 0 { trun.u32()? } else { size };
            if flags & 0x400 != 0 {
                trun.u32()?;
            }
            let composition_offset = if flags & 0x800 != 0 { trun.u32()?.cast_signed() } else { 0 };
            let end = offset.checked_add(u64::from(size))?;
            samples.add(Sample { offset, size, decode_time: *time, composition_offset })?;
            offset = end;
            *time = time.checked_add(u64::from(duration))?;
        }
    }
    Some(())
}
