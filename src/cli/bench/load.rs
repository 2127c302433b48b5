//! So many sessions and viewers at once, for so long: what they got, and what it cost.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::time::{sleep, sleep_until};

use super::book::{Book, PATIENCE, Samples, SessionResult};
use super::numbers::{Quantiles, rounded};
use super::process::{Server, Usage};
use super::session::{Common, Session};
use super::watch::Viewer;

/// Caches fill, codecs and the detector's schedule settle.
const WARM_UP: Duration = Duration::from_secs(3);

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Publishers that get their video back annotated.
    pub sessions: usize,
    /// WHEP viewers of them, dealt out in turns.
    pub viewers: usize,
    /// Between the beginnings of two.
    pub ramp: Duration,
    /// How long is measured.
    pub length: Duration,
}

/// What came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    /// As planned.
    pub sessions: usize,
    /// As planned.
    pub viewers: usize,
    /// Why not all of them could begin; there are no figures then.
    pub failed: Option<String>,
    /// Last packet in to first packet out by the server's ledger, of all sessions together, in milliseconds.
    pub server_added_ms: Option<Quantiles>,
    /// Sent to last packet back.
    pub end_to_end_ms: Option<Quantiles>,
    /// Sent to first packet back.
    pub turnaround_ms: Option<Quantiles>,
    /// Sent to last packet back, of the viewers.
    pub viewers_end_to_end_ms: Option<Quantiles>,
    /// The least frames a second of a viewer.
    pub viewers_fps: Option<f64>,
    /// Stages of the server's ledger: the middle session's median and the worst session's p95, over its last ten seconds.
    pub stages_ms: BTreeMap<String, [f64; 2]>,
    /// From the offer until connected: the middle and the longest.
    pub connect_ms: [f64; 2],
    /// The server's time on a core, in percent of one, by kind of thread.
    pub server_cpu: Option<Cpu>,
    /// The generator's own.
    pub generator_cpu: Option<Cpu>,
    /// The server's resident memory at the end, in MiB.
    pub server_rss_mib: Option<f64>,
    /// Each session.
    pub each: Vec<SessionResult>,
}

/// Time on a core, in percent of one.
#[derive(Clone, Debug, Serialize)]
pub struct Cpu {
    /// All threads together.
    pub total: f64,
    /// By kind of thread.
    pub threads: BTreeMap<String, f64>,
}

impl Cpu {
    fn between(before: &Usage, after: &Usage, seconds: f64) -> Self {
        let per_cent = |from: f64, to: f64| rounded((to - from).max(0.0) / seconds * 100.0);
        let of = |kind: &String, after: f64| per_cent(before.threads_s.get(kind).copied().unwrap_or(0.0), after);
        Self {
            total: per_cent(before.cpu_s, after.cpu_s),
            threads: after.threads_s.iter().map(|(kind, &after)| (kind.clone(), of(kind, after))).collect(),
        }
    }
}

impl Step {
    fn failed(plan: &Plan, why: String) -> Self {
        Self {
            sessions: plan.sessions,
            viewers: plan.viewers,
            failed: Some(why),
            server_added_ms: None,
            end_to_end_ms: None,
            turnaround_ms: None,
            viewers_end_to_end_ms: None,
            viewers_fps: None,
            stages_ms: BTreeMap::new(),
            connect_ms: [0.0; 2],
            server_cpu: None,
            generator_cpu: None,
            server_rss_mib: None,
            each: Vec::new(),
        }
    }

    /// The least of a figure over the sessions.
    pub fn least(&self, figure: impl Fn(&SessionResult) -> f64) -> f64 {
        self.each.iter().map(figure).fold(f64::NAN, f64::min)
    }

    /// What the middle session got back, in kbit a second.
    pub fn back_kbps(&self) -> Option<f64> {
        Quantiles::of(self.each.iter().map(|session| session.back_kbps)).map(|all| all.p50)
    }

    /// The smallest picture that came back, as it is written; of those that were decoded.
    pub fn smallest(&self) -> String {
        let smallest =
            self.each.iter().filter_map(|session| session.smallest).min_by_key(|(width, height)| width * height);
        smallest.map_or_else(|| "–".to_owned(), |(width, height)| format!("{width}×{height}"))
    }

    /// The greatest of a figure over the sessions.
    pub fn most(&self, figure: impl Fn(&SessionResult) -> f64) -> f64 {
        self.each.iter().map(figure).fold(f64::NAN, f64::max)
    }

    /// What the server added: as it says, else as it is seen from outside.
    pub fn added(&self) -> Option<Quantiles> {
        self.server_added_ms.or(self.turnaround_ms)
    }
}

impl SessionResult {
    /// What the server added: as it says, else as it is seen from outside.
    pub fn added(&self) -> Option<Quantiles> {
        self.server_added_ms.or(self.turnaround_ms)
    }
}

/// Runs the plan against a server.
pub async fn step(common: &Common, server: &mut Server, plan: &Plan) -> Step {
    let (mut sessions, mut viewers) = (Vec::new(), Vec::new());
    let step = match gather(common, plan, &mut sessions, &mut viewers).await {
        Ok(()) => measured(common, server, plan, &sessions, &viewers).await,
        Err(error) if server.ended() => {
            Step::failed(plan, format!("the server ended: {error:#}\n{}", server.last_words()))
        }
        Err(error) => Step::failed(plan, format!("{error:#}")),
    };
    for viewer in viewers {
        viewer.close().await;
    }
    for session in sessions {
        session.close().await;
    }
    step
}

async fn gather(
    common: &Common,
    plan: &Plan,
    sessions: &mut Vec<Session>,
    viewers: &mut Vec<Viewer>,
) -> anyhow::Result<()> {
    for number in 0..plan.sessions {
        sessions.push(Session::start(common, number).await?);
        sleep(plan.ramp).await;
    }
    for number in 0..plan.viewers {
        let of = sessions.get(number % plan.sessions.max(1)).and_then(|session| session.stream.clone());
        let stream = of.ok_or_else(|| anyhow::anyhow!("the server names no stream, so there is nothing to watch"))?;
        viewers.push(Viewer::start(common, &stream).await?);
        sleep(plan.ramp).await;
    }
    sleep(WARM_UP).await;
    Ok(())
}

async fn measured(common: &Common, server: &mut Server, plan: &Plan, sessions: &[Session], viewers: &[Viewer]) -> Step {
    let usage = || (server.pid.and_then(Usage::of), Usage::own());
    let (from, before) = (Instant::now(), usage());
    sleep_until((from + plan.length).into()).await;
    let (to, after) = (Instant::now(), usage());
    let seconds = (to - from).as_secs_f64();
    let stages_ms = stages(common, sessions).await;
    // What was sent last has to come back too.
    sleep(PATIENCE).await;
    let cpu = |before: Option<&Usage>, after: Option<&Usage>| Some(Cpu::between(before?, after?, seconds));
    let (mut each, mut all) = (Vec::new(), Samples::default());
    for session in sessions {
        let (result, samples) = session.book.lock().result(from, to);
        each.push(result);
        all.added.extend(samples.added);
        all.end_to_end.extend(samples.end_to_end);
        all.turnaround.extend(samples.turnaround);
    }
    let watched: Vec<(SessionResult, Samples)> = sessions
        .iter()
        .cycle()
        .zip(viewers)
        .map(|(session, viewer)| watched(session, viewer).result(from, to))
        .collect();
    let connect = Quantiles::of(sessions.iter().map(|session| session.connected.as_secs_f64() * 1000.0));
    Step {
        sessions: plan.sessions,
        viewers: plan.viewers,
        failed: server.ended().then(|| format!("the server ended:\n{}", server.last_words())),
        server_added_ms: Quantiles::of(all.added),
        end_to_end_ms: Quantiles::of(all.end_to_end),
        turnaround_ms: Quantiles::of(all.turnaround),
        viewers_end_to_end_ms: Quantiles::of(
            watched.iter().flat_map(|(_, samples)| samples.end_to_end.iter().copied()),
        ),
        viewers_fps: watched.iter().map(|(result, _)| result.fps).reduce(f64::min),
        stages_ms,
        connect_ms: connect.map_or([0.0; 2], |connect| [connect.p50, connect.max]),
        server_cpu: cpu(before.0.as_ref(), after.0.as_ref()),
        generator_cpu: cpu(before.1.as_ref(), after.1.as_ref()),
        server_rss_mib: after.0.map(|usage| rounded(usage.rss_mib)),
        each,
    }
}

/// What a viewer got, joined to what its stream's publisher sent: the timestamps out are the same for all.
fn watched(session: &Session, viewer: &Viewer) -> Book {
    let back = std::mem::take(&mut viewer.book.lock().back);
    let published = session.book.lock();
    Book { sent: published.sent.clone(), stamps: published.stamps.clone(), back, ..Book::default() }
}

/// The part of `/api/v1/streams/NAME/latency` that is needed.
#[derive(Default, Deserialize)]
struct Window {
    stages_ms: BTreeMap<String, Stage>,
    detector_ms: BTreeMap<String, Stage>,
}

#[derive(Deserialize)]
struct Stage {
    p50: f64,
    p95: f64,
}

#[derive(Deserialize)]
struct Latency {
    windows: Vec<Window>,
}

/// The stages as the server tells them; none from a server that does not.
async fn stages(common: &Common, sessions: &[Session]) -> BTreeMap<String, [f64; 2]> {
    let mut found: BTreeMap<String, (Vec<f64>, f64)> = BTreeMap::new();
    for name in sessions.iter().filter_map(|session| session.stream.as_ref()) {
        let address = format!("{}/api/v1/streams/{name}/latency", common.url);
        let Ok(response) = common.http.get(address).send().await else { continue };
        let Ok(text) = response.text().await else { continue };
        let Ok(Latency { windows }) = serde_json::from_str(&text) else { continue };
        let Window { stages_ms, detector_ms } = windows.into_iter().next().unwrap_or_default();
        for (stage, Stage { p50, p95 }) in stages_ms.into_iter().chain(detector_ms) {
            let (medians, worst) = found.entry(stage).or_default();
            medians.push(p50);
            *worst = worst.max(p95);
        }
    }
    let middle = |medians: Vec<f64>| Quantiles::of(medians).map_or(0.0, |medians| medians.p50);
    found.into_iter().map(|(stage, (medians, worst))| (stage, [middle(medians), worst])).collect()
}
