//! The supervisor at work: it connects, delivers and tries again, as [`Supervisor`] decides.

use std::pin::Pin;
use std::time::Instant;

use tokio::sync::watch;
use tokio::time::sleep_until;

use super::connection::{Connection, Guarded, Item, probe};
use super::supervisor::{Failure, Step, Supervisor};
use super::{CameraEvent, CameraHealth, CameraSource, Demand, Description};
use crate::source::SourceError;

type Opening = Guarded<Pin<Box<dyn Future<Output = Result<(Connection, Description), SourceError>> + Send>>>;

/// What is under way.
enum Link {
    None,
    Probing(Pin<Box<dyn Future<Output = bool> + Send>>),
    Opening(Opening),
    Open(Connection),
}

/// What happened to it.
enum Outcome {
    Probed(bool),
    Opened(Connection, Description),
    Item(Item),
    Failed(SourceError),
}

impl Link {
    /// Waits for the next outcome; for ever when nothing is under way. Nothing is lost when the future is dropped.
    async fn next(&mut self) -> Outcome {
        match self {
            Self::None => std::future::pending().await,
            Self::Probing(probe) => Outcome::Probed(probe.await),
            Self::Opening(opening) => match opening.await {
                Ok((connection, description)) => Outcome::Opened(connection, description),
                Err(error) => Outcome::Failed(error),
            },
            Self::Open(connection) => match Guarded(Box::pin(connection.next())).await {
                Ok(item) => Outcome::Item(item),
                Err(error) => Outcome::Failed(error),
            },
        }
    }
}

/// Keeps a camera alive until it is dropped: connects, delivers, and tries again for ever. What goes wrong is written to
/// `health`; `demand` says whether anybody needs the camera.
///
/// `deliver` gets [`CameraEvent::Opened`], then pictures and audio, then [`CameraEvent::Lost`], and so on; `Lost` also when
/// the first attempt fails. It must not block.
pub async fn supervise(
    source: CameraSource,
    mut demand: watch::Receiver<Demand>,
    health: CameraHealth,
    mut deliver: impl FnMut(CameraEvent) + Send,
) {
    let now = Instant::now();
    let first = *demand.borrow_and_update();
    let mut supervisor = Supervisor::new(first, rand::random(), now);
    let mut link = Link::None;
    let mut told_lost = false;
    let mut demand_ended = false;
    loop {
        let until = match supervisor.poll(Instant::now()) {
            Step::Wait(until) => until,
            Step::Probe => {
                link = Link::Probing(Box::pin(probe(source.clone())));
                continue;
            }
            Step::Connect => {
                let source = source.clone();
                link = Link::Opening(Guarded(Box::pin(async move { Connection::open(&source).await })));
                continue;
            }
            Step::Close { silent } => {
                link = Link::None;
                if let Some(limit) = silent {
                    let reason = format!("no picture for {} s", limit.as_secs());
                    tracing::warn!(address = %source.address, error = reason, "the camera is silent; trying again");
                    health.fail(reason);
                }
                if !std::mem::replace(&mut told_lost, true) {
                    deliver(CameraEvent::Lost);
                }
                continue;
            }
        };
        health.show(supervisor.state(), supervisor.restarts(), supervisor.retry_at());
        let outcome = tokio::select! {
            outcome = link.next() => Some(outcome),
            () = sleep_until(until.unwrap_or_else(Instant::now).into()), if until.is_some() => None,
            changed = demand.changed(), if !demand_ended => {
                demand_ended = changed.is_err();
                supervisor.on_demand(*demand.borrow_and_update(), Instant::now());
                None
            }
            reason = health.refusal() => {
                if supervisor.on_refused(Instant::now()) {
                    health.fail(reason);
                }
                None
            }
        };
        let now = Instant::now();
        match outcome {
            None => {}
            Some(Outcome::Probed(reached)) => {
                link = Link::None;
                supervisor.on_probe(reached, now);
            }
            Some(Outcome::Opened(connection, description)) => {
                link = Link::Open(connection);
                supervisor.on_opened(now);
                health.open(description.notes.clone());
                told_lost = false;
                tracing::info!(address = %source.address, codec = description.codec.name(), "connected to the camera");
                deliver(CameraEvent::Opened(description));
            }
            Some(Outcome::Item(item)) => match item {
                Item::Unit(unit) => {
                    supervisor.on_frame(now);
                    health.frame(now);
                    deliver(CameraEvent::Unit(unit));
                }
                Item::Passed => {
                    supervisor.on_frame(now);
                    health.frame(now);
                }
                Item::Audio(packet) => deliver(CameraEvent::Audio(packet)),
                Item::Skew(milliseconds) => health.skew(milliseconds),
            },
            Some(Outcome::Failed(error)) => {
                link = Link::None;
                let text = source.address.redact(&error.to_string());
                // Each failure of a camera that stays away would say the same again.
                if health.fail(text.clone()) {
                    tracing::warn!(address = %source.address, error = text, "the camera is not there; trying again");
                }
                supervisor.on_failed(Failure::from(&error), now);
                if !std::mem::replace(&mut told_lost, true) {
                    deliver(CameraEvent::Lost);
                }
            }
        }
    }
}
