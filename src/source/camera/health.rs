//! How a camera is: the supervisor writes it, the API, the page and a metric read it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde::Serialize;
use tokio::sync::{Notify, watch};

/// What the supervisor of a camera is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CameraState {
    /// A connection is being made.
    #[default]
    Connecting,
    /// Pictures come.
    Live,
    /// The connection stood, and no picture came for some seconds.
    Stalled,
    /// The last attempt failed; the next one follows by itself.
    Backoff,
    /// The camera refuses user or password. It is asked again, seldom, so as not to be locked out.
    Unauthorized,
    /// The camera answers, and what it sends cannot be used. It is asked again, seldom.
    Unsupported,
    /// Paused by its configuration.
    Disabled,
    /// On demand, and nobody watches.
    Idle,
}

impl CameraState {
    /// Every state: a metric has one series for each.
    pub const ALL: [Self; 8] = [
        Self::Connecting,
        Self::Live,
        Self::Stalled,
        Self::Backoff,
        Self::Unauthorized,
        Self::Unsupported,
        Self::Disabled,
        Self::Idle,
    ];

    /// The word of the API.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Live => "live",
            Self::Stalled => "stalled",
            Self::Backoff => "backoff",
            Self::Unauthorized => "unauthorized",
            Self::Unsupported => "unsupported",
            Self::Disabled => "disabled",
            Self::Idle => "idle",
        }
    }
}

/// How a camera is at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct CameraStatus {
    /// What the supervisor does.
    pub state: CameraState,
    /// Why it is not live, or why it last was not; without secrets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// How often pictures came again after the connection had been lost.
    pub restarts: u64,
    /// Milliseconds since the last picture; absent before the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since_last_frame_ms: Option<u64>,
    /// Milliseconds until the address is tried again, while waiting for that: by the next attempt, or by the probe that a
    /// watched camera gets twice a second; 0 during a probe.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_in_ms: Option<u64>,
    /// What the user should know about the stream, for example that its audio is not passed on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Milliseconds by which the camera's clock is ahead of ours (less the way of the report that told it), once it sent a
    /// report.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock_skew_ms: Option<i64>,
}

/// A camera's state, shared between its supervisor and who reads it. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct CameraHealth(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    cell: Mutex<Cell>,
    refused: Notify,
    states: watch::Sender<CameraState>,
}

#[derive(Debug, Default)]
struct Cell {
    /// The two times of it stand beside, as instants.
    status: CameraStatus,
    last_frame: Option<Instant>,
    retry_at: Option<Instant>,
    disabled: bool,
    refusal: Option<String>,
}

impl CameraHealth {
    /// Of a camera that has not been tried yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How the camera is now.
    #[must_use]
    pub fn status(&self) -> CameraStatus {
        let now = Instant::now();
        let cell = self.cell();
        let mut status = cell.status.clone();
        if cell.disabled {
            return CameraStatus { state: CameraState::Disabled, ..status };
        }
        status.since_last_frame_ms = cell.last_frame.map(|at| millis(now.saturating_duration_since(at)));
        status.retry_in_ms = cell.retry_at.map(|at| millis(at.saturating_duration_since(now)));
        status
    }

    /// Whether the configuration pauses the camera: it is then `disabled`, whatever its supervisor does.
    pub fn set_enabled(&self, enabled: bool) {
        self.cell().disabled = !enabled;
    }

    /// The state as the supervisor changes it, for who wants to wait for one.
    #[must_use]
    pub fn states(&self) -> watch::Receiver<CameraState> {
        self.0.states.subscribe()
    }

    /// The pipeline cannot use what the camera sends: the connection is closed, the state becomes `unsupported` for
    /// `reason`, and the camera is asked again, seldom.
    pub fn refuse(&self, reason: String) {
        self.cell().refusal = Some(reason);
        self.0.refused.notify_one();
    }

    /// The next refusal's reason. One that comes while nobody asks is kept.
    pub(super) async fn refusal(&self) -> String {
        loop {
            if let Some(reason) = self.cell().refusal.take() {
                return reason;
            }
            self.0.refused.notified().await;
        }
    }

    pub(super) fn show(&self, state: CameraState, restarts: u64, retry_at: Option<Instant>) {
        let mut cell = self.cell();
        cell.status.state = state;
        cell.status.restarts = restarts;
        cell.retry_at = retry_at;
        drop(cell);
        self.0.states.send_if_modified(|shown| std::mem::replace(shown, state) != state);
    }

    /// Notes what went wrong; true unless it is what went wrong before.
    pub(super) fn fail(&self, reason: String) -> bool {
        self.cell().status.last_error.replace(reason.clone()) != Some(reason)
    }

    /// A connection stands: what was said about the one before is over, but for its last error.
    pub(super) fn open(&self, notes: Vec<String>) {
        let mut cell = self.cell();
        cell.status.notes = notes;
        cell.status.clock_skew_ms = None;
        // Meant for the connection before.
        cell.refusal = None;
    }

    pub(super) fn frame(&self, now: Instant) {
        self.cell().last_frame = Some(now);
    }

    /// A report's way only makes the camera's clock look earlier than it is: of the reports of a connection, the one that was
    /// fastest counts.
    pub(super) fn skew(&self, milliseconds: i64) {
        let mut cell = self.cell();
        cell.status.clock_skew_ms =
            Some(cell.status.clock_skew_ms.map_or(milliseconds, |known| known.max(milliseconds)));
    }

    fn cell(&self) -> MutexGuard<'_, Cell> {
        self.0.cell.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn millis(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_words_of_the_api() {
        for state in CameraState::ALL {
            assert_eq!(serde_json::to_value(state).unwrap(), state.name());
        }
    }

    #[test]
    fn a_paused_camera_is_disabled_whatever_it_was() {
        let health = CameraHealth::new();
        health.show(CameraState::Backoff, 3, Some(Instant::now()));
        health.set_enabled(false);
        let status = health.status();
        assert_eq!((status.state, status.retry_in_ms, status.restarts), (CameraState::Disabled, None, 3));
        health.set_enabled(true);
        assert_eq!(health.status().state, CameraState::Backoff);
        assert!(health.status().retry_in_ms.is_some());
    }

    #[tokio::test]
    async fn a_refusal_waits_for_who_asks() {
        let health = CameraHealth::new();
        health.refuse("High 10".into());
        assert_eq!(health.refusal().await, "High 10");
        let (asking, said) = (health.clone(), health.clone());
        let asking = tokio::spawn(async move { asking.refusal().await });
        said.refuse("again".into());
        assert_eq!(asking.await.unwrap(), "again");
    }
}
