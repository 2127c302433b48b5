//! When a camera is needed.

use std::time::{Duration, Instant};

use crate::pipeline::cameras::CameraConfig;
use crate::source::camera::Demand;

/// When a camera is open: always, or while somebody watches and a little longer.
#[derive(Debug, Default)]
pub(super) struct Need {
    /// When it was watched last, while nobody does.
    left_at: Option<Instant>,
    was_watched: bool,
}

impl Need {
    /// What is needed now.
    pub(super) fn update(&mut self, config: &CameraConfig, viewers: usize, linger: Duration, now: Instant) -> Demand {
        let watched = viewers > 0;
        if watched {
            self.left_at = None;
        } else if self.was_watched {
            self.left_at = Some(now);
        }
        self.was_watched = watched;
        if self.left_at.is_some_and(|at| now.saturating_duration_since(at) >= linger) {
            self.left_at = None;
        }
        let open = config.enabled && (!config.on_demand || watched || self.left_at.is_some());
        Demand { open, watched }
    }

    /// When to ask again, if nothing happens.
    pub(super) fn deadline(&self, linger: Duration) -> Option<Instant> {
        self.left_at.map(|at| at + linger)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LINGER: Duration = Duration::from_secs(10);

    fn camera(enabled: bool, on_demand: bool) -> CameraConfig {
        CameraConfig { enabled, on_demand, ..CameraConfig::at("file:scene.h264".parse().unwrap()) }
    }

    #[test]
    fn a_camera_on_demand_is_closed_some_time_after_its_last_viewer_left() {
        let (mut need, start) = (Need::default(), Instant::now());
        let mut open =
            |viewers, after| need.update(&camera(true, true), viewers, LINGER, start + Duration::from_secs(after)).open;
        assert!(!open(0, 0), "nobody has come yet");
        assert!(open(2, 1));
        assert!(open(0, 2) && open(0, 11), "somebody may come back");
        assert!(!open(0, 12));
        assert!(open(1, 13) && open(0, 14) && open(1, 20) && open(0, 21));
        assert!(open(0, 30), "the time counts from the last one");
        assert!(!open(0, 31));
    }

    #[test]
    fn a_camera_that_is_paused_is_closed_whoever_watches() {
        let mut need = Need::default();
        let demand = need.update(&camera(false, false), 3, LINGER, Instant::now());
        assert_eq!(demand, Demand { open: false, watched: true });
        assert!(need.update(&camera(true, false), 0, LINGER, Instant::now()).open);
    }

    proptest! {
        /// Whoever asks at the deadline finds the camera as it would be had he asked all the time.
        #[test]
        fn the_deadline_is_when_something_changes(steps in prop::collection::vec((0usize..3, 0u64..15), 1..40)) {
            let (mut need, config) = (Need::default(), camera(true, true));
            let (mut now, mut last_seen) = (Instant::now(), None);
            for (viewers, wait) in steps {
                let demand = need.update(&config, viewers, LINGER, now);
                if viewers > 0 {
                    last_seen = Some(now);
                }
                prop_assert_eq!(demand.watched, viewers > 0);
                prop_assert!(viewers == 0 || demand.open);
                if let Some(deadline) = need.deadline(LINGER) {
                    prop_assert!(demand.open && deadline > now && viewers == 0);
                    let mut later = Need { left_at: need.left_at, was_watched: need.was_watched };
                    prop_assert!(!later.update(&config, 0, LINGER, deadline).open);
                } else {
                    prop_assert_eq!(demand.open, viewers > 0);
                }
                now += Duration::from_secs(wait);
                prop_assert!(last_seen.is_some() || !need.update(&config, 0, LINGER, now).open);
            }
        }
    }
}
