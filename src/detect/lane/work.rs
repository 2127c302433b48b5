//! What a lane keeps of its stream from one frame to the next.

use std::time::{Duration, Instant};

use super::super::DetectError;
use super::super::tracker::Tracker;

/// The least time between two log lines about failures of one lane.
const LOG_INTERVAL: Duration = Duration::from_secs(5);

/// What belongs to the stream from one frame to the next.
#[derive(Default)]
pub(super) struct Work {
    pub tracker: Tracker,
    /// As the newest frame had it.
    pub still: Duration,
    size: Option<(usize, usize)>,
    logged: Option<Instant>,
    unlogged: u64,
}

impl Work {
    /// Boxes of a picture of another size are scaled: a browser changes its resolution with the bandwidth.
    #[allow(clippy::cast_precision_loss)] // sides are at most 8192
    pub fn fit_to(&mut self, width: usize, height: usize) {
        if let Some((old_width, old_height)) = self.size.replace((width, height))
            && (old_width, old_height) != (width, height)
        {
            self.tracker.rescale(width as f32 / old_width as f32, height as f32 / old_height as f32);
        }
    }

    pub fn log(&mut self, stream: &str, error: &DetectError) {
        if self.logged.is_some_and(|last| last.elapsed() < LOG_INTERVAL) {
            self.unlogged += 1;
            return;
        }
        let more = std::mem::take(&mut self.unlogged);
        self.logged = Some(Instant::now());
        tracing::warn!(stream, %error, not_logged_before = more, "a frame was lost to the detector");
    }
}
