//! Sessions that come and go for a long time over a wire that loses datagrams: what grows, and what stays behind.

use std::fmt::{self, Write as _};
use std::io::{self, Write};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde::Serialize;
use tokio::time::{sleep, sleep_until};

use super::numbers::{Quantiles, rounded};
use super::process::{Server, Usage};
use super::relay::Loss;
use super::session::{Common, Session};

/// Sessions at once, and how long each stays.
const SESSIONS: u64 = 4;
const STAY: Duration = Duration::from_secs(10);
/// The share of media datagrams that is lost each way.
const LOSS: f64 = 0.02;
const SEED: u64 = 20;
/// How much the memory may grow after the warm-up.
const GROWTH: f64 = 0.05;
/// Memory is compared between the end and what comes after this part of the time.
const WARM_UP: f64 = 0.6;
/// A stream outlives its publisher by ten seconds, a connection that broke is given up after as many.
const SETTLE: Duration = Duration::from_secs(30);

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at_s, rss_mib, threads, files, tasks } = self;
        write!(f, "{at_s:.0} s: {rss_mib:.1} MiB, {threads} threads, {files} files and sockets, ")?;
        match tasks {
            Some(tasks) => write!(f, "{tasks} tasks"),
            None => f.write_str("tasks not told"),
        }
    }
}

/// What the server had at some time.
#[derive(Clone, Debug, Serialize)]
struct Sample {
    /// Since the beginning.
    at_s: f64,
    rss_mib: f64,
    threads: usize,
    files: usize,
    /// Of its runtime; absent where it does not tell.
    tasks: Option<f64>,
}

/// What came of it.
#[derive(Debug, Serialize)]
pub struct Soak {
    seconds: f64,
    sessions: u64,
    /// Sessions that could not begin, or got no picture.
    failed: Vec<String>,
    datagrams_lost: u64,
    frames_back: u64,
    frames_sent: u64,
    /// With nobody there, before and after.
    before: Sample,
    after: Sample,
    /// The memory after the warm-up and at the end: medians of a fifth of the time each, in MiB.
    rss_mib: [f64; 2],
    /// What is wrong; empty when nothing is.
    wrong: Vec<String>,
    samples: Vec<Sample>,
}

#[derive(Default)]
struct Tally {
    sessions: u64,
    failed: Vec<String>,
    lost: u64,
    back: u64,
    sent: u64,
}

impl Soak {
    /// Whether nothing grew and nothing was left behind.
    pub fn well(&self) -> bool {
        self.wrong.is_empty()
    }

    /// Writes it for people.
    ///
    /// # Errors
    /// When `out` cannot be written.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(
            out,
            "{:.0} s, {} sessions of {STAY:?}, {SESSIONS} at once, {} of 100 media datagrams lost each way ({})",
            self.seconds,
            self.sessions,
            LOSS * 100.0,
            self.datagrams_lost
        )?;
        writeln!(out, "{} of {} frames came back whole", self.frames_back, self.frames_sent)?;
        let [early, late] = self.rss_mib;
        writeln!(
            out,
            "memory {early:.1} MiB after the warm-up, {late:.1} MiB at the end ({:+.1} %)",
            (late / early - 1.0) * 100.0
        )?;
        let (before, after) = (&self.before, &self.after);
        let tasks = |sample: &Sample| sample.tasks.map_or_else(|| "–".to_owned(), |tasks| format!("{tasks:.0}"));
        writeln!(
            out,
            "with nobody there: threads {} → {}, files and sockets {} → {}, tasks {} → {}",
            before.threads,
            after.threads,
            before.files,
            after.files,
            tasks(before),
            tasks(after)
        )?;
        for wrong in &self.wrong {
            writeln!(out, "wrong: {wrong}")?;
        }
        Ok(())
    }
}

async fn sample(common: &Common, pid: u32, start: Instant) -> anyhow::Result<Sample> {
    let Usage { threads, files, rss_mib, .. } = Usage::of(pid).context("the server is gone")?;
    // A connection for each question: one that is kept would be counted.
    let request = common.http.get(format!("{}/metrics", common.url)).header("connection", "close");
    let text = request.send().await?.text().await?;
    let tasks = text.lines().find_map(|line| line.strip_prefix("sightline_tasks ")?.trim().parse().ok());
    Ok(Sample { at_s: rounded(start.elapsed().as_secs_f64()), rss_mib: rounded(rss_mib), threads, files, tasks })
}

/// Runs for `length`, and waits until the server has nobody left.
///
/// # Errors
/// When the server ends, or its figures cannot be had.
pub async fn run(common: &Common, server: &Server, length: Duration) -> anyhow::Result<Soak> {
    let pid = server.pid.context("the server's process id is needed: --pid")?;
    let start = Instant::now();
    // What is made once for the first session is not what leaks.
    let mut first = Tally::default();
    visit(common, 0, Duration::from_secs(4), &mut first).await;
    let before = settled(common, pid, start, None).await?;
    eprintln!("with nobody there: {before}");

    let (begin, mut samples) = (Instant::now(), Vec::new());
    let slots =
        futures_util::future::join_all((0..SESSIONS).map(|slot| come_and_go(common, slot, begin, begin + length)));
    let watch = async {
        while begin.elapsed() < length {
            sleep(Duration::from_secs(1)).await;
            samples.push(sample(common, pid, start).await?);
            if samples.len() % 20 == 0 {
                samples.iter().next_back().inspect(|sample| eprintln!("{sample}"));
            }
        }
        Ok::<_, anyhow::Error>(())
    };
    let (tallies, watched) = tokio::join!(slots, watch);
    watched?;
    let mut tally = Tally::default();
    for one in tallies {
        tally.sessions += one.sessions;
        tally.failed.extend(one.failed);
        tally.lost += one.lost;
        tally.back += one.back;
        tally.sent += one.sent;
    }
    let after = settled(common, pid, start, Some(&before)).await?;
    let memory = |from: f64| {
        let of = |share: f64| (samples.len() as f64 * share) as usize;
        let part = samples.iter().skip(of(from)).take(of(0.2).max(1)).map(|sample| sample.rss_mib);
        Quantiles::of(part).map_or(f64::NAN, |part| part.p50)
    };
    let rss_mib = [memory(WARM_UP), memory(0.8)];
    let wrong = judged(&tally, &before, &after, rss_mib);
    Ok(Soak {
        seconds: rounded(length.as_secs_f64()),
        sessions: tally.sessions,
        failed: tally.failed,
        datagrams_lost: tally.lost,
        frames_back: tally.back,
        frames_sent: tally.sent,
        before,
        after,
        rss_mib,
        wrong,
        samples,
    })
}

fn judged(tally: &Tally, before: &Sample, after: &Sample, [early, late]: [f64; 2]) -> Vec<String> {
    let mut wrong: Vec<String> = tally.failed.clone();
    // What is not a number was not measured, and holds nothing.
    if late.is_nan() || early.is_nan() || late > early * (1.0 + GROWTH) {
        wrong.push(format!("the memory grew from {early:.1} to {late:.1} MiB, by more than {} %", GROWTH * 100.0));
    }
    for (what, before, after) in [
        ("threads", Some(before.threads as f64), Some(after.threads as f64)),
        ("files and sockets", Some(before.files as f64), Some(after.files as f64)),
        ("tasks", before.tasks, after.tasks),
    ] {
        if let (Some(before), Some(after)) = (before, after)
            && after > before
        {
            wrong.push(format!("{what} were left behind: {before} before, {after} after"));
        }
    }
    if tally.back == 0 {
        wrong.push("no frame came back".to_owned());
    }
    wrong
}

/// Waits until the server's figures have come down to `before`, or without one until they stand still for as long as a stream
/// outlives its publisher.
async fn settled(common: &Common, pid: u32, start: Instant, before: Option<&Sample>) -> anyhow::Result<Sample> {
    let begin = Instant::now();
    loop {
        sleep(Duration::from_secs(1)).await;
        let now = sample(common, pid, start).await?;
        let down = before.is_some_and(|before| {
            now.threads <= before.threads && now.files <= before.files && now.tasks <= before.tasks
        });
        let waited = begin.elapsed();
        if down || waited >= SETTLE || (before.is_none() && waited >= Duration::from_secs(16)) {
            return Ok(now);
        }
    }
}

async fn come_and_go(common: &Common, slot: u64, begin: Instant, end: Instant) -> Tally {
    let mut tally = Tally::default();
    sleep_until((begin + STAY / SESSIONS as u32 * slot as u32).into()).await;
    while Instant::now() + STAY <= end {
        let number = tally.sessions * SESSIONS + slot;
        visit(common, number, STAY, &mut tally).await;
    }
    tally
}

/// One session from its coming to its going.
async fn visit(common: &Common, number: u64, stay: Duration, tally: &mut Tally) {
    let begin = Instant::now();
    let loss = Loss { share: LOSS, seed: SEED.wrapping_add(number) };
    tally.sessions += 1;
    match Session::start_over(common, usize::try_from(number).unwrap_or(0), Some(loss)).await {
        Err(error) => {
            tally.failed.push(format!("session {number}: {error:#}"));
            sleep(Duration::from_secs(1)).await;
        }
        Ok(session) => {
            sleep_until((begin + stay).into()).await;
            let (back, sent) = {
                let book = session.book.lock();
                (book.back.whole.len() as u64, book.sent.len() as u64)
            };
            if back == 0 {
                let mut what = format!("session {number}: nothing came back of {sent} frames");
                let _ = write!(what, " in {:.1} s", begin.elapsed().as_secs_f64());
                tally.failed.push(what);
            }
            tally.back += back;
            tally.sent += sent;
            tally.lost += session.relay.as_ref().map_or(0, |relay| relay.lost.load(Ordering::Relaxed));
            session.close().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(threads: usize, files: usize, tasks: f64) -> Sample {
        Sample { at_s: 0.0, rss_mib: 50.0, threads, files, tasks: Some(tasks) }
    }

    #[test]
    fn what_grows_or_stays_behind_is_named() {
        let tally = Tally { sessions: 3, back: 100, sent: 110, ..Tally::default() };
        let well = judged(&tally, &sample(9, 20, 5.0), &sample(9, 19, 5.0), [100.0, 104.0]);
        assert!(well.is_empty(), "{well:?}");
        let wrong = judged(&tally, &sample(9, 20, 5.0), &sample(10, 21, 6.0), [100.0, 106.0]);
        assert_eq!(wrong.len(), 4, "{wrong:?}");
        assert_eq!(judged(&Tally::default(), &sample(9, 20, 5.0), &sample(9, 20, 5.0), [1.0, f64::NAN]).len(), 2);
    }
}
