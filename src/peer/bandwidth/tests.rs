//! The estimator against a model of a link, in virtual time: a sender without a pacer, frames of uneven size, feedback ten times
//! a second.

use rtc::rtcp::transport_feedbacks::transport_layer_cc::{
    PacketStatusChunk, RecvDelta, RunLengthChunk, StatusChunkTypeTcc, StatusVectorChunk, SymbolSizeTypeTcc,
    SymbolTypeTcc,
};

use super::*;

#[allow(clippy::duplicate_mod)] // the rooms do not know each other, nor do their tests
#[path = "../../../tests/support/link.rs"]
mod link;

use link::{Conditions, Link};

const FRAME: Duration = Duration::from_micros(33_333);
const FEEDBACK: Duration = Duration::from_millis(100);
const PAYLOAD: usize = 1180;
const HEADERS: usize = 76;
/// The other side's clock is far from ours.
const CLOCK: i64 = 77_777_777_000;

/// What one feedback says: each packet's number and arrival.
type Feedback = Vec<(u16, Option<Instant>)>;

/// A sender, a link and a receiver.
struct World {
    estimator: Estimator,
    link: Link,
    start: Instant,
    now: Instant,
    /// The encoder's rate, which follows the estimate two frames later.
    rates: VecDeque<f64>,
    most: f64,
    number: u16,
    /// Packets of which no feedback has been given: number and arrival.
    flying: VecDeque<(u16, Option<Instant>)>,
    /// Feedback on its way: when it comes.
    back: VecDeque<(Instant, Feedback)>,
    next_feedback: Instant,
    frames: usize,
    /// For each frame: when it was sent, when its last packet arrived, its bits.
    seen: Vec<(Instant, Option<Instant>, f64)>,
    delay: Duration,
}

impl World {
    fn new(conditions: Conditions, most: f64) -> Self {
        let start = Instant::now();
        Self {
            estimator: Estimator::default(),
            link: Link::new(conditions),
            start,
            now: start,
            rates: VecDeque::from([most.min(1.5e6); 2]),
            most,
            number: 65_000,
            flying: VecDeque::new(),
            back: VecDeque::new(),
            next_feedback: start + FEEDBACK,
            frames: 0,
            seen: Vec::new(),
            delay: conditions.delay,
        }
    }

    fn frame(&mut self) {
        let rate = self.rates.pop_front().unwrap();
        let aim = self.estimator.bandwidth().map_or(rate, |bandwidth| bandwidth.video_bps.min(self.most));
        self.rates.push_back(aim);
        // Uneven, with a mean of one; the first is an IDR.
        let uneven = [0.6, 1.4, 0.9, 1.2, 0.8, 1.1][self.frames % 6];
        let bytes = rate / 8.0 * FRAME.as_secs_f64() * if self.frames == 0 { 6.0 } else { uneven };
        self.frames += 1;
        let mut left = (bytes as usize).max(100);
        let mut last = Some(self.now);
        while left > 0 {
            let payload = left.min(PAYLOAD);
            left -= payload;
            self.estimator.sent(self.number, payload + HEADERS, Load::Video(payload), self.now);
            let arrives = self.link.carry(payload + HEADERS - 28, self.now);
            last = last.and(arrives);
            self.flying.push_back((self.number, arrives));
            self.number = self.number.wrapping_add(1);
        }
        self.seen.push((self.now, last, bytes * 8.0));
    }

    fn give_feedback(&mut self) {
        while self.next_feedback <= self.now {
            let at = self.next_feedback;
            self.next_feedback += FEEDBACK;
            // All up to the newest that has come; what came not by then is lost.
            let arrived = |(_, at_): &(u16, Option<Instant>)| at_.is_some_and(|arrival| arrival <= at);
            let Some(newest) = self.flying.iter().rposition(arrived) else { continue };
            let told: Vec<_> = self.flying.drain(..=newest).collect();
            self.back.push_back((at + self.delay, told));
        }
        while self.back.front().is_some_and(|(at, _)| *at <= self.now) {
            let (at, told) = self.back.pop_front().unwrap();
            let feedback = self.feedback(&told);
            self.estimator.feedback(&feedback, at);
        }
    }

    fn feedback(&self, told: &[(u16, Option<Instant>)]) -> TransportLayerCc {
        let micros = |at: Instant| CLOCK + (at - self.start).as_micros() as i64;
        let first = told.iter().find_map(|(_, at)| *at).map_or(CLOCK, micros);
        let reference = first / 64_000;
        let mut last = reference * 64_000;
        let mut recv_deltas = Vec::new();
        let symbol = SymbolTypeTcc::PacketReceivedLargeDelta;
        let symbols = told.iter().map(|(_, at)| {
            let Some(at) = at.map(micros) else { return SymbolTypeTcc::PacketNotReceived };
            let delta = (at - last) / 250 * 250;
            last += delta;
            recv_deltas.push(RecvDelta { type_tcc_packet: symbol, delta });
            symbol
        });
        let symbol_list: Vec<_> = symbols.collect();
        TransportLayerCc {
            base_sequence_number: told[0].0,
            packet_status_count: told.len() as u16,
            reference_time: (reference & 0x00ff_ffff) as u32,
            packet_chunks: vec![PacketStatusChunk::StatusVectorChunk(StatusVectorChunk {
                type_tcc: StatusChunkTypeTcc::StatusVectorChunk,
                symbol_size: SymbolSizeTypeTcc::TwoBit,
                symbol_list,
            })],
            recv_deltas,
            ..TransportLayerCc::default()
        }
    }

    fn play(&mut self, seconds: f64) {
        let end = self.now + Duration::from_secs_f64(seconds);
        while self.now < end {
            self.frame();
            self.now += FRAME;
            self.give_feedback();
        }
    }

    fn set_rate(&mut self, conditions: Conditions) {
        self.link.set(conditions);
    }

    /// Bits a second of video that were sent between two moments, by the whole link's.
    fn used(&self, from: f64, to: f64, link: f64) -> f64 {
        let within = |at: Instant| (from..to).contains(&(at - self.start).as_secs_f64());
        let bits: f64 = self.seen.iter().filter(|(at, ..)| within(*at)).map(|(.., bits)| bits).sum();
        // As on the wire.
        bits / 0.93 / (to - from) / link
    }

    /// The longest that a frame took between two moments, in seconds, over the empty way; lost ones aside.
    fn longest(&self, from: f64, to: f64) -> f64 {
        let within = |at: Instant| (from..to).contains(&(at - self.start).as_secs_f64());
        let took = self.seen.iter().filter(|(at, ..)| within(*at)).filter_map(|(at, last, _)| Some((*last)? - *at));
        took.max().unwrap_or_default().saturating_sub(self.delay).as_secs_f64()
    }

    fn trace(&self) {
        let mut second = 0;
        for (at, last, _) in &self.seen {
            let since = (*at - self.start).as_secs_f64();
            if since as usize >= second {
                second += 1;
                println!(
                    "{since:.1}: took {:?}, {:.2} Mbit/s",
                    last.map(|last| last - *at),
                    self.used(since, since + 1.0, 1e6)
                );
            }
        }
    }
}

fn conditions(rate: u64) -> Conditions {
    let delay = Duration::from_millis(25);
    Conditions { rate: Some(rate), queue: (rate / 8) as usize, delay, ..Conditions::clean(5) }
}

#[test]
fn a_link_that_becomes_ten_times_as_wide_and_narrow_again_is_followed() {
    let mut world = World::new(conditions(300_000), 3.2e6);
    world.play(15.0);
    world.set_rate(conditions(3_000_000));
    world.play(15.0);
    world.set_rate(conditions(300_000));
    world.play(15.0);
    world.trace();
    for (from, link) in [(5.0, 300e3), (20.0, 3e6), (35.0, 300e3)] {
        let used = world.used(from, from + 10.0, link);
        assert!((0.8..1.05).contains(&used), "from {from} s on {used:.2} of the link were used");
    }
    for from in [2.0, 15.0, 20.0, 32.0] {
        let longest = world.longest(from, from + 10.0);
        assert!(longest < 0.3, "from {from} s on a frame took {longest:.3} s");
    }
}

#[test]
fn loss_and_jitter_that_mean_no_congestion_leave_the_link_used() {
    for (loss, jitter) in [(0.05, 0), (0.0, 20), (0.02, 20)] {
        let jitter = Duration::from_millis(jitter);
        let mut world = World::new(Conditions { loss, jitter, ..conditions(2_000_000) }, 3.2e6);
        world.play(25.0);
        world.trace();
        let used = world.used(10.0, 25.0, 2e6);
        assert!((0.75..1.05).contains(&used), "loss {loss}, jitter {jitter:?}: {used:.2} of the link were used");
        let longest = world.longest(5.0, 25.0);
        assert!(longest < 0.3, "loss {loss}, jitter {jitter:?}: a frame took {longest:.3} s");
    }
}

#[test]
fn a_way_without_a_limit_gets_all_that_the_encoder_makes() {
    let mut world = World::new(Conditions { rate: None, ..conditions(0) }, 3.2e6);
    world.play(10.0);
    let bandwidth = world.estimator.bandwidth().unwrap();
    assert!(bandwidth.video_bps > 3.2e6, "{bandwidth:?}");
}

#[test]
fn a_way_that_becomes_longer_costs_no_more_than_some_seconds() {
    let mut world = World::new(conditions(2_000_000), 1e6);
    world.play(10.0);
    world.set_rate(Conditions { delay: Duration::from_millis(125), ..conditions(2_000_000) });
    world.play(20.0);
    world.trace();
    assert!(world.used(20.0, 30.0, 1e6) > 0.9);
}

#[test]
fn silence_brings_the_rate_down_and_the_next_word_up_again() {
    let mut world = World::new(conditions(2_000_000), 1e6);
    world.play(5.0);
    let before = world.estimator.bandwidth().unwrap().bps;
    world.set_rate(Conditions { loss: 1.0, ..conditions(2_000_000) });
    world.play(5.0);
    let silent = world.estimator.bandwidth().unwrap().bps;
    assert!(silent < before / 5.0, "{silent} of {before}");
    world.set_rate(conditions(2_000_000));
    world.play(10.0);
    assert!(world.estimator.bandwidth().unwrap().bps > 1e6);
}

#[test]
fn what_the_other_side_allows_is_the_most() {
    let mut world = World::new(conditions(2_000_000), 1e6);
    world.estimator.allow(200_000.0);
    assert!((world.estimator.bandwidth().unwrap().bps - 200e3).abs() < 1.0, "also before any feedback");
    world.play(5.0);
    assert!((world.estimator.bandwidth().unwrap().bps - 200e3).abs() < 1.0);
    world.estimator.allow(f64::NAN);
    assert!(world.estimator.bandwidth().unwrap().bps > 1e6);
}

#[test]
fn feedback_on_nothing_that_was_sent_changes_nothing() {
    let mut estimator = Estimator::default();
    let run = RunLengthChunk {
        type_tcc: StatusChunkTypeTcc::RunLengthChunk,
        packet_status_symbol: SymbolTypeTcc::PacketNotReceived,
        run_length: 8191,
    };
    let feedback = TransportLayerCc {
        packet_status_count: 8191,
        packet_chunks: vec![PacketStatusChunk::RunLengthChunk(run)],
        ..TransportLayerCc::default()
    };
    let now = Instant::now();
    assert!(!estimator.feedback(&feedback, now), "nothing was sent");
    estimator.sent(9000, 1000, Load::Other, now);
    assert!(!estimator.feedback(&feedback, now), "another packet was");
    assert_eq!(estimator.bandwidth(), None);
}
