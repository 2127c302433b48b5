//! Where all streams of a server stand: the detector's cadence for all, and whether a new session may come.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use metrics::gauge;

use super::ladder::{DETECTION_STEPS, LAST_STEPS};

/// In this time one of so many streams at most takes a step back: if all did at once, each would find that it was too much.
const TURN: Duration = Duration::from_millis(500);
const SHARE: usize = 3;

/// A stream that took no frame for this long, as its publisher has gone or its camera is silent, has no load: where it stood says
/// nothing any more.
const SILENT: Duration = Duration::from_secs(3);

/// The load on a server, as its streams feel it.
#[derive(Debug, Default)]
pub struct Load {
    standings: Mutex<Standings>,
    /// How far the detector has given way for all.
    detection: AtomicU8,
    /// Nothing is left to give.
    full: AtomicBool,
}

#[derive(Debug, Default)]
struct Standings {
    next: u64,
    steps: HashMap<u64, Standing>,
    /// When streams took their last steps back.
    back: VecDeque<Instant>,
    /// How many streams have left.
    left: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Standing {
    step: u8,
    /// It waits for itself.
    alone: bool,
    /// When it last said so; `None` before the first time.
    at: Option<Instant>,
}

impl Standing {
    fn is_live(&self, now: Instant) -> bool {
        self.at.is_none() || self.works(now)
    }

    /// Whether it took frames just now.
    fn works(&self, now: Instant) -> bool {
        self.at.is_some_and(|at| now.saturating_duration_since(at) < SILENT)
    }
}

impl Load {
    /// The load of no streams.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Whether all has given way that can, for half of the streams or more: one more session would cost latency.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.settle(&self.lock(), Instant::now());
        self.full.load(Ordering::Relaxed)
    }

    /// A stream begins.
    pub(in crate::pipeline) fn join(self: &Arc<Self>) -> Member {
        let mut standings = self.lock();
        let id = standings.next;
        standings.next += 1;
        standings.steps.insert(id, Standing::default());
        self.settle(&standings, Instant::now());
        Member { load: Arc::clone(self), id }
    }

    fn settle(&self, standings: &Standings, now: Instant) {
        let live: Vec<_> = standings.steps.values().filter(|standing| standing.is_live(now)).collect();
        // A stream that fills a core by itself is not helped by what the detector gives for all.
        let shared = live.iter().filter(|standing| !standing.alone).map(|standing| standing.step);
        let detection = shared.max().unwrap_or(0).min(DETECTION_STEPS);
        let at_the_end = live.iter().filter(|standing| standing.step >= LAST_STEPS).count();
        let full = at_the_end > 0 && at_the_end * 2 >= live.len();
        if self.full.swap(full, Ordering::Relaxed) != full {
            if full {
                tracing::warn!("the machine is full: new sessions are refused until a stream needs less or leaves");
            } else {
                tracing::info!("the machine has room again");
            }
        }
        self.detection.store(detection, Ordering::Relaxed);
        gauge!("sightline_overload_full").set(if full { 1.0 } else { 0.0 });
    }

    fn lock(&self) -> MutexGuard<'_, Standings> {
        self.standings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One stream's part of the load. Dropping it takes the stream out.
#[derive(Debug)]
pub(in crate::pipeline) struct Member {
    load: Arc<Load>,
    id: u64,
}

impl Member {
    /// Says on which step of its ladder the stream stands, and whether it is its own work that it waits for: every half second.
    pub(in crate::pipeline) fn stand(&self, step: u8, alone: bool, now: Instant) {
        let mut standings = self.load.lock();
        standings.steps.insert(self.id, Standing { step, alone, at: Some(now) });
        self.load.settle(&standings, now);
    }

    /// Whether the stream may take a step back now; if so, it does.
    pub(in crate::pipeline) fn may_step_back(&self, now: Instant) -> bool {
        let mut standings = self.load.lock();
        let Standings { steps, back, .. } = &mut *standings;
        back.retain(|at| now.saturating_duration_since(*at) < TURN);
        let may = back.len() < steps.len().div_ceil(SHARE);
        if may {
            back.push_back(now);
        }
        may
    }

    /// How many streams have left the server so far, and how many take frames now: when one has left, there may be room.
    pub(in crate::pipeline) fn left(&self, now: Instant) -> (u64, usize) {
        let standings = self.load.lock();
        (standings.left, standings.steps.values().filter(|standing| standing.works(now)).count())
    }

    /// How far the detector has given way for all: 0 to [`DETECTION_STEPS`].
    pub(in crate::pipeline) fn detection(&self) -> u8 {
        self.load.detection.load(Ordering::Relaxed)
    }

    /// The step beyond which this stream does not go now: while the detector may still give more for all, that comes first.
    pub(in crate::pipeline) fn most(&self, alone: bool) -> u8 {
        if alone || self.detection() >= DETECTION_STEPS { u8::MAX } else { DETECTION_STEPS }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let mut standings = self.load.lock();
        let now = Instant::now();
        // One that took no frames leaves no room.
        let worked = standings.steps.remove(&self.id).is_some_and(|standing| standing.works(now));
        standings.left += u64::from(worked);
        self.load.settle(&standings, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_detector_gives_way_for_all_and_a_stream_that_is_full_by_itself_asks_nobody() {
        let load = Load::new();
        let (one, other) = (load.join(), load.join());
        let now = Instant::now();
        one.stand(2, false, now);
        assert_eq!((one.detection(), other.detection()), (2, 2));
        assert_eq!(other.most(false), DETECTION_STEPS);
        one.stand(6, true, now);
        assert_eq!(other.detection(), 0);
        assert_eq!(one.most(true), u8::MAX);
        one.stand(6, false, now);
        assert_eq!((other.detection(), other.most(false)), (DETECTION_STEPS, u8::MAX));
        drop(one);
        assert_eq!(other.detection(), 0);
    }

    #[test]
    fn a_stream_whose_publisher_has_gone_holds_up_nobody() {
        let load = Load::new();
        let (gone, other) = (load.join(), load.join());
        let now = Instant::now();
        gone.stand(LAST_STEPS, false, now);
        assert!(load.is_full() && other.detection() == DETECTION_STEPS);
        other.stand(0, false, now + SILENT);
        assert_eq!(other.detection(), 0);
        gone.stand(LAST_STEPS, false, now.checked_sub(SILENT).unwrap_or(now));
        assert!(!load.is_full());
    }

    #[test]
    fn one_stream_in_three_takes_a_step_back_at_a_time() {
        let load = Load::new();
        let members: Vec<_> = (0..7).map(|_| load.join()).collect();
        let now = Instant::now();
        let may = |now: Instant| members.iter().filter(|member| member.may_step_back(now)).count();
        assert_eq!((may(now), may(now + TURN / 2), may(now + TURN)), (3, 0, 3));
        assert!(load.join().may_step_back(now + 2 * TURN));
    }

    #[test]
    fn who_leaves_counts_if_it_worked() {
        let load = Load::new();
        let now = Instant::now();
        let [working, silent, new, other] = [(); 4].map(|()| load.join());
        working.stand(0, false, now);
        other.stand(0, false, now);
        silent.stand(0, false, now.checked_sub(SILENT).unwrap_or(now));
        assert_eq!(other.left(now), (0, 2));
        drop((silent, new));
        assert_eq!(other.left(now), (0, 2));
        drop(working);
        assert_eq!(other.left(now), (1, 1));
    }

    #[test]
    fn it_is_full_when_half_of_the_streams_have_nothing_left_to_give() {
        let load = Load::new();
        assert!(!load.is_full());
        let members: Vec<_> = (0..4).map(|_| load.join()).collect();
        let now = Instant::now();
        members[0].stand(LAST_STEPS, false, now);
        assert!(!load.is_full());
        members[1].stand(LAST_STEPS + 1, false, now);
        assert!(load.is_full());
        members[1].stand(LAST_STEPS - 1, false, now);
        assert!(!load.is_full());
    }
}
