//! A viewer of a session's stream, by WHEP.

use std::time::Duration;

use anyhow::{Context, bail};
use sightline::peer::{Connection, Engine};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::session::{Common, Shared, engine, stands, take_events};

const LIMIT: Duration = Duration::from_secs(15);

/// A connected viewer.
pub struct Viewer {
    /// What came.
    pub book: Shared,
    connection: Connection,
    engine: Engine,
    task: JoinHandle<()>,
}

impl Viewer {
    /// Watches the annotated video of a stream.
    ///
    /// # Errors
    /// With the server's own words where it refused.
    pub async fn start(common: &Common, stream: &str) -> anyhow::Result<Self> {
        let engine = engine()?;
        let offered = engine.offer_to_view().await?;
        let address = format!("{}/whep/{stream}?video=annotated", common.url);
        let request = common.http.post(address).header("content-type", "application/sdp").body(offered.sdp.clone());
        let response = timeout(LIMIT, request.send()).await.context("no answer came to a viewer's offer")??;
        let status = response.status();
        let answer = response.text().await?;
        if !status.is_success() {
            bail!("the server refused a viewer: {status}: {}", answer.trim());
        }
        let mut answered = offered.accept(&answer).await.context("the answer to a viewer cannot be used")?;
        let book = Shared::default();
        let early = timeout(LIMIT, stands(&mut answered)).await.context("no viewer's connection came about")??;
        let task = tokio::spawn(take_events(early, answered.events, book.clone(), None));
        Ok(Self { book, connection: answered.connection, engine, task })
    }

    /// Leaves.
    pub async fn close(self) {
        self.connection.close().await;
        self.task.abort();
        self.engine.stop();
    }
}
