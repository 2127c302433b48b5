//! The one thing that travels upstream: "send me a picture that stands alone".

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The least time between two IDRs of one encode.
pub const IDR_INTERVAL: Duration = Duration::from_millis(500);

/// A handle to ask somebody upstream for a keyframe. Cheap to clone, never blocks.
#[derive(Clone)]
pub struct KeyframeRequest(Arc<dyn Fn() + Send + Sync>);

impl KeyframeRequest {
    /// Calls `ask` at each request; `ask` must not block.
    #[must_use]
    pub fn new(ask: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Arc::new(ask))
    }

    /// For sources that cannot be asked.
    #[must_use]
    pub fn ignored() -> Self {
        Self::new(|| ())
    }

    /// Asks for a keyframe.
    pub fn request(&self) {
        (self.0)();
    }
}

impl fmt::Debug for KeyframeRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyframeRequest")
    }
}

/// Coalesces requests: the first is served at once, those within [`IDR_INTERVAL`] after an IDR are served together at
/// its end.
#[derive(Debug)]
pub struct KeyframeGate {
    interval: Duration,
    last: Option<Instant>,
    wanted: bool,
}

impl Default for KeyframeGate {
    fn default() -> Self {
        Self::new(IDR_INTERVAL)
    }
}

impl KeyframeGate {
    /// A gate that opens at most once in `interval`.
    #[must_use]
    pub fn new(interval: Duration) -> Self {
        Self { interval, last: None, wanted: false }
    }

    /// Notes that somebody wants a keyframe.
    pub fn ask(&mut self) {
        self.wanted = true;
    }

    /// Whether the frame of `now` should be an IDR; if so, the wish is taken as fulfilled.
    pub fn take(&mut self, now: Instant) -> bool {
        let due = self.is_due(now);
        if due {
            self.on_keyframe(now);
        }
        due
    }

    /// Whether [`take`](Self::take) would say yes.
    #[must_use]
    pub fn is_due(&self, now: Instant) -> bool {
        self.wanted && self.last.is_none_or(|last| now.saturating_duration_since(last) >= self.interval)
    }

    /// Notes that a keyframe was made, asked for or not: it serves whoever waits.
    pub fn on_keyframe(&mut self, now: Instant) {
        self.last = Some(now);
        self.wanted = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_request_is_served_at_once_and_the_next_are_coalesced() {
        let start = Instant::now();
        let mut gate = KeyframeGate::default();
        assert!(!gate.take(start), "nobody asked");
        gate.ask();
        assert!(gate.take(start));
        for ms in [10, 200, 499] {
            gate.ask();
            assert!(!gate.take(start + Duration::from_millis(ms)));
        }
        assert!(gate.take(start + Duration::from_millis(500)), "the waiting wish is served, once");
        assert!(!gate.take(start + Duration::from_millis(2000)));
    }
}
