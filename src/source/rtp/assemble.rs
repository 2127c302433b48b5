//! Reorder buffer and depacketizer together, and the policy of loss: what is given up, when, and what follows from it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::depacketize::Depacketizer;
use super::lookahead::whole_idr;
use super::outcome::{Assembled, Counters, Reason};
use super::payload::PayloadKind;
use super::reorder::{Pushed, ReorderBuffer};
use crate::media::RtpPacket;

/// How long to wait, and how far to look.
#[derive(Clone, Copy, Debug)]
pub struct AssemblerConfig {
    /// How long a missing packet is waited for. NACKs go out every 20 ms, so that within 150 ms a retransmission that was
    /// lost itself is asked for again at any round trip up to 65 ms (20 + 65 + 65), and seven times on a LAN; at round trips
    /// up to 130 ms there is still one. Longer, and the picture would stand still for more than it takes to get an IDR.
    pub gap_timeout: Duration,
    /// How many packets behind a gap are kept: 512 are 150 ms at 32 Mbit/s. Then the gap is given up at once.
    pub window: usize,
    /// After how long a keyframe that did not come is asked for again.
    pub keyframe_interval: Duration,
}

impl Default for AssemblerConfig {
    fn default() -> Self {
        Self { gap_timeout: Duration::from_millis(150), window: 512, keyframe_interval: Duration::from_millis(500) }
    }
}

/// Waiting for an IDR.
#[derive(Clone, Copy, Debug)]
struct Wait {
    /// Why to ask as soon as it makes sense; `None` when it has been asked.
    ask: Option<Reason>,
    asked_at: Option<Instant>,
}

/// RTP packets of one H.264 stream to access units in decoding order, none of which depends on one that is missing.
///
/// [`push`](Self::push) each packet, then [`poll`](Self::poll) until `None`; poll again at [`deadline`](Self::deadline). A unit
/// comes out on its last packet, without waiting for the next. A gap holds everything behind it until it is filled, given up
/// after [`gap_timeout`](AssemblerConfig::gap_timeout), or until a whole IDR stands behind it. After a loss nothing comes until
/// the next IDR, which is asked for once, and again while it does not come.
#[derive(Debug)]
pub struct Assembler {
    config: AssemblerConfig,
    reorder: ReorderBuffer,
    depacketizer: Depacketizer,
    ready: VecDeque<Assembled>,
    wait: Option<Wait>,
    /// Whether the packet before the next one is known to end a unit, so that the next one begins one.
    at_boundary: bool,
    last_timestamp: Option<u32>,
    /// Whether packets have come since the gap was last searched for an IDR behind it.
    unsearched: bool,
    counters: Counters,
}

impl Assembler {
    /// An assembler at the start of a stream, which waits for an IDR.
    #[must_use]
    pub fn new(config: AssemblerConfig) -> Self {
        Self {
            config,
            reorder: ReorderBuffer::new(config.window),
            depacketizer: Depacketizer::new(),
            ready: VecDeque::new(),
            wait: Some(Wait { ask: None, asked_at: None }),
            at_boundary: false,
            last_timestamp: None,
            unsearched: false,
            counters: Counters::default(),
        }
    }

    /// Takes a packet in. Nothing comes out before [`poll`](Self::poll); without it, what does not fit is dropped.
    pub fn push(&mut self, packet: RtpPacket) {
        self.counters.packets += 1;
        self.counters.padding += u64::from(packet.payload.is_empty());
        self.unsearched = true;
        match self.reorder.push(packet) {
            Pushed::Accepted => {}
            Pushed::Duplicate => self.counters.duplicates += 1,
            Pushed::Late => self.counters.late += 1,
            Pushed::Stray => self.counters.strays += 1,
            Pushed::Restarted => {
                self.counters.restarts += 1;
                self.lose();
            }
        }
    }

    /// The next thing to do, or `None` until another packet or the [`deadline`](Self::deadline) comes. `now` is compared
    /// with the packets' arrival times and should never go back.
    pub fn poll(&mut self, now: Instant) -> Option<Assembled> {
        loop {
            if let Some(ready) = self.ready.pop_front() {
                return Some(ready);
            }
            if let Some(packet) = self.reorder.pop() {
                self.take(&packet);
            } else if !self.leave_gap(now) {
                break;
            }
        }
        let reason = self.due_request(now)?;
        self.wait = Some(Wait { ask: None, asked_at: Some(now) });
        self.counters.keyframe_requests += 1;
        Some(Assembled::KeyframeNeeded(reason))
    }

    /// When to poll even if no packet comes.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let gap = self.reorder.gap_since().map(|since| since + self.config.gap_timeout);
        let again = self.wait.and_then(|wait| wait.asked_at).map(|asked| asked + self.config.keyframe_interval);
        [gap, again].into_iter().flatten().min()
    }

    /// What happened so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Takes the next packet in sequence.
    fn take(&mut self, packet: &RtpPacket) {
        if packet.payload.is_empty() {
            // A marker on an empty payload ends what is open; anything else about it says nothing of units.
            if packet.marker && self.depacketizer.open_timestamp() == Some(packet.timestamp) {
                self.end_unit();
            }
            return;
        }
        if self.last_timestamp.is_some_and(|last| last != packet.timestamp) {
            self.finish_unit();
            self.at_boundary = true;
        }
        let opens = self.depacketizer.open_timestamp().is_none();
        self.last_timestamp = Some(packet.timestamp);
        self.depacketizer.push(packet);
        if opens && !self.at_boundary && !PayloadKind::of(&packet.payload).starts_unit {
            // Behind a gap nobody knows whether the first packet is the unit's first: a slice or a new SPS may be gone.
            self.depacketizer.note_loss();
        }
        self.at_boundary = false;
        if packet.marker {
            self.end_unit();
        }
    }

    fn end_unit(&mut self) {
        if self.depacketizer.open_has_slice() {
            self.finish_unit();
            self.at_boundary = true;
        }
    }

    fn finish_unit(&mut self) {
        match self.depacketizer.finish() {
            None => {}
            Some(Ok(unit)) if unit.idr || self.wait.is_none() => {
                self.wait = None;
                self.counters.units += 1;
                self.counters.idrs += u64::from(unit.idr);
                self.ready.push_back(Assembled::AccessUnit(unit));
            }
            Some(Ok(_)) => {
                self.counters.dropped += 1;
                self.need_keyframe(Reason::Start, false);
            }
            Some(Err(broken)) => {
                self.counters.broken += 1;
                self.need_keyframe(Reason::Broken, broken.idr);
            }
        }
    }

    /// Notes that nothing can be shown until an IDR comes. While one is awaited, that is known, and asked for again only
    /// if it was just the awaited one that came to nothing.
    fn need_keyframe(&mut self, reason: Reason, answer_lost: bool) {
        match &mut self.wait {
            None => self.wait = Some(Wait { ask: Some(reason), asked_at: None }),
            Some(wait) if wait.ask.is_none() && (wait.asked_at.is_none() || answer_lost) => {
                let start = wait.asked_at.is_none();
                wait.ask = Some(if start { Reason::Start } else { reason });
            }
            Some(_) => {}
        }
    }

    /// Gives the gap up if it is time to, or jumps over it to an IDR. Returns whether anything changed.
    fn leave_gap(&mut self, now: Instant) -> bool {
        let Some(since) = self.reorder.gap_since() else { return false };
        let missing = if let Some(idr) = self.idr_ahead() {
            self.counters.jumps += 1;
            self.reorder.skip_to(idr)
        } else if now.saturating_duration_since(since) >= self.config.gap_timeout || self.reorder.is_full() {
            self.reorder.skip_gap()
        } else {
            return false;
        };
        self.counters.lost += missing as u64;
        self.lose();
        true
    }

    fn idr_ahead(&mut self) -> Option<u16> {
        let unsearched = std::mem::replace(&mut self.unsearched, false);
        unsearched.then(|| whole_idr(self.reorder.ahead(), self.depacketizer.has_parameter_sets())).flatten()
    }

    /// What stands in the depacketizer lacks its end, and what follows lacks what it depends on.
    fn lose(&mut self) {
        self.depacketizer.note_loss();
        self.need_keyframe(Reason::Loss, false);
        // Ends the unit in hand, which may count as a lost answer, before packets of the same timestamp can join it.
        self.finish_unit();
        self.at_boundary = false;
        self.last_timestamp = None;
        self.unsearched = true;
    }

    /// The request for a keyframe that is due now, if any.
    fn due_request(&self, now: Instant) -> Option<Reason> {
        let wait = self.wait?;
        let overdue =
            wait.asked_at.is_some_and(|asked| now.saturating_duration_since(asked) >= self.config.keyframe_interval);
        match wait.ask {
            // An IDR that is just coming in makes the request needless; if it breaks, that will be noticed.
            Some(reason) if overdue || !self.depacketizer.open_is_sound_idr() => Some(reason),
            None if overdue => Some(Reason::Again),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    const SETS: &[u8] = &[0x78, 0, 5, 0x67, 66, 0, 31, 0x80, 0, 2, 0x68, 0x80];

    /// A sender of tiny pictures: an IDR is three packets (STAP-A and two fragments), any other picture two slices.
    struct Sender {
        sequence: u16,
        timestamp: u32,
        now: Instant,
    }

    impl Sender {
        fn new() -> Self {
            Self { sequence: 65_530, timestamp: u32::MAX - 5000, now: Instant::now() }
        }

        fn packet(&mut self, payload: &'static [u8], marker: bool) -> RtpPacket {
            self.sequence = self.sequence.wrapping_add(1);
            let payload = Bytes::from_static(payload);
            let (sequence_number, timestamp) = (self.sequence, self.timestamp);
            RtpPacket { sequence_number, timestamp, marker, payload, arrived: self.now }
        }

        fn unit(&mut self, idr: bool) -> Vec<RtpPacket> {
            self.timestamp = self.timestamp.wrapping_add(3000);
            self.now += Duration::from_millis(33);
            if idr {
                vec![
                    self.packet(SETS, false),
                    self.packet(&[0x7c, 0x85, 0x88, 1], false),
                    self.packet(&[0x7c, 0x45, 2], true),
                ]
            } else {
                vec![self.packet(&[0x61, 0x88, 3], false), self.packet(&[0x61, 0x48, 4], true)]
            }
        }

        fn padding(&mut self) -> RtpPacket {
            self.packet(&[], false)
        }
    }

    /// What comes out of pushing packets one by one: timestamps of units, reasons of requests.
    fn feed(assembler: &mut Assembler, packets: impl IntoIterator<Item = RtpPacket>) -> Vec<Result<u32, Reason>> {
        let mut out = Vec::new();
        for packet in packets {
            let now = packet.arrived;
            assembler.push(packet);
            out.extend(drain(assembler, now));
        }
        out
    }

    fn drain(assembler: &mut Assembler, now: Instant) -> Vec<Result<u32, Reason>> {
        std::iter::from_fn(|| assembler.poll(now))
            .map(|assembled| match assembled {
                Assembled::AccessUnit(unit) => Ok(unit.rtp_timestamp),
                Assembled::KeyframeNeeded(reason) => Err(reason),
            })
            .collect()
    }

    fn started() -> (Sender, Assembler) {
        let (mut sender, mut assembler) = (Sender::new(), Assembler::new(AssemblerConfig::default()));
        assert_eq!(feed(&mut assembler, sender.unit(true)).len(), 1);
        (sender, assembler)
    }

    #[test]
    fn a_unit_comes_out_on_its_last_packet() {
        let (mut sender, mut assembler) = started();
        let unit = sender.unit(false);
        assert_eq!(feed(&mut assembler, [unit[0].clone()]), []);
        assert_eq!(feed(&mut assembler, [unit[1].clone()]), [Ok(sender.timestamp)]);
        assert_eq!(assembler.deadline(), None);
    }

    #[test]
    fn a_new_timestamp_ends_a_unit_without_marker() {
        let (mut sender, mut assembler) = started();
        let mut unit = sender.unit(false);
        unit[1].marker = false;
        let first = sender.timestamp;
        assert_eq!(feed(&mut assembler, unit), []);
        assert_eq!(feed(&mut assembler, sender.unit(false)), [Ok(first), Ok(sender.timestamp)]);
    }

    #[test]
    fn a_stream_that_begins_in_the_middle_asks_for_a_keyframe_once() {
        let (mut sender, mut assembler) = (Sender::new(), Assembler::new(AssemblerConfig::default()));
        let middle: Vec<_> = [sender.unit(false).split_off(1), sender.unit(false), sender.unit(false)].concat();
        assert_eq!(feed(&mut assembler, middle), [Err(Reason::Start)]);
        assert_eq!(feed(&mut assembler, sender.unit(true)), [Ok(sender.timestamp)]);
        assert_eq!(feed(&mut assembler, sender.unit(false)), [Ok(sender.timestamp)]);
        assert_eq!(assembler.counters().dropped, 2);
    }

    #[test]
    fn reordered_and_padded_packets_lose_nothing() {
        let (mut sender, mut assembler) = started();
        let mut packets = sender.unit(false);
        let first = sender.timestamp;
        packets.extend([sender.padding(), sender.padding()]);
        packets.extend(sender.unit(false));
        packets.reverse();
        packets.push(packets[0].clone());
        assert_eq!(feed(&mut assembler, packets), [Ok(first), Ok(sender.timestamp)]);
        let counters = assembler.counters();
        assert_eq!((counters.padding, counters.duplicates, counters.lost, counters.units), (2, 1, 0, 3));
    }

    #[test]
    fn a_lost_packet_asks_for_one_keyframe_and_nothing_comes_before_it() {
        let (mut sender, mut assembler) = started();
        let lost = sender.unit(false).remove(0);
        let behind = sender.unit(false);
        let since = behind[0].arrived;
        assert_eq!(feed(&mut assembler, behind), []);
        let deadline = assembler.deadline().unwrap();
        assert_eq!(deadline, since + Duration::from_millis(150));
        assert_eq!(drain(&mut assembler, deadline - Duration::from_millis(1)), []);
        assert_eq!(drain(&mut assembler, deadline), [Err(Reason::Loss)]);
        assert_eq!(feed(&mut assembler, [lost]), [], "too late");
        for _ in 0..5 {
            assert_eq!(feed(&mut assembler, sender.unit(false)), []);
        }
        let again = assembler.deadline().unwrap();
        assert_eq!(again, deadline + Duration::from_millis(500));
        assert_eq!(drain(&mut assembler, again), [Err(Reason::Again)]);
        assert_eq!(drain(&mut assembler, again), []);
        assert_eq!(feed(&mut assembler, sender.unit(true)), [Ok(sender.timestamp)]);
        assert_eq!(assembler.deadline(), None);
        let counters = assembler.counters();
        assert_eq!((counters.lost, counters.late, counters.broken, counters.keyframe_requests), (2, 1, 1, 2));
    }

    #[test]
    fn a_packet_that_comes_again_in_time_fills_the_gap() {
        let (mut sender, mut assembler) = started();
        let mut unit = sender.unit(false);
        let (first, mut lost) = (sender.timestamp, unit.remove(0));
        assert_eq!(feed(&mut assembler, [unit, sender.unit(false)].concat()), []);
        lost.arrived = sender.now + Duration::from_millis(40);
        assert_eq!(feed(&mut assembler, [lost]), [Ok(first), Ok(sender.timestamp)]);
        assert_eq!(assembler.counters().lost, 0);
    }

    #[test]
    fn a_whole_idr_behind_a_gap_is_taken_at_once() {
        let (mut sender, mut assembler) = started();
        let broken = sender.unit(false).split_off(1);
        let idr = sender.unit(true);
        assert_eq!(feed(&mut assembler, [broken, idr].concat()), [Ok(sender.timestamp)]);
        let counters = assembler.counters();
        assert_eq!((counters.jumps, counters.lost, counters.keyframe_requests), (1, 1, 0));
    }

    #[test]
    fn an_idr_whose_head_is_missing_is_not_trusted() {
        let (mut sender, mut assembler) = started();
        let headless = sender.unit(true).split_off(1);
        assert_eq!(feed(&mut assembler, headless), []);
        let deadline = assembler.deadline().unwrap();
        assert_eq!(drain(&mut assembler, deadline), [Err(Reason::Loss)]);
        assert_eq!(assembler.counters().broken, 1);
    }

    #[test]
    fn a_keyframe_that_breaks_on_its_way_is_asked_for_again_at_once() {
        let (mut sender, mut assembler) = (Sender::new(), Assembler::new(AssemblerConfig::default()));
        assert_eq!(feed(&mut assembler, sender.unit(false)), [Err(Reason::Start)]);
        let mut idr = sender.unit(true);
        idr.remove(1);
        assert_eq!(feed(&mut assembler, idr), []);
        let deadline = sender.now + Duration::from_millis(150);
        assert_eq!(drain(&mut assembler, deadline), [Err(Reason::Broken)]);
        assert_eq!(drain(&mut assembler, deadline), []);
    }

    #[test]
    fn a_malformed_unit_costs_the_units_up_to_the_next_idr() {
        let (mut sender, mut assembler) = started();
        let mut unit = sender.unit(false);
        unit[0].payload = Bytes::from_static(&[0x78, 0xff, 0xff]);
        assert_eq!(feed(&mut assembler, unit), [Err(Reason::Broken)]);
        assert_eq!(feed(&mut assembler, sender.unit(false)), []);
        assert_eq!(feed(&mut assembler, sender.unit(true)), [Ok(sender.timestamp)]);
    }

    #[test]
    fn a_marker_on_parameter_sets_alone_ends_nothing() {
        let (mut sender, mut assembler) = started();
        let mut idr = sender.unit(true);
        idr[0].marker = true;
        assert_eq!(feed(&mut assembler, idr), [Ok(sender.timestamp)]);
    }

    #[test]
    fn a_restarted_sender_is_taken_up_with_its_next_idr() {
        let (mut sender, mut assembler) = started();
        sender.sequence = sender.sequence.wrapping_add(20_000);
        sender.timestamp = 7;
        let mut out = Vec::new();
        for _ in 0..4 {
            out.extend(feed(&mut assembler, sender.unit(false)));
        }
        assert_eq!(out, [Err(Reason::Loss)]);
        assert_eq!(feed(&mut assembler, sender.unit(true)), [Ok(sender.timestamp)]);
        assert_eq!(assembler.counters().restarts, 1);
    }

    proptest! {
        #[test]
        fn arbitrary_packets_neither_panic_nor_stall(
            packets in prop::collection::vec((0u16..40, 0u32..4, any::<bool>(), prop::collection::vec(any::<u8>(), 0..12), 0u64..60), 0..200),
        ) {
            let mut assembler = Assembler::new(AssemblerConfig { window: 16, ..AssemblerConfig::default() });
            let mut now = Instant::now();
            let mut sequence = 0u16;
            for (step, timestamp, marker, mut payload, ms) in packets {
                sequence = sequence.wrapping_add(step / 10).wrapping_sub(1);
                if let Some(first) = payload.first_mut() {
                    *first = [0x61, 0x65, 0x67, 0x68, 0x78, 0x7c][usize::from(*first) % 6];
                }
                now += Duration::from_millis(ms);
                assembler.push(RtpPacket { sequence_number: sequence, timestamp, marker, payload: payload.into(), arrived: now });
                prop_assert!(drain(&mut assembler, now).len() < 40);
                prop_assert!(assembler.deadline().is_none_or(|deadline| deadline > now), "a deadline that polling does not clear");
            }
        }

        #[test]
        fn what_comes_out_is_a_chain_from_an_idr_whatever_is_lost(
            kept in prop::collection::vec(prop::bool::weighted(0.9), 600),
            idrs in prop::collection::vec(prop::bool::weighted(0.1), 200),
        ) {
            let (mut sender, mut assembler) = (Sender::new(), Assembler::new(AssemblerConfig::default()));
            let mut kept = kept.into_iter();
            let mut sent = Vec::new();
            let mut out = Vec::new();
            for idr in idrs {
                let mut whole = true;
                for packet in sender.unit(idr) {
                    if kept.next().unwrap_or(true) { out.extend(feed(&mut assembler, [packet])) } else { whole = false }
                }
                sent.push((sender.timestamp, idr, whole));
            }
            out.extend(drain(&mut assembler, sender.now + Duration::from_secs(1)));
            let mut before: Option<usize> = None;
            for timestamp in out.into_iter().filter_map(Result::ok) {
                let index = sent.iter().position(|&(sent, ..)| sent == timestamp).unwrap();
                let (_, idr, whole) = sent[index];
                prop_assert!(whole);
                prop_assert!(idr || before.is_some_and(|before| before + 1 == index), "unit {index} behind {before:?}");
                before = Some(index);
            }
        }
    }
}
