//! Which frames came back whole, and when: told from the headers of their packets alone, so that it costs next to nothing.

use std::collections::VecDeque;
use std::time::Instant;

/// Frames whose packets are still waited for.
const OPEN_FRAMES: usize = 64;

/// A frame of which every packet came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Whole {
    /// As it stood in its packets.
    pub rtp_timestamp: u32,
    /// When the first of its packets came.
    pub first: Instant,
    /// When the last one did.
    pub last: Instant,
    /// Of the payloads.
    pub bytes: usize,
}

/// A frame of which some packets came.
#[derive(Debug)]
struct Open {
    rtp_timestamp: u32,
    first: Instant,
    last: Instant,
    packets: u16,
    bytes: usize,
    /// The least sequence number seen.
    begin: u16,
    /// That of the packet with the marker.
    end: Option<u16>,
}

/// The packets of one stream.
pub struct Arrivals {
    open: VecDeque<Open>,
    /// Sequence numbers that ended a frame, the newest last.
    ends: VecDeque<u16>,
    /// A bit for each sequence number of the half of the circle behind the newest.
    seen: Box<[u64; 1024]>,
    newest: Option<u16>,
    /// How many sequence numbers the stream has passed, and how many packets of them came.
    expected: u64,
    received: u64,
    /// What came whole and was not taken yet.
    pub whole: Vec<Whole>,
}

impl Default for Arrivals {
    fn default() -> Self {
        Self {
            open: VecDeque::with_capacity(OPEN_FRAMES),
            ends: VecDeque::with_capacity(OPEN_FRAMES),
            seen: Box::new([0; 1024]),
            newest: None,
            expected: 0,
            received: 0,
            whole: Vec::new(),
        }
    }
}

impl Arrivals {
    /// A packet with so many bytes of payload came.
    pub fn push(&mut self, sequence_number: u16, rtp_timestamp: u32, marker: bool, bytes: usize, at: Instant) {
        if !self.note(sequence_number) {
            return;
        }
        let known = self.open.iter().rposition(|frame| frame.rtp_timestamp == rtp_timestamp);
        let place = known.unwrap_or_else(|| {
            if self.open.len() == OPEN_FRAMES {
                self.open.pop_front();
            }
            let begin = sequence_number;
            self.open.push_back(Open { rtp_timestamp, first: at, last: at, packets: 0, bytes: 0, begin, end: None });
            self.open.len() - 1
        });
        let Some(frame) = self.open.get_mut(place) else { return };
        frame.packets += 1;
        frame.bytes += bytes;
        frame.first = frame.first.min(at);
        frame.last = frame.last.max(at);
        if is_before(sequence_number, frame.begin) {
            frame.begin = sequence_number;
        }
        if marker {
            frame.end = Some(sequence_number);
            if self.ends.len() == OPEN_FRAMES {
                self.ends.pop_front();
            }
            self.ends.push_back(sequence_number);
        }
        // The end of this frame may be the beginning of the next one, that came before it.
        self.close(rtp_timestamp);
        let next = self.open.iter().find(|frame| marker && frame.begin == sequence_number.wrapping_add(1));
        if let Some(next) = next.map(|frame| frame.rtp_timestamp) {
            self.close(next);
        }
    }

    /// Whether a sequence number is new; the count of what was expected goes on.
    fn note(&mut self, sequence_number: u16) -> bool {
        match self.newest {
            None => (self.newest, self.expected) = (Some(sequence_number), 1),
            Some(newest) if is_before(newest, sequence_number) => {
                let passed = sequence_number.wrapping_sub(newest);
                for step in 1..=passed {
                    self.set(newest.wrapping_add(step).wrapping_add(0x8000), false);
                    self.set(newest.wrapping_add(step), false);
                }
                (self.newest, self.expected) = (Some(sequence_number), self.expected + u64::from(passed));
            }
            Some(_) => {}
        }
        let new = !self.set(sequence_number, true);
        self.received += u64::from(new);
        new
    }

    /// Sets a bit; what it was.
    fn set(&mut self, sequence_number: u16, to: bool) -> bool {
        let (word, bit) = (usize::from(sequence_number >> 6), 1 << (sequence_number & 63));
        let Some(word) = self.seen.get_mut(word) else { return false };
        let was = *word & bit != 0;
        *word = if to { *word | bit } else { *word & !bit };
        was
    }

    fn close(&mut self, rtp_timestamp: u32) {
        let Some(place) = self.open.iter().rposition(|frame| frame.rtp_timestamp == rtp_timestamp) else { return };
        let Some(frame) = self.open.get(place) else { return };
        let Some(end) = frame.end else { return };
        // The stream's first frame has none before it.
        let begins = self.whole.is_empty() || self.ends.contains(&frame.begin.wrapping_sub(1));
        if begins && end.wrapping_sub(frame.begin).wrapping_add(1) == frame.packets {
            let Open { rtp_timestamp, first, last, bytes, .. } = *frame;
            self.whole.push(Whole { rtp_timestamp, first, last, bytes });
            self.open.remove(place);
        }
    }

    /// Packets that never came.
    pub fn lost(&self) -> u64 {
        self.expected.saturating_sub(self.received)
    }
}

/// Whether `a` comes before `b` on the circle (RFC 3550 appendix A.1).
fn is_before(a: u16, b: u16) -> bool {
    a != b && b.wrapping_sub(a) < 0x8000
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    /// Packets of frames of these lengths, as (sequence number, timestamp, marker).
    fn packets(lengths: &[u16], first: u16) -> Vec<(u16, u32, bool)> {
        let mut next = first;
        let mut all = Vec::new();
        for (frame, &length) in lengths.iter().enumerate() {
            for n in 0..length {
                all.push((next, frame as u32 * 3000, n + 1 == length));
                next = next.wrapping_add(1);
            }
        }
        all
    }

    fn came(packets: &[(u16, u32, bool)]) -> Arrivals {
        let (mut arrivals, start) = (Arrivals::default(), Instant::now());
        for (n, &(sequence_number, timestamp, marker)) in packets.iter().enumerate() {
            arrivals.push(sequence_number, timestamp, marker, 1000, start + Duration::from_millis(n as u64));
        }
        arrivals
    }

    #[test]
    fn a_frame_without_one_of_its_packets_is_not_whole_until_it_comes() {
        let mut sent = packets(&[2, 3, 3, 1], 65_534);
        let missing = sent.remove(5);
        let arrivals = came(&sent);
        assert_eq!(arrivals.whole.iter().map(|whole| whole.rtp_timestamp).collect::<Vec<_>>(), [0, 3000, 9000]);
        assert_eq!(arrivals.lost(), 1);
        sent.push(missing);
        let arrivals = came(&sent);
        assert_eq!(arrivals.whole.last().map(|whole| whole.rtp_timestamp), Some(6000));
        assert_eq!(arrivals.whole[3].last - arrivals.whole[3].first, Duration::from_millis(3));
        assert_eq!(arrivals.whole.iter().map(|whole| whole.bytes).collect::<Vec<_>>(), [2000, 3000, 1000, 3000]);
        assert_eq!(arrivals.lost(), 0);
    }

    #[test]
    fn a_frame_that_lost_its_first_packet_or_its_last_is_not_whole() {
        for lost in [2, 4] {
            let mut sent = packets(&[2, 3, 2, 2], 9);
            sent.remove(lost);
            let arrivals = came(&sent);
            assert!(arrivals.whole.iter().all(|whole| whole.rtp_timestamp != 3000), "{lost}: {:?}", arrivals.whole);
        }
    }

    proptest! {
        #[test]
        fn in_order_every_frame_is_whole(lengths in prop::collection::vec(1u16..40, 1..200), first: u16) {
            let arrivals = came(&packets(&lengths, first));
            prop_assert_eq!(arrivals.whole.len(), lengths.len());
            prop_assert_eq!(arrivals.lost(), 0);
        }

        #[test]
        fn packets_that_come_twice_count_once(lengths in prop::collection::vec(1u16..9, 1..50), first: u16, again in 0usize..200) {
            let mut sent = packets(&lengths, first);
            let copy = sent[again % sent.len()];
            sent.push(copy);
            let arrivals = came(&sent);
            prop_assert_eq!(arrivals.whole.len(), lengths.len());
            prop_assert_eq!(arrivals.lost(), 0);
        }

        #[test]
        fn anything_at_all_is_taken(sent in prop::collection::vec((any::<u16>(), 0u32..9, any::<bool>()), 0..300)) {
            let arrivals = came(&sent);
            prop_assert!(arrivals.whole.len() <= sent.len() && arrivals.open.len() <= OPEN_FRAMES);
        }
    }
}
