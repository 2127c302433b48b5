//! The configuration read again while the server runs: on SIGHUP, and when its file has changed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use sightline::config::{ConfigError, Reloaded, Reloader};
use sightline::pipeline::{CameraConfig, Origin, Pipeline};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// How often the file is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Whose warnings those of configured cameras are.
pub const CAMERAS: &str = "cameras";

/// Hears SIGHUP from here on, which otherwise ends a process.
pub fn hangups() -> Option<Signal> {
    signal(SignalKind::hangup()).inspect_err(|error| tracing::warn!(%error, "SIGHUP is not heard")).ok()
}

/// Takes over the cameras of the file whenever it changes, until `stop`.
pub async fn watch(
    mut reloader: Reloader,
    mut hangups: Option<Signal>,
    pipeline: Arc<Pipeline>,
    stop: CancellationToken,
) {
    let mut tick = interval(LOOK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let hangup = async {
            match &mut hangups {
                Some(hangups) => drop(hangups.recv().await),
                None => std::future::pending().await,
            }
        };
        let asked = tokio::select! {
            () = stop.cancelled() => return,
            () = hangup => true,
            _ = tick.tick() => false,
        };
        // The file may lie on a mount that hangs.
        let read = tokio::task::spawn_blocking(move || {
            let outcome = if asked { Some(reloader.reload()) } else { reloader.look() };
            (reloader, outcome)
        });
        let Ok((back, outcome)) = read.await else { return };
        reloader = back;
        if let Some(outcome) = outcome {
            take_over(outcome, &pipeline);
        }
    }
}

/// Runs these cameras in place of those that were configured before; says what changed, and what could not be run.
pub fn run_cameras(
    pipeline: &Arc<Pipeline>,
    mut cameras: BTreeMap<String, CameraConfig>,
    flags: &BTreeSet<String>,
) -> Vec<String> {
    let by_flag = flags.iter().filter_map(|name| cameras.remove_entry(name)).collect();
    let mut refused = Vec::new();
    for (origin, cameras) in [(Origin::Flag, by_flag), (Origin::Config, cameras)] {
        let changes = pipeline.declare_cameras(origin, cameras);
        for (what, names) in [("added", changes.added), ("changed", changes.changed), ("removed", changes.removed)] {
            if !names.is_empty() {
                tracing::info!(cameras = %names.join(", "), "cameras {what}");
            }
        }
        refused
            .extend(changes.refused.into_iter().map(|(name, why)| format!("the camera {name:?} does not run: {why}")));
    }
    refused.iter().for_each(|warning| tracing::warn!("{warning}"));
    refused
}

fn take_over(outcome: Result<Reloaded, ConfigError>, pipeline: &Arc<Pipeline>) {
    let warnings = match outcome {
        Ok(Reloaded { cameras, camera_flags, after_restart }) => {
            tracing::info!("the configuration was read again");
            pipeline.set_warnings(CAMERAS, run_cameras(pipeline, cameras, &camera_flags));
            let late = (!after_restart.is_empty()).then(|| {
                format!("changed in the configuration, takes effect after a restart: {}", after_restart.join(", "))
            });
            late.into_iter().collect()
        }
        Err(error) => vec![format!("the configuration cannot be read again, all stays as it was: {error}")],
    };
    warnings.iter().for_each(|warning: &String| tracing::warn!("{warning}"));
    pipeline.set_warnings("configuration", warnings);
}
