//! A file as a camera: played at its own rate, again and again, for demonstrations without a camera.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::sleep_until;

use super::Description;
use super::connection::Item;
use crate::media::{AccessUnit, VIDEO_CLOCK_HZ, VideoCodec};
use crate::source::SourceError;
use crate::source::file::H264File;

/// Who is this late (the machine slept) goes on from now, instead of sending all that is overdue at once.
const TOO_LATE: Duration = Duration::from_secs(1);

/// A file that plays.
pub(super) struct LoopedFile {
    file: Arc<H264File>,
    /// When the present round began.
    began: Instant,
    round: u64,
    /// The next unit's place in the file.
    place: usize,
}

impl LoopedFile {
    /// Reads the file whole, off the network's threads.
    pub(super) async fn open(path: &Path) -> Result<(Self, Description), SourceError> {
        let path = path.to_owned();
        let file = tokio::task::spawn_blocking(move || H264File::open(path)).await;
        let file = file.map_err(|error| SourceError::Camera(format!("the file could not be read: {error}")))??;
        Ok((
            Self::new(Arc::new(file), Instant::now()),
            Description { codec: VideoCodec::H264, audio: None, notes: Vec::new() },
        ))
    }

    fn new(file: Arc<H264File>, began: Instant) -> Self {
        Self { file, began, round: 0, place: 0 }
    }

    /// Waits until the next unit is due.
    pub(super) async fn next(&mut self) -> Item {
        let now = Instant::now();
        let due = self.due(now);
        if due > now {
            sleep_until(due.into()).await;
        }
        self.take(Instant::now())
    }

    /// When the next unit is due; begins the next round where the file ends.
    fn due(&mut self, now: Instant) -> Instant {
        if self.place >= self.file.len() {
            self.place = 0;
            self.round += 1;
            self.began += self.file.duration();
        }
        let offset = self.file.unit(self.place).map_or(Duration::ZERO, |unit| unit.decode_time);
        if now.saturating_duration_since(self.began + offset) > TOO_LATE {
            self.began = now.checked_sub(offset).unwrap_or(now);
        }
        self.began + offset
    }

    fn take(&mut self, now: Instant) -> Item {
        let Some(unit) = self.file.unit(self.place) else { return Item::Passed };
        self.place += 1;
        let round_ticks = self.file.duration().as_nanos() * u128::from(VIDEO_CLOCK_HZ) / 1_000_000_000;
        #[allow(clippy::cast_possible_truncation)] // RTP timestamps wrap
        let before = (round_ticks * u128::from(self.round)) as u32;
        Item::Unit(AccessUnit { rtp_timestamp: before.wrapping_add(unit.rtp_timestamp), ..unit.arriving(now) })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::source::nal::START_CODE;

    /// Three pictures without a frame rate: they are due every 30th of a second.
    fn clip() -> Arc<H264File> {
        let sps = [0x67, 0x42, 0xc0, 0x1f, 0x8c, 0x8d, 0x40, 0x50, 0x1e, 0xd0, 0x0f, 0x08, 0x84, 0x6a];
        let units: [&[u8]; 5] = [&sps, &[0x68, 0xce, 0x3c, 0x80], &[0x65, 0x88, 1], &[0x41, 0x9a, 2], &[0x41, 0x9a, 3]];
        let stream: Vec<u8> = units.iter().flat_map(|nal| [&START_CODE[..], nal].concat()).collect();
        Arc::new(H264File::from_bytes("clip", Bytes::from(stream)).unwrap())
    }

    #[test]
    fn the_rounds_follow_each_other_without_a_seam() {
        let start = Instant::now();
        let mut player = LoopedFile::new(clip(), start);
        let mut last = None;
        for n in 0..30u32 {
            let due = player.due(start);
            let expected = f64::from(n) / 30.0;
            assert!(((due - start).as_secs_f64() - expected).abs() < 1e-3, "unit {n} is due at {:?}", due - start);
            let Item::Unit(unit) = player.take(due) else { panic!("no unit") };
            assert_eq!(unit.idr, n % 3 == 0);
            if let Some(last) = last {
                assert!((2999..=3001).contains(&unit.rtp_timestamp.wrapping_sub(last)), "unit {n}");
            }
            last = Some(unit.rtp_timestamp);
        }
    }

    #[test]
    fn after_a_pause_of_the_machine_nothing_is_caught_up() {
        let start = Instant::now();
        let mut player = LoopedFile::new(clip(), start);
        player.take(start);
        let late = start + Duration::from_secs(60);
        assert_eq!(player.due(late), late);
        player.take(late);
        assert!(player.due(late) > late);
    }
}
