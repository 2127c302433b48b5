//! Puts RTP packets back into the order in which they were sent (RFC 3550 §5.1, sequence numbers).

use std::mem;
use std::time::Instant;

use crate::media::RtpPacket;

/// Packets in a row, none of them near the window, after which the sender has restarted its numbering.
const STRAYS_UNTIL_RESTART: u32 = 4;
/// Packets in a row that are all late, after which the same is true: a restart may land just behind the window.
const LATE_UNTIL_RESTART: u32 = 64;
/// How far apart the sequence numbers of stray packets may be to count as one row.
const STRAY_NEIGHBOURHOOD: u16 = 100;

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// It waits for its turn, or can be popped at once.
    Accepted,
    /// A packet with this sequence number is here, or was popped, already.
    Duplicate,
    /// Its place was given up before it came.
    Late,
    /// Far from what is expected: dropped, unless more like it follow.
    Stray,
    /// The sender began anew: the buffer was emptied and goes on from this packet.
    Restarted,
}

#[derive(Clone, Debug)]
enum Place {
    Empty,
    Held(RtpPacket),
    /// Popped; the sequence number tells a duplicate from a late packet.
    Popped(u16),
}

/// A bounded reorder buffer: packets go in as they arrive and come out in sequence. It never decides by itself to give
/// up a missing packet; its owner does, by [`skip_gap`](Self::skip_gap).
#[derive(Debug)]
pub struct ReorderBuffer {
    /// The packet with sequence number `s` stands at `s % places.len()`, a power of two.
    places: Vec<Place>,
    /// The sequence number to pop next; `None` before the first packet.
    next: Option<u16>,
    held: usize,
    gap_since: Option<Instant>,
    /// Refused packets in a row, and the newest of their sequence numbers.
    strays: u32,
    late: u32,
    last_stray: u16,
}

impl ReorderBuffer {
    /// A buffer for packets up to `window` ahead of the one that is due: rounded up to a power of two, 16 to 8192.
    #[must_use]
    pub fn new(window: usize) -> Self {
        let window = window.clamp(16, 8192).next_power_of_two();
        Self {
            places: vec![Place::Empty; window],
            next: None,
            held: 0,
            gap_since: None,
            strays: 0,
            late: 0,
            last_stray: 0,
        }
    }

    /// Takes a packet in.
    pub fn push(&mut self, packet: RtpPacket) -> Pushed {
        let sequence = packet.sequence_number;
        let next = *self.next.get_or_insert(sequence);
        let ahead = usize::from(sequence.wrapping_sub(next));
        let behind = usize::from(next.wrapping_sub(sequence));
        if ahead < self.places.len() {
            return self.hold(packet);
        }
        if behind <= self.places.len() {
            if matches!(self.place(sequence), Place::Popped(popped) if *popped == sequence) {
                return Pushed::Duplicate;
            }
            self.late += 1;
            if self.late < LATE_UNTIL_RESTART {
                return Pushed::Late;
            }
        } else {
            let apart = sequence.wrapping_sub(self.last_stray).min(self.last_stray.wrapping_sub(sequence));
            self.strays = if apart <= STRAY_NEIGHBOURHOOD { self.strays + 1 } else { 1 };
            self.last_stray = sequence;
            if self.strays < STRAYS_UNTIL_RESTART {
                return Pushed::Stray;
            }
        }
        self.places.fill(Place::Empty);
        (self.next, self.held, self.gap_since) = (Some(sequence), 0, None);
        self.hold(packet);
        Pushed::Restarted
    }

    fn hold(&mut self, packet: RtpPacket) -> Pushed {
        (self.strays, self.late) = (0, 0);
        let due = self.next == Some(packet.sequence_number);
        let arrived = packet.arrived;
        let place = self.place_mut(packet.sequence_number);
        if matches!(place, Place::Held(_)) {
            return Pushed::Duplicate;
        }
        *place = Place::Held(packet);
        self.held += 1;
        if due {
            self.gap_since = None;
        } else if self.held == 1 {
            self.gap_since = Some(arrived);
        }
        Pushed::Accepted
    }

    /// The next packet in sequence, if it is here.
    pub fn pop(&mut self) -> Option<RtpPacket> {
        let next = self.next?;
        let place = self.place_mut(next);
        if !matches!(place, Place::Held(_)) {
            return None;
        }
        let Place::Held(packet) = mem::replace(place, Place::Popped(next)) else { return None };
        self.held -= 1;
        self.advance_to(next.wrapping_add(1));
        Some(packet)
    }

    /// Since when a packet is missing: the arrival of the first packet behind the gap. `None` while nothing waits.
    #[must_use]
    pub fn gap_since(&self) -> Option<Instant> {
        self.gap_since
    }

    /// Gives up what is missing before the first packet that is here; returns how many packets that were.
    pub fn skip_gap(&mut self) -> usize {
        let first = self.ahead().next().map(|packet| packet.sequence_number);
        first.map_or(0, |first| self.skip_to(first))
    }

    /// Gives up everything before `sequence`, packets that are here included; returns how many of them were missing.
    /// Nothing happens if `sequence` is not within the window.
    pub fn skip_to(&mut self, sequence: u16) -> usize {
        let Some(next) = self.next else { return 0 };
        let distance = sequence.wrapping_sub(next);
        if usize::from(distance) >= self.places.len() {
            return 0;
        }
        let mut missing = 0;
        for step in 0..distance {
            let place = self.place_mut(next.wrapping_add(step));
            if matches!(mem::replace(place, Place::Empty), Place::Held(_)) {
                self.held -= 1;
            } else {
                missing += 1;
            }
        }
        self.advance_to(sequence);
        missing
    }

    /// The packets that are here, in sequence, gaps between them included.
    pub fn ahead(&self) -> impl Iterator<Item = &RtpPacket> {
        let window = u16::try_from(self.places.len()).unwrap_or(u16::MAX);
        let steps = if self.held == 0 { 0 } else { window };
        let next = self.next.unwrap_or(0);
        let held = (0..steps).filter_map(move |step| match self.place(next.wrapping_add(step)) {
            Place::Held(packet) => Some(packet),
            _ => None,
        });
        held.take(self.held)
    }

    /// Whether packets wait up to the far end of the window: the next one would be refused.
    #[must_use]
    pub fn is_full(&self) -> bool {
        let window = u16::try_from(self.places.len()).unwrap_or(u16::MAX);
        self.next.is_some_and(|next| matches!(self.place(next.wrapping_add(window - 1)), Place::Held(_)))
    }

    fn advance_to(&mut self, next: u16) {
        self.next = Some(next);
        let stuck = self.held > 0 && !matches!(self.place(next), Place::Held(_));
        // The search is over the window, but only at the start of each gap.
        self.gap_since = if stuck { self.ahead().map(|packet| packet.arrived).min() } else { None };
    }

    // The length is a power of two and at least 16, so that the masked index is always within.
    fn place(&self, sequence: u16) -> &Place {
        &self.places[usize::from(sequence) & (self.places.len() - 1)]
    }

    fn place_mut(&mut self, sequence: u16) -> &mut Place {
        let at = usize::from(sequence) & (self.places.len() - 1);
        &mut self.places[at]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::time::Duration;

    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn packet(sequence_number: u16, arrived: Instant) -> RtpPacket {
        RtpPacket { sequence_number, timestamp: 0, marker: false, payload: Bytes::new(), arrived }
    }

    fn drain(buffer: &mut ReorderBuffer) -> Vec<u16> {
        std::iter::from_fn(|| buffer.pop()).map(|packet| packet.sequence_number).collect()
    }

    #[test]
    fn packets_come_out_in_sequence_across_the_wrap() {
        let now = Instant::now();
        let mut buffer = ReorderBuffer::new(64);
        buffer.push(packet(65_534, now));
        assert_eq!(drain(&mut buffer), [65_534]);
        for sequence in [1, 0, 65_535, 2] {
            assert_eq!(buffer.push(packet(sequence, now)), Pushed::Accepted);
        }
        assert_eq!(drain(&mut buffer), [65_535, 0, 1, 2]);
    }

    #[test]
    fn a_duplicate_is_told_from_a_late_packet() {
        let now = Instant::now();
        let mut buffer = ReorderBuffer::new(64);
        buffer.push(packet(10, now));
        buffer.push(packet(12, now));
        assert_eq!(buffer.push(packet(12, now)), Pushed::Duplicate);
        assert_eq!(drain(&mut buffer), [10]);
        assert_eq!(buffer.skip_gap(), 1);
        assert_eq!(drain(&mut buffer), [12]);
        assert_eq!(buffer.push(packet(11, now)), Pushed::Late);
        assert_eq!(buffer.push(packet(10, now)), Pushed::Duplicate);
        assert_eq!(buffer.push(packet(12, now)), Pushed::Duplicate);
    }

    #[test]
    fn a_gap_counts_from_the_first_packet_behind_it() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut buffer = ReorderBuffer::new(64);
        buffer.push(packet(1, at(0)));
        drain(&mut buffer);
        assert_eq!(buffer.gap_since(), None);
        buffer.push(packet(5, at(10)));
        buffer.push(packet(3, at(20)));
        assert_eq!(buffer.gap_since(), Some(at(10)));
        buffer.push(packet(2, at(30)));
        assert_eq!(drain(&mut buffer), [2, 3]);
        assert_eq!(buffer.gap_since(), Some(at(10)), "4 is missing since 5 came");
        buffer.push(packet(4, at(40)));
        assert_eq!(drain(&mut buffer), [4, 5]);
        assert_eq!(buffer.gap_since(), None);
    }

    #[test]
    fn a_restarted_sender_is_followed_within_a_few_packets() {
        let now = Instant::now();
        for jump in [1000u16, 20_000, 40_000, 64_000] {
            let mut buffer = ReorderBuffer::new(512);
            buffer.push(packet(100, now));
            drain(&mut buffer);
            let mut pushed = (0..).map(|step| buffer.push(packet(100u16.wrapping_add(jump).wrapping_add(step), now)));
            let refused = pushed.by_ref().take_while(|pushed| *pushed != Pushed::Restarted).count();
            assert!(refused < 64, "jump of {jump}: {refused} packets");
            assert_eq!(pushed.next(), Some(Pushed::Accepted));
        }
    }

    #[test]
    fn single_strays_do_not_restart_a_healthy_stream() {
        let now = Instant::now();
        let mut buffer = ReorderBuffer::new(512);
        for sequence in 0..2000 {
            assert_eq!(buffer.push(packet(sequence, now)), Pushed::Accepted);
            assert_eq!(buffer.push(packet(sequence.wrapping_add(30_000), now)), Pushed::Stray);
            drain(&mut buffer);
        }
    }

    #[test]
    fn a_full_window_says_so_and_holds_no_more() {
        let now = Instant::now();
        let mut buffer = ReorderBuffer::new(16);
        buffer.push(packet(0, now));
        drain(&mut buffer);
        for sequence in 2..17 {
            assert!(!buffer.is_full());
            buffer.push(packet(sequence, now));
        }
        assert!(buffer.is_full());
        assert_eq!(buffer.push(packet(17, now)), Pushed::Stray);
        assert_eq!(buffer.ahead().count(), 15);
    }

    proptest! {
        #[test]
        fn any_arrival_order_within_the_window_comes_out_sorted(
            start in any::<u16>(),
            order in Just((1u16..200).collect::<Vec<_>>()).prop_shuffle(),
            twice in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
        ) {
            let now = Instant::now();
            let mut buffer = ReorderBuffer::new(256);
            buffer.push(packet(start, now));
            let mut out = drain(&mut buffer);
            for offset in order.iter().copied().chain(twice.iter().map(|index| *index.get(&order))) {
                buffer.push(packet(start.wrapping_add(offset), now));
                out.extend(drain(&mut buffer));
            }
            prop_assert_eq!(out, (0..200).map(|offset| start.wrapping_add(offset)).collect::<Vec<_>>());
        }

        #[test]
        fn whatever_comes_it_is_bounded_and_nothing_comes_out_twice_between_restarts(
            packets in prop::collection::vec((any::<u16>(), any::<bool>(), any::<bool>()), 0..400),
        ) {
            let now = Instant::now();
            let mut buffer = ReorderBuffer::new(16);
            let mut seen = HashSet::new();
            let mut near = 0u16;
            for (raw, far, skip) in packets {
                near = if far { raw } else { near.wrapping_add(raw % 7).wrapping_sub(2) };
                if buffer.push(packet(near, now)) == Pushed::Restarted {
                    seen.clear();
                }
                if skip {
                    buffer.skip_gap();
                }
                for sequence in drain(&mut buffer) {
                    prop_assert!(seen.insert(sequence));
                }
                prop_assert_eq!(buffer.gap_since().is_some(), buffer.ahead().count() > 0);
                prop_assert!(buffer.ahead().count() < 16);
            }
        }
    }
}
