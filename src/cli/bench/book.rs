//! What one session has sent and what came back, and how the two are joined.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::arrivals::{Arrivals, Whole};
use super::numbers::{Quantiles, rounded};

/// A frame that comes back later than this after the end of the measurement is missing.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// A frame that was sent.
#[derive(Clone, Copy, Debug)]
pub struct SentFrame {
    /// As its packets had it.
    pub rtp_timestamp: u32,
    /// The number in its pixels.
    pub number: u16,
    /// When a camera of perfect pace would have sent it.
    pub due: Instant,
    /// When it was begun to be sent: the last packet is on its way a tenth of a millisecond later. (The time after the last packet
    /// would be too late: the server's thread that it wakes may take the core before the clock is read.)
    pub left: Instant,
}

/// A number read in the pixels of a frame that came back.
#[derive(Clone, Copy, Debug)]
pub struct Stamp {
    /// Of the frame.
    pub rtp_timestamp: u32,
    /// `None`: it was decoded and could not be read.
    pub number: Option<u16>,
    /// Of the picture, in pixels.
    pub size: (usize, usize),
}

/// Everything about one session.
#[derive(Default)]
pub struct Book {
    /// By their number from 0.
    pub sent: Vec<SentFrame>,
    /// What came back, of the session and of each of its viewers.
    pub back: Arrivals,
    /// Numbers read.
    pub stamps: Vec<Stamp>,
    /// When `detections` messages came.
    pub detections: Vec<Instant>,
    /// What the server says that it added, in milliseconds, and when it said so.
    pub added: Vec<(Instant, f64)>,
    /// Stretches of decoding that were given up because the decoder was behind.
    pub undecoded: u64,
    /// The connection ended before it was to.
    pub ended: Option<Instant>,
}

/// How frames that came back were joined to those that were sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Join {
    /// All, by RTP timestamps that differ by a constant; the pixels say which.
    Timestamp,
    /// Those that were decoded, by the pixels alone.
    Pixels,
    /// None.
    Nothing,
}

/// What one session got.
#[derive(Clone, Debug, Serialize)]
pub struct SessionResult {
    /// Whole frames back, a second.
    pub fps: f64,
    /// `detections` messages, a second.
    pub detections: f64,
    /// Payload of the whole frames back, in kbit a second.
    pub back_kbps: f64,
    /// The smallest of the pictures back that were decoded, in pixels.
    pub smallest: Option<(usize, usize)>,
    /// The share of frames sent that did not come back.
    pub missing: f64,
    /// Packets of the way back that never came.
    pub packets_lost: u64,
    /// Last packet in to first packet out, as the server says it, in milliseconds.
    pub server_added_ms: Option<Quantiles>,
    /// Sent to last packet back.
    pub end_to_end_ms: Option<Quantiles>,
    /// Sent to first packet back: what the server added, as it is seen from outside.
    pub turnaround_ms: Option<Quantiles>,
    /// By how much the client was behind the camera's pace.
    pub late_ms: Option<Quantiles>,
    /// How it was joined.
    pub join: Join,
    /// Frames that were decoded and whose number was as expected, another, and unreadable.
    pub stamps: [u64; 3],
    /// The connection broke.
    pub broken: bool,
}

/// Every single latency of a session, to be pooled with those of others.
#[derive(Debug, Default)]
pub struct Samples {
    /// See [`SessionResult`].
    pub added: Vec<f64>,
    /// See [`SessionResult`].
    pub end_to_end: Vec<f64>,
    /// See [`SessionResult`].
    pub turnaround: Vec<f64>,
}

fn millis(from: Instant, to: Instant) -> f64 {
    to.saturating_duration_since(from).as_secs_f64() * 1000.0
}

impl Book {
    /// What was between two moments.
    pub fn result(&self, from: Instant, to: Instant) -> (SessionResult, Samples) {
        let seconds = (to - from).as_secs_f64();
        let within = |at: Instant| at >= from && at < to;
        let count = |times: &mut dyn Iterator<Item = Instant>| times.filter(|&at| within(at)).count() as f64;
        let (join, offset, stamps) = self.join();
        let pairs = match (join, offset) {
            (Join::Timestamp, Some(offset)) => self.by_timestamp(offset),
            (Join::Pixels, _) => self.by_pixels(),
            _ => Vec::new(),
        };
        let mut samples = Samples::default();
        for (left, whole) in pairs.iter().filter(|(_, whole)| within(whole.last)) {
            samples.end_to_end.push(millis(*left, whole.last));
            samples.turnaround.push(millis(*left, whole.first));
        }
        samples.added.extend(self.added.iter().filter(|(at, _)| within(*at)).map(|(_, added)| *added));
        let sent = count(&mut self.sent.iter().map(|frame| frame.left));
        let returned = pairs.iter().filter(|(left, _)| within(*left)).count() as f64;
        let fps = count(&mut self.back.whole.iter().map(|whole| whole.last)) / seconds;
        let measured = || self.back.whole.iter().filter(|whole| within(whole.last));
        let bytes: usize = measured().map(|whole| whole.bytes).sum();
        let timestamps: HashSet<u32> = measured().map(|whole| whole.rtp_timestamp).collect();
        let seen = self.stamps.iter().filter(|stamp| timestamps.contains(&stamp.rtp_timestamp));
        // Without timestamps to join by, only numbers can be compared.
        let missing = match join {
            Join::Timestamp => 1.0 - returned / sent.max(1.0),
            _ => 1.0 - fps * seconds / sent.max(1.0),
        };
        let late = self.sent.iter().filter(|frame| within(frame.due)).map(|frame| millis(frame.due, frame.left));
        let result = SessionResult {
            fps: rounded(fps),
            detections: rounded(count(&mut self.detections.iter().copied()) / seconds),
            back_kbps: rounded(bytes as f64 * 8.0 / seconds / 1000.0),
            smallest: seen.map(|stamp| stamp.size).min_by_key(|(width, height)| width * height),
            missing: rounded(missing.clamp(0.0, 1.0)),
            packets_lost: self.back.lost(),
            server_added_ms: Quantiles::of(samples.added.iter().copied()),
            end_to_end_ms: Quantiles::of(samples.end_to_end.iter().copied()),
            turnaround_ms: Quantiles::of(samples.turnaround.iter().copied()),
            late_ms: Quantiles::of(late),
            join,
            stamps,
            broken: self.ended.is_some(),
        };
        (result, samples)
    }

    /// Whether timestamps come back plus a constant, and which one: that for which most of the numbers read speak.
    fn join(&self) -> (Join, Option<u32>, [u64; 3]) {
        let mut votes: HashMap<u32, u64> = HashMap::new();
        let mut by_number: HashMap<u16, Vec<&SentFrame>> = HashMap::new();
        for frame in &self.sent {
            by_number.entry(frame.number).or_default().push(frame);
        }
        let came: HashMap<u32, Instant> =
            self.back.whole.iter().map(|whole| (whole.rtp_timestamp, whole.first)).collect();
        let read: Vec<(u32, u16)> =
            self.stamps.iter().filter_map(|stamp| Some((stamp.rtp_timestamp, stamp.number?))).collect();
        for (timestamp, number) in &read {
            // The numbers come again with each round of the clip: a frame that left after this one came is not the one.
            let before = |sent: &&&SentFrame| came.get(timestamp).is_some_and(|came| sent.left <= *came);
            for sent in by_number.get(number).into_iter().flatten().filter(before) {
                *votes.entry(timestamp.wrapping_sub(sent.rtp_timestamp)).or_default() += 1;
            }
        }
        let total = read.len() as u64;
        let unreadable = self.stamps.len() as u64 - total;
        // Of two with as many votes, that which our own server keeps.
        let best = votes.into_iter().max_by_key(|&(offset, votes)| (votes, offset == 0));
        match best {
            Some((offset, votes)) if votes * 10 >= total * 9 => {
                (Join::Timestamp, Some(offset), [votes, total - votes, unreadable])
            }
            Some(_) => (Join::Pixels, None, [total, 0, unreadable]),
            None => (Join::Nothing, None, [0, 0, unreadable]),
        }
    }

    fn by_timestamp(&self, offset: u32) -> Vec<(Instant, Whole)> {
        let sent: HashMap<u32, Instant> = self.sent.iter().map(|frame| (frame.rtp_timestamp, frame.left)).collect();
        let joined = |whole: &Whole| Some((*sent.get(&whole.rtp_timestamp.wrapping_sub(offset))?, *whole));
        self.back.whole.iter().filter_map(joined).collect()
    }

    /// Each frame that was decoded, with the last one of its number that left before it came.
    fn by_pixels(&self) -> Vec<(Instant, Whole)> {
        let whole: HashMap<u32, Whole> = self.back.whole.iter().map(|whole| (whole.rtp_timestamp, *whole)).collect();
        let joined = |stamp: &Stamp| {
            let (whole, number) = (whole.get(&stamp.rtp_timestamp)?, stamp.number?);
            let sent = self.sent.iter().rev().filter(|frame| frame.number == number);
            Some((sent.map(|frame| frame.left).find(|left| *left <= whole.first)?, *whole))
        };
        self.stamps.iter().filter_map(joined).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten seconds in which each frame comes back after 5 ms, its timestamp changed by `change`, one in five decoded.
    fn book(change: impl Fn(u32) -> u32, misread: impl Fn(usize) -> bool) -> (Book, Instant) {
        let start = Instant::now();
        let mut book = Book::default();
        for n in 0..300usize {
            let (rtp_timestamp, number) = (n as u32 * 3000, (n % 150) as u16);
            let left = start + Duration::from_micros(n as u64 * 33_333);
            book.sent.push(SentFrame { rtp_timestamp, number, due: left, left });
            let changed = change(rtp_timestamp);
            let back = left + Duration::from_millis(5);
            book.back.push((2 * n) as u16, changed, false, 1000, back);
            book.back.push((2 * n + 1) as u16, changed, true, 250, back + Duration::from_millis(1));
            if n % 5 == 0 {
                let number = if misread(n) { (number + 7) % 150 } else { number };
                let size = if n == 200 { (320, 240) } else { (640, 480) };
                book.stamps.push(Stamp { rtp_timestamp: changed, number: Some(number), size });
            }
        }
        (book, start)
    }

    #[test]
    fn timestamps_that_differ_by_a_constant_join_every_frame() {
        for constant in [0, 7, u32::MAX - 9] {
            let (book, start) = book(|timestamp| timestamp.wrapping_add(constant), |n| n == 100);
            let (result, samples) = book.result(start, start + Duration::from_secs(5));
            assert_eq!((result.join, result.stamps), (Join::Timestamp, [59, 1, 0]));
            assert_eq!(samples.end_to_end.len(), 150);
            assert!((result.back_kbps - 300.0).abs() < 3.0 && result.smallest == Some((640, 480)), "{result:?}");
            let later = book.result(start + Duration::from_secs(5), start + Duration::from_secs(10)).0;
            assert_eq!(later.smallest, Some((320, 240)));
            let (whole, first) = (result.end_to_end_ms.unwrap(), result.turnaround_ms.unwrap());
            assert_eq!((whole.p50, whole.max, first.p99), (6.0, 6.0, 5.0));
            assert!((result.fps - 30.0).abs() < 0.3 && result.missing < 1e-9, "{result:?}");
        }
    }

    #[test]
    fn a_round_of_the_clip_is_not_taken_for_another() {
        // Decoded is the first round alone, of which every number is sent a second time, later.
        let (mut book, start) = book(|timestamp| timestamp.wrapping_add(70), |_| false);
        book.stamps.retain(|stamp| stamp.rtp_timestamp < 60 * 3000);
        let (result, _) = book.result(start, start + Duration::from_secs(9));
        assert_eq!(result.end_to_end_ms.map(|whole| (whole.p50, whole.max)), Some((6.0, 6.0)));
    }

    #[test]
    fn timestamps_of_the_servers_own_are_done_without() {
        let (book, start) = book(|timestamp| (timestamp / 3000).pow(2) * 3 + 1, |_| false);
        let (result, samples) = book.result(start, start + Duration::from_secs(20));
        assert_eq!((result.join, result.stamps), (Join::Pixels, [60, 0, 0]));
        assert_eq!(samples.end_to_end.len(), 60);
        assert_eq!(result.end_to_end_ms.unwrap().max, 6.0);
    }

    #[test]
    fn what_did_not_come_back_is_missing() {
        let (mut book, start) = book(|timestamp| timestamp, |_| false);
        book.back.whole.retain(|whole| whole.rtp_timestamp % 9000 != 0);
        let (result, _) = book.result(start, start + Duration::from_secs(10));
        assert!((result.missing - 1.0 / 3.0).abs() < 0.01 && (result.fps - 20.0).abs() < 0.2, "{result:?}");
    }

    #[test]
    fn a_session_of_which_nothing_came_has_no_latency() {
        let now = Instant::now();
        let (result, samples) = Book::default().result(now, now + Duration::from_secs(1));
        assert_eq!((result.join, result.end_to_end_ms, samples.added.len()), (Join::Nothing, None, 0));
        assert!(result.fps < 1e-9);
    }
}
