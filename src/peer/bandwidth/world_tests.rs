//! A model of a sender, a link and a receiver in virtual time: no pacer, and feedback ten times a second. What the frames weigh is
//! the caller's matter, so that the rooms behind the estimate can be tried with it too.

use rtc::rtcp::transport_feedbacks::transport_layer_cc::{
    PacketStatusChunk, RecvDelta, StatusChunkTypeTcc, StatusVectorChunk, SymbolSizeTypeTcc, SymbolTypeTcc,
};

use super::*;

#[allow(clippy::duplicate_mod)] // the rooms do not know each other, nor do their tests
#[path = "../../../tests/support/link.rs"]
pub(crate) mod link;

use link::{Conditions, Link};

pub(crate) const FRAME: Duration = Duration::from_micros(33_333);
const FEEDBACK: Duration = Duration::from_millis(100);
const PAYLOAD: usize = 1180;
const HEADERS: usize = 76;
/// The other side's clock is far from ours.
const CLOCK: i64 = 77_777_777_000;

/// What one feedback says: each packet's number and arrival.
type Feedback = Vec<(u16, Option<Instant>)>;

type Encode = Box<dyn FnMut(Instant, Option<Bandwidth>) -> Option<usize>>;

/// A sender, a link and a receiver.
pub(crate) struct World {
    pub(super) estimator: Estimator,
    link: Link,
    start: Instant,
    pub(crate) now: Instant,
    /// What the next frame weighs, in bytes, by what is known of the link; none where no frame is sent.
    encode: Encode,
    number: u16,
    /// Packets of which no feedback has been given: number and arrival.
    flying: VecDeque<(u16, Option<Instant>)>,
    /// Feedback on its way: when it comes.
    back: VecDeque<(Instant, Feedback)>,
    next_feedback: Instant,
    /// For each frame: when it was sent, when its last packet arrived, its bits.
    seen: Vec<(Instant, Option<Instant>, f64)>,
    delay: Duration,
}

impl World {
    pub(crate) fn new(conditions: Conditions, encode: Encode) -> Self {
        let start = Instant::now();
        Self {
            estimator: Estimator::default(),
            link: Link::new(conditions),
            start,
            now: start,
            encode,
            number: 65_000,
            flying: VecDeque::new(),
            back: VecDeque::new(),
            next_feedback: start + FEEDBACK,
            seen: Vec::new(),
            delay: conditions.delay,
        }
    }

    fn frame(&mut self) {
        let Some(bytes) = (self.encode)(self.now, self.estimator.bandwidth()) else { return };
        let mut left = bytes.max(100);
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
        self.seen.push((self.now, last, bytes as f64 * 8.0));
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

    pub(crate) fn play(&mut self, seconds: f64) {
        let end = self.now + Duration::from_secs_f64(seconds);
        while self.now < end {
            self.frame();
            self.now += FRAME;
            self.give_feedback();
        }
    }

    pub(crate) fn set_rate(&mut self, conditions: Conditions) {
        self.link.set(conditions);
    }

    /// Bits a second of video that were sent between two moments, by the whole link's.
    pub(crate) fn used(&self, from: f64, to: f64, link: f64) -> f64 {
        let within = |at: Instant| (from..to).contains(&(at - self.start).as_secs_f64());
        let bits: f64 = self.seen.iter().filter(|(at, ..)| within(*at)).map(|(.., bits)| bits).sum();
        // As on the wire.
        bits / 0.93 / (to - from) / link
    }

    /// The longest that a frame took between two moments, in seconds, over the empty way; lost ones aside.
    pub(crate) fn longest(&self, from: f64, to: f64) -> f64 {
        let within = |at: Instant| (from..to).contains(&(at - self.start).as_secs_f64());
        let took = self.seen.iter().filter(|(at, ..)| within(*at)).filter_map(|(at, last, _)| Some((*last)? - *at));
        took.max().unwrap_or_default().saturating_sub(self.delay).as_secs_f64()
    }

    pub(crate) fn trace(&self) {
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
