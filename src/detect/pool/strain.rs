//! Whether the detector's threads get the cores that they need.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::super::lane::lock;

/// What was so many seconds ago counts by half. Short: after an overload there are few looks to outweigh the many of before.
const HALF_LIFE: f64 = 0.25;

/// A share of the time with work that a thread waits for a core: below it there is nothing to complain of.
const WAITS: f64 = 0.25;

/// What is wanted has to fit into this share of the threads' time. If it does not, the model is too slow for so many streams,
/// and what others leave would not mend that.
const FITS: f64 = 0.5;

/// What the threads did lately, in seconds.
#[derive(Debug, Default)]
pub(super) struct Strain(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    at: Option<Instant>,
    /// With frames in work.
    busy: f64,
    /// Of that, without a core.
    waited: f64,
    frames: f64,
}

impl Strain {
    /// A thread looked at so many frames for `took`, and had no core for `waited` of it.
    pub(super) fn note(&self, took: Duration, waited: Duration, frames: u64, now: Instant) {
        let mut state = lock(&self.0);
        let since = state.at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        let kept = 0.5_f64.powf(since.as_secs_f64() / HALF_LIFE);
        let took = took.as_secs_f64();
        state.at = Some(now);
        state.busy = state.busy * kept + took;
        state.waited = state.waited * kept + waited.as_secs_f64().min(took);
        #[allow(clippy::cast_precision_loss)] // a batch
        let frames = frames as f64;
        state.frames = state.frames * kept + frames;
    }

    /// Whether the threads lack cores, where `threads` of them would have time enough to look at `lanes` streams `every` so often.
    pub(super) fn lacks(&self, lanes: usize, threads: usize, every: Duration) -> bool {
        let state = lock(&self.0);
        if state.frames <= 0.0 || state.waited < state.busy * WAITS {
            return false;
        }
        let look = (state.busy - state.waited) / state.frames;
        #[allow(clippy::cast_precision_loss)] // a few
        let (lanes, threads) = (lanes as f64, threads as f64);
        lanes * look / every.as_secs_f64() <= threads * FITS
    }
}

/// How long the calling thread has been ready to run without a core so far. Linux tells, in proc(5)'s `schedstat`: time on a core,
/// time in the queue, in nanoseconds. Zero elsewhere.
pub(super) fn waited() -> Duration {
    let text = if cfg!(target_os = "linux") {
        std::fs::read_to_string("/proc/thread-self/schedstat")
    } else {
        return Duration::ZERO;
    };
    let nanoseconds = text.ok().and_then(|text| text.split_ascii_whitespace().nth(1)?.parse().ok());
    Duration::from_nanos(nanoseconds.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const EVERY: Duration = Duration::from_millis(500);

    fn after(took: u32, waited: u32) -> Strain {
        let (strain, now) = (Strain::default(), Instant::now());
        (0..20).for_each(|n| strain.note(took * MS, waited * MS, 1, now + n * 50 * MS));
        strain
    }

    #[test]
    fn threads_that_hardly_wait_for_a_core_lack_none() {
        assert!(!Strain::default().lacks(12, 2, EVERY));
        assert!(!after(20, 2).lacks(12, 2, EVERY));
        assert!(after(40, 25).lacks(12, 2, EVERY));
    }

    #[test]
    fn a_model_that_is_too_slow_for_so_many_streams_is_not_helped_by_a_core() {
        assert!(after(140, 100).lacks(12, 2, EVERY));
        assert!(!after(340, 300).lacks(13, 2, EVERY));
        assert!(after(340, 300).lacks(3, 2, EVERY));
    }

    #[test]
    fn what_was_before_is_forgotten() {
        let (strain, now) = (Strain::default(), Instant::now());
        strain.note(4000 * MS, 3000 * MS, 100, now);
        assert!(strain.lacks(2, 2, EVERY));
        strain.note(20 * MS, MS, 1, now + Duration::from_secs(3));
        assert!(!strain.lacks(2, 2, EVERY));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_time_without_a_core_never_goes_back() {
        let before = waited();
        std::thread::yield_now();
        assert!(waited() >= before);
    }
}
