//! How often a stream is looked at, and by which of its models, so that its boxes are young enough.
//!
//! A box that is drawn is at most as old as the time between two looks, what a look takes, and a frame. So with a budget the
//! detector looks as seldom as that allows, and leaves its time to the others; where a look alone takes too long for it, a
//! lighter model does, and the heavier one is tried again when there is room.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The looks that are remembered.
const REMEMBERED: usize = 16;
/// Fewer tell nothing.
const LEAST: usize = 8;
/// A frame, and what a thread may be late.
const MARGIN: Duration = Duration::from_millis(40);
/// A heavier model is tried again after this long.
const PATIENCE: Duration = Duration::from_secs(10);
/// The most, where it was too slow each time.
const MOST_PATIENCE: Duration = Duration::from_secs(320);

/// One stream's budget.
#[derive(Debug)]
pub(super) struct Budget {
    state: Mutex<State>,
    /// Microseconds between two looks, at least.
    every: AtomicU64,
}

#[derive(Debug)]
struct State {
    /// Zero: none.
    budget: Duration,
    models: usize,
    chosen: usize,
    /// From a frame's arrival to its result, newest last.
    looks: VecDeque<Duration>,
    /// When the model was chosen.
    since: Instant,
    patience: Duration,
}

impl Budget {
    /// No budget.
    pub(super) fn new() -> Self {
        let state = State {
            budget: Duration::ZERO,
            models: 1,
            chosen: 0,
            looks: VecDeque::new(),
            since: Instant::now(),
            patience: PATIENCE,
        };
        Self { state: Mutex::new(state), every: AtomicU64::new(0) }
    }

    /// Boxes are to be no older than `budget` (zero: whatever they are), with so many models to choose from, heaviest first.
    pub(super) fn set(&self, budget: Duration, models: usize) {
        let mut state = self.lock();
        state.budget = budget;
        state.models = models.max(1);
        self.settle(&state);
    }

    /// A look at a frame that came `look` ago is done.
    pub(super) fn note(&self, look: Duration) {
        let mut state = self.lock();
        if state.budget.is_zero() {
            return;
        }
        if state.looks.len() == REMEMBERED {
            state.looks.pop_front();
        }
        state.looks.push_back(look);
        self.settle(&state);
    }

    /// The least time between two looks.
    pub(super) fn every(&self) -> Duration {
        Duration::from_micros(self.every.load(Ordering::Relaxed))
    }

    /// The model that should look, if it is not the one that does: 0 is the heaviest.
    pub(super) fn plan(&self, now: Instant) -> Option<usize> {
        let state = self.lock();
        if state.chosen >= state.models || (state.budget.is_zero() && state.chosen > 0) {
            return Some(0);
        }
        let look = state.look()?;
        if look > state.budget * 3 / 4 {
            return Some(state.chosen + 1).filter(|next| *next < state.models);
        }
        let rested = now.saturating_duration_since(state.since) >= state.patience;
        (rested && look <= state.budget * 3 / 8).then(|| state.chosen.checked_sub(1)).flatten()
    }

    /// From `now` on that model looks.
    pub(super) fn chose(&self, model: usize, now: Instant) {
        let mut state = self.lock();
        if model < state.chosen {
            state.patience = state.patience.min(MOST_PATIENCE / 2) * 2;
        } else if now.saturating_duration_since(state.since) > MOST_PATIENCE {
            // What it was before was long enough ago.
            state.patience = PATIENCE;
        }
        (state.chosen, state.since) = (model, now);
        state.looks.clear();
        self.settle(&state);
    }

    fn settle(&self, state: &State) {
        let room = state.look().map_or(Duration::ZERO, |look| state.budget.saturating_sub(look + MARGIN));
        self.every.store(u64::try_from(room.as_micros()).unwrap_or(0), Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// What nine of ten looks stay below; `None` while there are too few.
    fn look(&self) -> Option<Duration> {
        if self.budget.is_zero() || self.looks.len() < LEAST {
            return None;
        }
        let mut looks: Vec<Duration> = self.looks.iter().copied().collect();
        looks.sort_unstable();
        looks.get((looks.len() * 9).div_ceil(10).saturating_sub(1)).copied()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn with(budget: u32, models: usize, look: u32) -> Budget {
        let kept = Budget::new();
        kept.set(budget * MS, models);
        (0..REMEMBERED).for_each(|_| kept.note(look * MS));
        kept
    }

    #[test]
    fn it_looks_as_seldom_as_the_budget_allows() {
        assert_eq!(with(300, 1, 60).every(), 200 * MS);
        assert_eq!(with(300, 1, 280).every(), Duration::ZERO);
        assert_eq!(with(0, 1, 60).every(), Duration::ZERO, "without a budget at every frame");
    }

    #[test]
    fn a_lighter_model_looks_where_a_look_takes_too_long_and_the_heavier_one_is_tried_again() {
        let now = Instant::now();
        let kept = with(200, 2, 170);
        assert_eq!(kept.plan(now), Some(1));
        kept.chose(1, now);
        assert_eq!(kept.plan(now), None, "nothing is known of it yet");
        (0..LEAST).for_each(|_| kept.note(30 * MS));
        assert_eq!(kept.plan(now + PATIENCE / 2), None);
        let later = now + PATIENCE;
        assert_eq!(kept.plan(later), Some(0));
        kept.chose(0, later);
        (0..LEAST).for_each(|_| kept.note(170 * MS));
        assert_eq!(kept.plan(later), Some(1));
        kept.chose(1, later);
        (0..LEAST).for_each(|_| kept.note(30 * MS));
        assert_eq!((kept.plan(later + PATIENCE), kept.plan(later + 2 * PATIENCE)), (None, Some(0)), "twice as long");
    }

    #[test]
    fn without_a_lighter_model_or_a_budget_the_configured_one_looks() {
        assert_eq!(with(200, 1, 500).plan(Instant::now()), None);
        let kept = with(200, 3, 170);
        kept.chose(2, Instant::now());
        kept.set(Duration::ZERO, 3);
        assert_eq!(kept.plan(Instant::now()), Some(0));
        kept.set(200 * MS, 1);
        assert_eq!(kept.plan(Instant::now()), Some(0));
    }

    proptest! {
        #[test]
        fn looks_and_their_distance_stay_within_the_budget(
            budget in 50u32..2000, looks in prop::collection::vec(0u32..1000, LEAST..40)
        ) {
            let kept = Budget::new();
            kept.set(budget * MS, 2);
            for look in looks {
                kept.note(look * MS);
                prop_assert!(kept.every() <= (budget * MS).saturating_sub(MARGIN));
            }
            prop_assert!(kept.plan(Instant::now()).is_none_or(|model| model < 2));
        }
    }
}
