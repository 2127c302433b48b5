//! The deadline of an inference: who holds a frame, since when, and what to do about it.
//!
//! A detector that takes longer than the deadline is ended ([`Stopper`]), and its thread goes on with another detector. One
//! that cannot be ended, or does not heed it for [`GRACE`], is given up together with its thread, which another replaces.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::Stopper;
use super::lane::lock;

/// How long a detector that was told to end has for it.
const GRACE: Duration = Duration::from_secs(1);

/// A frame in the hands of a detector, with what the caller needs to know of it.
struct Held<T> {
    turn: u64,
    since: Instant,
    stopper: Option<Stopper>,
    /// When it was told to end.
    ended: Option<Instant>,
    whose: Arc<T>,
}

impl<T> Held<T> {
    fn due(&self, deadline: Duration) -> Option<Instant> {
        match self.ended {
            None => self.since.checked_add(deadline),
            Some(ended) => ended.checked_add(GRACE),
        }
    }
}

/// What is to be done about a frame that takes too long.
pub(super) enum Overdue<T> {
    /// It is past its deadline: end it.
    End(Arc<T>, Option<Stopper>),
    /// It did not end: give it up, and its thread.
    GiveUp(Arc<T>),
}

/// How a turn came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// In time.
    InTime,
    /// The detector was told to end, and is not to be used again.
    Ended,
    /// It was given up, and another thread is at work in place of this one.
    GivenUp,
}

/// The frames in work, under a deadline.
pub(super) struct Watch<T> {
    deadline: Duration,
    state: Mutex<State<T>>,
    changed: Condvar,
}

struct State<T> {
    held: Vec<Held<T>>,
    /// The watcher sleeps until somebody begins.
    idle: bool,
    stopping: bool,
}

impl<T> Watch<T> {
    pub(super) fn new(deadline: Duration) -> Self {
        let state = State { held: Vec::new(), idle: false, stopping: false };
        Self { deadline, state: Mutex::new(state), changed: Condvar::new() }
    }

    pub(super) fn deadline(&self) -> Duration {
        self.deadline
    }

    /// A detector begins with a frame.
    pub(super) fn begin(&self, turn: u64, stopper: Option<Stopper>, whose: Arc<T>, now: Instant) {
        let mut state = lock(&self.state);
        state.held.push(Held { turn, since: now, stopper, ended: None, whose });
        // All deadlines are as long: with one ahead, the watcher sleeps no longer than this one allows.
        if std::mem::take(&mut state.idle) {
            drop(state);
            self.changed.notify_all();
        }
    }

    /// The detector is back.
    pub(super) fn end(&self, turn: u64) -> Fate {
        let mut state = lock(&self.state);
        match state.held.iter().position(|held| held.turn == turn) {
            Some(at) if state.held.swap_remove(at).ended.is_none() => Fate::InTime,
            Some(_) => Fate::Ended,
            None => Fate::GivenUp,
        }
    }

    /// Everything in work is due now, whatever its deadline. Returns what ends it.
    pub(super) fn hurry(&self, now: Instant) -> Vec<Stopper> {
        let mut state = lock(&self.state);
        let mut stoppers = Vec::new();
        for held in state.held.iter_mut().filter(|held| held.ended.is_none()) {
            held.ended = Some(now);
            stoppers.extend(held.stopper.clone());
        }
        state.idle = false;
        drop(state);
        self.changed.notify_all();
        stoppers
    }

    /// Lets the watcher go.
    pub(super) fn stop(&self) {
        lock(&self.state).stopping = true;
        self.changed.notify_all();
    }

    /// What is to be done at `now`, or until when there is nothing.
    fn look(&self, state: &mut State<T>, now: Instant) -> Result<Overdue<T>, Option<Instant>> {
        let due = |held: &Held<T>| held.due(self.deadline);
        let first = state.held.iter().enumerate().filter_map(|(at, held)| Some((due(held)?, at))).min();
        match first {
            Some((due, at)) if due <= now => {
                if let Some(held) = state.held.get_mut(at)
                    && held.ended.is_none()
                {
                    held.ended = Some(now);
                    return Ok(Overdue::End(Arc::clone(&held.whose), held.stopper.clone()));
                }
                let held = state.held.swap_remove(at);
                Ok(Overdue::GiveUp(held.whose))
            }
            Some((due, _)) => Err(Some(due)),
            None => Err(None),
        }
    }

    /// Waits until something is to be done; `None` once the watcher may go.
    pub(super) fn next(&self) -> Option<Overdue<T>> {
        let mut state = lock(&self.state);
        loop {
            if state.stopping {
                return None;
            }
            let now = Instant::now();
            state = match self.look(&mut state, now) {
                Ok(overdue) => return Some(overdue),
                Err(Some(due)) => {
                    let waited = self.changed.wait_timeout(state, due.saturating_duration_since(now));
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                Err(None) => {
                    state.idle = true;
                    self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
                }
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    const DEADLINE: Duration = Duration::from_secs(5);
    const MILLI: Duration = Duration::from_millis(1);

    fn at(watch: &Watch<&'static str>, now: Instant) -> Result<Overdue<&'static str>, Option<Instant>> {
        watch.look(&mut lock(&watch.state), now)
    }

    #[test]
    fn what_is_in_time_is_left_alone() {
        let (watch, start) = (Watch::new(DEADLINE), Instant::now());
        assert!(matches!(at(&watch, start), Err(None)));
        watch.begin(1, None, Arc::new("a"), start);
        assert!(matches!(at(&watch, start + DEADLINE - MILLI), Err(Some(due)) if due == start + DEADLINE));
        assert_eq!(watch.end(1), Fate::InTime);
        assert!(matches!(at(&watch, start + 2 * DEADLINE), Err(None)));
    }

    #[test]
    fn what_is_late_is_ended_once_and_then_given_up() {
        let (watch, start) = (Watch::new(DEADLINE), Instant::now());
        watch.begin(1, None, Arc::new("slow"), start);
        watch.begin(2, None, Arc::new("quick"), start + MILLI);
        let late = start + DEADLINE;
        assert!(matches!(at(&watch, late), Ok(Overdue::End(whose, None)) if *whose == "slow"));
        assert!(matches!(at(&watch, late), Err(Some(due)) if due == late + MILLI), "the other is next");
        assert_eq!(watch.end(2), Fate::InTime);
        assert!(matches!(at(&watch, late), Err(Some(due)) if due == late + GRACE));
        assert!(matches!(at(&watch, late + GRACE), Ok(Overdue::GiveUp(whose)) if *whose == "slow"));
        assert!(matches!(at(&watch, late + GRACE), Err(None)));
        assert_eq!(watch.end(1), Fate::GivenUp);
    }

    #[test]
    fn who_heeds_the_end_is_not_given_up() {
        let (watch, start) = (Watch::new(DEADLINE), Instant::now());
        watch.begin(1, None, Arc::new("a"), start);
        assert!(matches!(at(&watch, start + DEADLINE), Ok(Overdue::End(..))));
        assert_eq!(watch.end(1), Fate::Ended);
        assert!(matches!(at(&watch, start + 2 * DEADLINE), Err(None)));
    }

    #[test]
    fn in_a_hurry_all_are_ended_at_once() {
        let (watch, start) = (Watch::new(DEADLINE), Instant::now());
        let ended = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&ended);
        let stopper: Stopper = Arc::new(move || {
            count.fetch_add(1, Ordering::Relaxed);
        });
        watch.begin(1, Some(stopper), Arc::new("heeds"), start);
        watch.begin(2, None, Arc::new("cannot"), start);
        for stopper in watch.hurry(start) {
            stopper();
        }
        assert_eq!(ended.load(Ordering::Relaxed), 1);
        assert_eq!(watch.end(1), Fate::Ended);
        assert!(matches!(at(&watch, start + GRACE), Ok(Overdue::GiveUp(whose)) if *whose == "cannot"));
    }

    #[test]
    fn the_watcher_sleeps_until_somebody_begins_and_goes_when_told() {
        let watch: Arc<Watch<&str>> = Arc::new(Watch::new(Duration::from_millis(20)));
        let (said, heard) = std::sync::mpsc::channel();
        let watcher = std::thread::spawn({
            let watch = Arc::clone(&watch);
            move || {
                while let Some(overdue) = watch.next() {
                    said.send(matches!(overdue, Overdue::End(..))).unwrap();
                }
            }
        });
        watch.begin(1, None, Arc::new("a"), Instant::now());
        assert!(heard.recv_timeout(Duration::from_secs(20)).unwrap());
        assert_eq!(watch.end(1), Fate::Ended);
        watch.stop();
        watcher.join().unwrap();
        assert!(heard.try_recv().is_err());
    }
}
