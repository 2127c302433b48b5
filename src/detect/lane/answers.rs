//! How long a stream waits for an answer of the detector.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::{Lane, lock};

/// From a frame that is to be looked at to the next result, whichever frame it is of: a newer frame that takes the place of one
/// that waits does not make the wait shorter.
#[derive(Debug, Default)]
pub(super) struct Answers(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Since when an answer is waited for.
    since: Option<Instant>,
    /// What the last one took.
    last: Duration,
}

impl Answers {
    /// A frame is to be looked at.
    pub(super) fn asked(&self, now: Instant) {
        lock(&self.0).since.get_or_insert(now);
    }

    /// A frame was looked at, or failed; `more`: another waits.
    pub(super) fn answered(&self, now: Instant, more: bool) {
        let mut state = lock(&self.0);
        if let Some(since) = state.since.take() {
            state.last = now.saturating_duration_since(since);
        }
        state.since = more.then_some(now);
    }

    /// What the last answer took, or the one that is waited for has taken so far, if that is longer.
    pub(super) fn take(&self, now: Instant) -> Duration {
        let state = lock(&self.0);
        let waits = state.since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        state.last.max(waits)
    }
}

impl Lane {
    /// Whether the stream waits for its results for longer than `every` because the detector's threads get no core, where a look
    /// `every` so often for each stream would be possible.
    #[must_use]
    pub fn starves(&self, every: Duration) -> bool {
        self.state.answers.take(Instant::now()) > every && self.shared.lacks(every)
    }

    /// Whether the detector's threads get less of the cores than they could use to look `every` so often for each stream.
    #[must_use]
    pub fn lacks_cores(&self, every: Duration) -> bool {
        self.shared.lacks(every)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_newer_frame_does_not_make_the_wait_shorter() {
        let (answers, begun) = (Answers::default(), Instant::now());
        assert_eq!(answers.take(begun), Duration::ZERO);
        answers.asked(begun);
        answers.asked(begun + 400 * MS);
        assert_eq!(answers.take(begun + 500 * MS), 500 * MS);
        answers.answered(begun + 700 * MS, true);
        assert_eq!(answers.take(begun + 800 * MS), 700 * MS, "what it took last");
        answers.answered(begun + 800 * MS, false);
        assert_eq!(answers.take(begun + 9000 * MS), 100 * MS, "nothing is asked");
    }

    #[test]
    fn an_answer_that_nobody_asked_for_tells_nothing() {
        let (answers, begun) = (Answers::default(), Instant::now());
        answers.answered(begun, false);
        assert_eq!(answers.take(begun + MS), Duration::ZERO);
    }
}
