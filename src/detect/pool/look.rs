//! What a thread of the pool does with the frames in its hands: one, or several streams' together.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::super::lane::{LaneState, Taken, lock};
use super::super::turns::Turn;
use super::super::watch::Fate;
use super::super::{DetectError, Found, Picture};
use super::{Job, Shared, said};

/// How many of the frames that wait one thread takes together, with so many other threads free. What another could begin with now
/// is left to it: a batch is for what would have to wait.
pub(super) fn share(waiting: usize, idle: usize, most: usize) -> usize {
    waiting.div_ceil(idle + 1).clamp(1, most.max(1))
}

impl Shared {
    /// Hands on what was found in a frame. Returns what it cost, where the detector said so.
    pub(super) fn deliver(
        &self,
        job: &Job,
        turn: Turn,
        lane: &LaneState,
        taken: Taken,
        found: Result<Found, DetectError>,
    ) -> Option<Duration> {
        let name = &job.model.model.info().name;
        match catch_unwind(AssertUnwindSafe(|| lane.deliver(turn.number, name, taken, found))) {
            Ok(served) => {
                let served = served?;
                *lock(&job.model.last) = Some(served.times);
                *lock(&self.last) = Some(served.times);
                Some(served.cost)
            }
            Err(panic) => {
                self.panics.fetch_add(1, Ordering::Relaxed);
                tracing::error!(panic = said(&*panic), "whoever takes the detections panicked");
                None
            }
        }
    }

    /// Lets a detector look at the frames of a job, together where there are several; where that fails as a whole, at each by
    /// itself. One result for each.
    pub(super) fn look(
        &self,
        job: &Arc<Job>,
        frames: &[(&Arc<LaneState>, &Taken)],
    ) -> (Vec<Result<Found, DetectError>>, Fate) {
        let mut found = Vec::with_capacity(frames.len());
        let mut fate = Fate::InTime;
        if frames.len() > 1 {
            match self.look_at(job, frames) {
                (Ok(together), end) if together.len() == frames.len() => (found, fate) = (together, end),
                // One of them may be the reason.
                (_, end) => fate = end,
            }
        }
        for frame in frames.get(found.len()..).unwrap_or_default() {
            if fate != Fate::InTime {
                found.push(Err(self.too_slow()));
                continue;
            }
            let (one, end) = self.look_at(job, &[*frame]);
            fate = end;
            let nothing = || Err(DetectError::Frame("the detector gave no result".into()));
            found.push(one.and_then(|mut one| one.pop().unwrap_or_else(nothing)));
        }
        if fate == Fate::Ended {
            for result in found.iter_mut().filter(|result| result.is_err()) {
                *result = Err(self.too_slow());
            }
        }
        if fate != Fate::GivenUp {
            let failed = found.iter().filter(|result| result.is_err()).count() as u64;
            job.model.failed.fetch_add(failed, Ordering::Relaxed);
        }
        (found, fate)
    }

    /// A detector's look at some frames. A panic costs the detector, whose state can no longer be trusted, and so does the
    /// deadline.
    fn look_at(
        &self,
        job: &Arc<Job>,
        frames: &[(&Arc<LaneState>, &Taken)],
    ) -> (Result<Vec<Result<Found, DetectError>>, DetectError>, Fate) {
        let model = &job.model;
        // Its own detector is no other lane's, so that it has no batches.
        let own = if model.model.per_stream() { frames.first().map(|(lane, _)| lane.detector()) } else { None };
        let detector = self.unpanicked(|| match own {
            Some(place) => {
                let held = lock(place).take();
                held.map_or_else(|| model.model.detector(), Ok)
            }
            None => model.take(),
        });
        let mut detector = match detector {
            Ok(detector) => detector,
            Err(error) => return (Err(error), Fate::InTime),
        };
        self.watch.begin(job.number(), detector.stopper(), Arc::clone(job), Instant::now());
        let pictures: Vec<_> =
            frames.iter().map(|(_, taken)| (Picture::I420(&taken.frame.picture), taken.wish())).collect();
        let found = self.unpanicked(|| {
            let found = match pictures.as_slice() {
                [(picture, settings)] => vec![detector.detect(*picture, settings)],
                several => detector.detect_batch(several),
            };
            // Out of here only if it did not panic.
            Ok((found, detector))
        });
        let fate = self.watch.end(job.number());
        let found = match (found, fate) {
            (Ok((found, detector)), Fate::InTime) => {
                match own {
                    Some(place) => *lock(place) = Some(detector),
                    None => model.put_back(detector),
                }
                Ok(found)
            }
            (found, fate) => {
                if own.is_none() && fate != Fate::GivenUp {
                    model.lost();
                }
                found.map(|(found, _)| found)
            }
        };
        (found, fate)
    }

    pub(super) fn too_slow(&self) -> DetectError {
        let limit = self.watch.deadline().as_millis();
        DetectError::Frame(format!(
            "the detector took longer than {limit} ms and was ended; [detect] deadline_ms sets that"
        ))
    }

    fn unpanicked<T>(&self, what: impl FnOnce() -> Result<T, DetectError>) -> Result<T, DetectError> {
        catch_unwind(AssertUnwindSafe(what)).unwrap_or_else(|panic| {
            self.panics.fetch_add(1, Ordering::Relaxed);
            Err(DetectError::Frame(format!("the detector panicked: {}", said(&*panic))))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_takes_together_what_no_other_is_free_for() {
        for (waiting, idle, most, expected) in
            [(1, 0, 8, 1), (4, 0, 8, 4), (4, 0, 3, 3), (4, 1, 8, 2), (5, 1, 8, 3), (4, 7, 8, 1), (4, 0, 1, 1)]
        {
            assert_eq!(share(waiting, idle, most), expected, "{waiting} wait, {idle} are idle, {most} at most");
        }
    }
}
