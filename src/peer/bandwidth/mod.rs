//! What the way to one viewer carries, estimated from transport-wide feedback. Sans-IO: times are arguments.
//!
//! The stack brings an estimator with it. It takes a pacer, which holds the last packet of a frame back by 20 ms, and rises by 8 %
//! a second at most: from 300 kbit/s to 3 Mbit/s that is half a minute. This one is made for a sender whose frames are bursts:
//! `delay` finds the queue that they leave behind, `capacity` reads what the link carries from the bursts themselves, `control`
//! makes a rate of both.

mod capacity;
mod control;
mod delay;
mod feedback;
mod history;
mod repair;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rtc::rtcp::transport_feedbacks::transport_layer_cc::TransportLayerCc;

use capacity::Capacity;
use control::{Control, Finding, Signals};
use delay::Delays;
use feedback::ReferenceClock;
use history::{History, Outcome};
use repair::Repairs;

/// The time over which losses are counted, and the packets below which they say nothing.
const LOSS_WINDOW: Duration = Duration::from_secs(2);
const LEAST_PACKETS: u32 = 20;

/// Feedback comes every 50 to 250 ms. Without any of it for this long, what was sent does not arrive, or nobody can say so.
const SILENCE: Duration = Duration::from_secs(1);

/// In silence the rate falls this often.
const SILENCE_STEP: Duration = Duration::from_millis(500);

/// The time over which it is counted what of the bytes is video.
const SHARE_WINDOW: Duration = Duration::from_secs(1);

/// An encode that fills what it is given sends about this share of it.
const FILLED: f64 = 0.9;

/// What is known of the way to a viewer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bandwidth {
    /// What may be sent, in bits a second, headers of IP, UDP, RTP and encryption included.
    pub bps: f64,
    /// What of it is left for the payload of the video: without headers, repetitions and audio.
    pub video_bps: f64,
    /// What of it the packets of tracks do not use. Those of the datachannel are not in the feedback, so they take from this.
    pub spare_bps: f64,
    /// Whether it was found full, and not wider since: if not, `bps` is no more than what was tried.
    pub limited: bool,
    /// How long packets stand in a queue on the way.
    pub queue: Duration,
    /// The share of packets that were lost over the last two seconds, 0 to 1; `None` where too few were sent to say.
    pub loss: Option<f32>,
}

/// What leaves, by what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Load {
    /// A packet of video with so many bytes of payload, sent for the first time.
    Video(usize),
    /// Audio, or a packet that is sent once more.
    Other,
}

/// Bytes of about a second.
#[derive(Debug, Default)]
struct Shares {
    began: Option<Instant>,
    payload: usize,
    video: usize,
    other: usize,
    /// Of the window before: payload in each byte of video, and bits a second of all else.
    settled: Option<(f64, f64)>,
}

impl Shares {
    fn put(&mut self, bytes: usize, load: Load, now: Instant) {
        let began = *self.began.get_or_insert(now);
        let took = now.saturating_duration_since(began);
        if took >= SHARE_WINDOW {
            if self.video > 0 {
                let other = self.other as f64 * 8.0 / took.as_secs_f64();
                self.settled = Some((self.payload as f64 / self.video as f64, other));
            }
            *self = Self { began: Some(now), settled: self.settled, ..Self::default() };
        }
        match load {
            Load::Video(payload) => {
                self.payload += payload;
                self.video += bytes;
            }
            Load::Other => self.other += bytes,
        }
    }

    /// What is left for the payload of video. Repetitions are at most half of the rest: else there would be nothing to repeat.
    fn video_of(&self, bps: f64) -> f64 {
        let (share, other) = self.settled.unwrap_or((0.92, 0.0));
        share.clamp(0.5, 1.0) * (bps - other).max(bps / 2.0)
    }
}

/// Estimates the bandwidth of one connection.
#[derive(Debug, Default)]
pub(super) struct Estimator {
    start: Option<Instant>,
    history: History,
    clock: ReferenceClock,
    delays: Delays,
    capacity: Capacity,
    control: Control,
    shares: Shares,
    losses: VecDeque<(Instant, u32, u32)>,
    repairs: Repairs,
    heard: Option<Instant>,
    fell: Option<Instant>,
    /// What the other side says that it takes (REMB).
    allowed: Option<f64>,
}

impl Estimator {
    /// A packet leaves with this transport-wide number and so many bytes on the wire. True where that changed the estimate:
    /// nothing is heard of those before.
    pub(super) fn sent(&mut self, number: u16, bytes: usize, load: Load, now: Instant) -> bool {
        self.start.get_or_insert(now);
        self.history.sent(number, bytes, now);
        self.shares.put(bytes, load, now);
        let Some(heard) = self.heard.filter(|heard| now.saturating_duration_since(*heard) > SILENCE) else {
            return false;
        };
        let unheard = self.history.unheard(heard).is_some_and(|at| now.saturating_duration_since(at) > SILENCE);
        let falls = unheard && self.fell.is_none_or(|fell| now.saturating_duration_since(fell) > SILENCE_STEP);
        if falls {
            self.fell = Some(now);
            self.control.unheard();
        }
        falls
    }

    /// The other side says what became of packets. True where that changed the estimate.
    pub(super) fn feedback(&mut self, feedback: &TransportLayerCc, now: Instant) -> bool {
        let Some(start) = self.start else { return false };
        self.heard = Some(now);
        let (mut lost, mut total) = (0u32, 0u32);
        let rate = self.control.target();
        for fate in feedback::read(feedback, &mut self.clock) {
            let Some(report) = self.history.resolve(fate) else { continue };
            total += u32::from(!report.was_lost);
            lost += u32::from(report.outcome == Outcome::Lost);
            if let Outcome::CameAt(arrived) = report.outcome {
                let sent = report.sent.saturating_duration_since(start).as_micros();
                let delay = arrived.saturating_sub(i64::try_from(sent).unwrap_or(i64::MAX));
                self.delays.put(report.sent, arrived, delay);
                let waited = self.delays.waited(delay) > self.delays.free(rate);
                self.capacity.put(report.sent, arrived, report.bytes, waited);
            }
        }
        self.capacity.end_burst();
        if total == 0 {
            return false;
        }
        self.losses.push_back((now, lost, total));
        while self.losses.front().is_some_and(|(at, ..)| now.saturating_duration_since(*at) > LOSS_WINDOW) {
            self.losses.pop_front();
        }
        let signals = Signals {
            standing: self.delays.standing(),
            threshold: self.delays.threshold(rate),
            arriving: self.capacity.arriving(),
            carried: self.capacity.carried(),
            bursts: self.capacity.of_bursts(now),
            loss: self.sure_loss(),
        };
        match self.control.update(now, &signals) {
            Finding::Nothing => {}
            Finding::LongerWay => self.delays.accept(),
            // It is the losses from here on that say what the new rate is worth.
            Finding::Cut => self.losses.clear(),
        }
        tracing::trace!(?signals, target = ?self.control.target(), "bandwidth");
        true
    }

    /// Whether a packet that the other side asks for once more is sent once more.
    pub(super) fn repairs(&mut self, sequence_number: u16, round_trip: Option<Duration>, now: Instant) -> bool {
        let queue = self.delays.standing();
        self.repairs.admit(sequence_number, now, round_trip, queue, self.control.target())
    }

    /// The other side says how much it takes, in bits a second (draft-alvestrand-rmcat-remb-03).
    pub(super) fn allow(&mut self, bps: f64) {
        self.allowed = (bps.is_finite() && bps > 0.0).then(|| bps.clamp(control::LEAST, control::MOST));
    }

    fn loss(&self) -> Option<f64> {
        let (lost, total) = self.losses.iter().fold((0, 0), |(lost, total), more| (lost + more.1, total + more.2));
        (total >= LEAST_PACKETS).then(|| f64::from(lost) / f64::from(total))
    }

    /// The share that is lost for sure: one standard deviation below what was counted, so that chance among few packets is no
    /// congestion.
    fn sure_loss(&self) -> Option<f64> {
        let total: u32 = self.losses.iter().map(|(_, _, total)| *total).sum();
        self.loss().map(|loss| (loss - (loss * (1.0 - loss) / f64::from(total)).sqrt()).max(0.0))
    }

    /// What is known; `None` before the first word from the other side.
    pub(super) fn bandwidth(&self) -> Option<Bandwidth> {
        let bps = match (self.control.target(), self.allowed) {
            (Some(target), Some(allowed)) => target.min(allowed),
            (target, allowed) => target.or(allowed)?,
        };
        #[allow(clippy::cast_possible_truncation)] // 0 to 1
        let loss = self.loss().map(|loss| loss as f32);
        let spare_bps = self.capacity.arriving().map_or(0.0, |arriving| (bps * FILLED - arriving).max(0.0));
        let video_bps = self.shares.video_of(bps);
        let limited = self.control.is_limited() || self.allowed.is_some_and(|allowed| allowed <= bps);
        Some(Bandwidth { bps, video_bps, spare_bps, limited, queue: self.delays.standing(), loss })
    }
}

#[cfg(test)]
#[path = "world_tests.rs"]
pub(crate) mod world;

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
