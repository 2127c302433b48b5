//! What one stream's video thread does less of, frame by frame.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::super::metrics::DropReason;
use super::super::shared::Shared;
use super::ladder::{DETECTION_STEPS, FLOOR, Ladder, Relief, relief};
use super::meter::{PAUSE, Verdict};
use super::{Meter, computed};
use crate::detect::Lane;

/// The frame at hand, and how the ones before it fared.
#[derive(Debug)]
pub(in crate::pipeline) struct Giver {
    meter: Meter,
    ladder: Ladder,
    /// How many streams had left, and how many took frames, at the end of the last window.
    others: Option<(Instant, u64, usize)>,
    /// When the unit at hand came.
    arrived: Instant,
    /// What the thread had computed when it took the unit.
    computed: Duration,
    /// When a frame was last offered to the detector.
    offered: Option<Instant>,
    /// Frames that might have been encoded.
    frames: u64,
    /// What an encode takes, drawing included.
    encode: Duration,
}

impl Giver {
    pub(in crate::pipeline) fn new() -> Self {
        Self {
            meter: Meter::default(),
            ladder: Ladder::new(),
            others: None,
            arrived: Instant::now(),
            computed: Duration::ZERO,
            offered: None,
            frames: 0,
            encode: Duration::ZERO,
        }
    }

    /// The thread takes a unit that came at `arrived`.
    pub(in crate::pipeline) fn begin(&mut self, arrived: Instant) {
        self.arrived = arrived;
        self.computed = computed();
    }

    /// Whether the detector may be offered a frame now. If so, it is.
    pub(in crate::pipeline) fn may_look(&mut self, shared: &Shared) -> bool {
        let now = Instant::now();
        let own = relief(self.ladder.step().min(DETECTION_STEPS)).detect_every;
        let own = if shared.hides_objects() { Duration::ZERO } else { own };
        let every = shared.looks_every().max(own);
        let may = self.offered.is_none_or(|offered| now.saturating_duration_since(offered) >= every);
        if may {
            self.offered = Some(now);
        }
        may
    }

    /// Whether a frame is to be encoded now. `begins`: somebody waits for its first picture.
    pub(in crate::pipeline) fn may_encode(&mut self, shared: &Shared, begins: bool) -> Result<(), DropReason> {
        self.frames += 1;
        if self.arrived.elapsed() + self.encode > shared.max_latency {
            // The guess shrinks, so that one very slow encode does not end all that follow.
            self.encode -= self.encode / 4;
            return Err(DropReason::Late);
        }
        let every = self.relief().every;
        if every > 1 && !begins && !self.frames.is_multiple_of(every.into()) {
            return Err(DropReason::Overload);
        }
        Ok(())
    }

    /// What is done less of.
    pub(in crate::pipeline) fn relief(&self) -> Relief {
        relief(self.ladder.step())
    }

    /// A frame was drawn on and encoded since `begun`.
    pub(in crate::pipeline) fn encoded(&mut self, begun: Instant) {
        let took = begun.elapsed();
        self.encode = if self.encode.is_zero() { took } else { (self.encode * 3 + took) / 4 };
    }

    /// The thread is done with the unit. `lane`: where the stream is looked at.
    pub(in crate::pipeline) fn end(&mut self, shared: &Shared, lane: &Lane) {
        let now = Instant::now();
        let computed = computed().saturating_sub(self.computed);
        let wait = now.saturating_duration_since(self.arrived).saturating_sub(computed);
        let Some(window) = self.meter.note(wait, computed, now).filter(|_| shared.give_way) else { return };
        let before = self.ladder.step();
        let verdict = window.verdict;
        let verdict = if verdict.is_good() && lane.starves(FLOOR) {
            Verdict::Hungry
        } else if verdict == Verdict::Calm && before > DETECTION_STEPS && lane.lacks_cores(FLOOR) {
            Verdict::Fair
        } else {
            verdict
        };
        let (left, here) = shared.member.left(now);
        let others = self.others.replace((now, left, here));
        // What was so long ago says nothing of now.
        let others = others.filter(|(at, ..)| now.saturating_duration_since(*at) < PAUSE);
        let room = match others {
            Some((_, before, there)) if before != left => self.ladder.forget(there, here, window.busy),
            _ => false,
        };
        let step = if room {
            // The window was of before.
            self.ladder.step()
        } else {
            self.ladder.take(verdict, shared.member.most(window.full), || shared.member.may_step_back(now))
        };
        shared.member.stand(step, window.full, now);
        if step == before {
            return;
        }
        shared.step.store(step, Ordering::Relaxed);
        shared.metrics.gives_way(step);
        tracing::debug!(stream = %shared.name, step, gives = ?self.relief().gives, "giving way");
    }
}
