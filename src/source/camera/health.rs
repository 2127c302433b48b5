//! How a camera is: the supervisor writes it, the API, the page and a metric read it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde::Serialize;
use tokio::sync::Notify;

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
    /// Milliseconds until the next attempt, while waiting for one.
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

    /// The pipeline cannot use what the camera sends: the connection is closed, the state becomes `unsupported` for
    /// `reason`, and the camera is asked again, seldom.
    pub fn refuse(&self, reason: String) {
        self.cell().refusal = Some(reason);
        self.0.refused.notify_one();
    }

    fn cell(&self) -> MutexGuard<'_, Cell> {
        self.0.cell.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn millis(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
