//! Which of the source's own frames have left for a viewer, for who is to begin after that.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The newest frame whose packets have left.
#[derive(Debug, Default)]
pub(super) struct Departures {
    newest: Mutex<Option<u32>>,
    left: Condvar,
}

impl Departures {
    /// The packets of the frame with this output timestamp have left, for one viewer.
    pub(super) fn note(&self, output: u32) {
        let mut newest = self.lock();
        if newest.is_none_or(|newest| is_after(output, newest)) {
            *newest = Some(output);
            drop(newest);
            self.left.notify_all();
        }
    }

    /// Waits until that frame or a later one has left, for `limit` at the longest. False where it has not.
    pub(super) fn wait_for(&self, output: u32, limit: Duration) -> bool {
        let until = Instant::now() + limit;
        let mut newest = self.lock();
        while newest.is_none_or(|newest| is_after(output, newest)) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            newest = self.left.wait_timeout(newest, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    fn lock(&self) -> MutexGuard<'_, Option<u32>> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a timestamp is later than another; both wrap.
fn is_after(a: u32, b: u32) -> bool {
    a.wrapping_sub(b).cast_signed() > 0
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn who_waits_goes_on_when_the_frame_has_left() {
        let departures = Arc::new(Departures::default());
        let waiting = thread::spawn({
            let departures = Arc::clone(&departures);
            move || departures.wait_for(u32::MAX, LONG)
        });
        departures.note(5u32.wrapping_sub(9));
        departures.note(u32::MAX);
        assert!(waiting.join().unwrap());
    }

    #[test]
    fn a_later_frame_stands_for_an_earlier_one_across_the_wrap() {
        let departures = Departures::default();
        departures.note(3);
        assert!(departures.wait_for(u32::MAX, LONG) && departures.wait_for(3, LONG));
        assert!(!departures.wait_for(4, Duration::ZERO));
        departures.note(u32::MAX);
        assert!(departures.wait_for(3, Duration::ZERO), "an older note takes nothing back");
    }
}
