//! What was found, as tables, as JSON, and as a page.

use std::fs;
use std::io::{self, Write};
use std::time::SystemTime;

use serde::Serialize;

use super::clip::Clip;
use super::html;
use super::load::Step;
use super::numbers::Quantiles;
use super::stages::Stages;

/// The whole report.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Of this program.
    pub version: &'static str,
    /// When it was begun: seconds since 1970-01-01 UTC.
    pub unix_time: u64,
    /// The machine.
    pub machine: Machine,
    /// The server's model, where it said so.
    pub model: Option<String>,
    /// Pixels.
    pub size: (usize, usize),
    /// Pictures a second.
    pub fps: u32,
    /// Bits a second of what is sent.
    pub sent_kbps: u64,
    /// How long each run was measured.
    pub seconds: f64,
    /// What a picture costs by itself, for each size.
    pub stages: Vec<Stages>,
    /// Each run.
    pub steps: Vec<Step>,
    /// What was looked for, and how many sessions hold it.
    pub hold: Option<Held>,
}

/// The outcome of `--hold`.
#[derive(Debug, Serialize)]
pub struct Held {
    /// In words.
    pub target: String,
    /// The bound of p95, if there is one.
    pub p95_ms: Option<f64>,
    /// The most sessions that hold it.
    pub sessions: usize,
}

/// On what it ran.
#[derive(Debug, Serialize)]
pub struct Machine {
    /// Cores that this program may use.
    pub cores: usize,
    /// The processor's name.
    pub processor: String,
    /// The kernel's release.
    pub kernel: String,
}

impl Machine {
    fn this() -> Self {
        let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let name = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        Self {
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            processor: name.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.trim().to_owned()),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
        }
    }
}

impl Report {
    /// Without figures yet.
    pub fn new(size: (usize, usize), fps: u32, seconds: f64, clip: &Clip) -> Self {
        let bytes: usize = clip.units.iter().map(bytes::Bytes::len).sum();
        let unix_time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        Self {
            version: env!("CARGO_PKG_VERSION"),
            unix_time,
            machine: Machine::this(),
            model: None,
            size,
            fps,
            sent_kbps: bytes as u64 * 8 * u64::from(fps) / clip.units.len().max(1) as u64 / 1000,
            seconds,
            stages: Vec::new(),
            steps: Vec::new(),
            hold: None,
        }
    }

    /// Writes tables for people.
    ///
    /// # Errors
    /// When `out` cannot be written.
    pub fn write_table(&self, out: &mut impl Write) -> io::Result<()> {
        for line in self.head() {
            writeln!(out, "{line}")?;
        }
        if !self.stages.is_empty() {
            self.write_stages(out)?;
        }
        if !self.steps.is_empty() {
            self.write_steps(out)?;
        }
        if let Some(held) = self.held() {
            writeln!(out, "\n{held}")?;
        }
        Ok(())
    }

    /// The circumstances, in words.
    pub fn head(&self) -> [String; 2] {
        let Machine { cores, processor, kernel } = &self.machine;
        let (width, height) = self.size;
        let model = self.model.as_deref().unwrap_or("not told");
        let (fps, kbps, seconds) = (self.fps, self.sent_kbps, self.seconds);
        [
            format!("sightline {} on {cores} cores of {processor}, Linux {kernel}", self.version),
            format!("{width}×{height} at {fps} fps, {kbps} kbit/s each, model {model}, {seconds} s a run"),
        ]
    }

    /// The outcome of the search, in words.
    pub fn held(&self) -> Option<String> {
        let Held { target, sessions, .. } = self.hold.as_ref()?;
        Some(format!("{sessions} sessions hold {target}, each of them."))
    }

    fn write_stages(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(
            out,
            "\nstages alone, ms      decode      convert        infer  postprocess         draw       encode        floor"
        )?;
        for stages in &self.stages {
            write!(out, "{:<14}", format!("{}×{}", stages.size.0, stages.size.1))?;
            for (_, quantiles) in stages.named() {
                let text = quantiles.map_or_else(|| "–".into(), |one| format!("{:.2} ({:.2})", one.p50, one.p95));
                write!(out, "{text:>13}")?;
            }
            writeln!(out)?;
        }
        writeln!(
            out,
            "median (p95); floor: decode and encode of the same frames, one after the other, at the camera's pace."
        )
    }

    fn write_steps(&self, out: &mut impl Write) -> io::Result<()> {
        let head = "\nsessions   fps  det/s  missing  added p50    p95    p99    max  worst p95   e2e p50    p95    p99    max";
        writeln!(out, "{head}   ms")?;
        for step in &self.steps {
            if let Some(why) = &step.failed {
                writeln!(out, "{:>8}   {why}", step.sessions)?;
                continue;
            }
            let (fps, detections) = (step.least(|one| one.fps), step.least(|one| one.detections));
            let missing = step.most(|one| one.missing) * 100.0;
            let worst = step.most(|one| one.added().map_or(f64::NAN, |added| added.p95));
            write!(out, "{:>8} {fps:>5.1} {detections:>6.1} {missing:>7.1}%  ", step.sessions)?;
            writeln!(out, " {} {worst:>10.1}   {}", four(step.added(), 9), four(step.end_to_end_ms, 7))?;
        }
        writeln!(out, "\n{}", self.what_added_is())?;
        writeln!(
            out,
            "fps, det/s and missing are those of the session that has least (most); back is what the middle one gets, smallest the least picture.\n"
        )?;
        writeln!(
            out,
            "sessions  back kbit/s  smallest  server CPU  each  generator CPU  each  memory MiB  connect ms  the server's CPU by thread"
        )?;
        for step in self.steps.iter().filter(|step| step.failed.is_none()) {
            let each = |total: f64| total / step.sessions.max(1) as f64;
            let (server, own) = (step.server_cpu.as_ref(), step.generator_cpu.as_ref());
            let (server_total, own_total) =
                (server.map_or(f64::NAN, |cpu| cpu.total), own.map_or(f64::NAN, |cpu| cpu.total));
            let back = step.back_kbps().unwrap_or(f64::NAN);
            write!(out, "{:>8} {back:>12.0} {:>9}", step.sessions, step.smallest())?;
            write!(out, " {server_total:>10.1}% {:>4.1}%", each(server_total))?;
            write!(out, " {own_total:>13.1}% {:>4.1}%", each(own_total))?;
            write!(out, " {:>11.0} {:>11.0}", step.server_rss_mib.unwrap_or(f64::NAN), step.connect_ms[0])?;
            let threads = server.into_iter().flat_map(|cpu| &cpu.threads).filter(|(_, cpu)| **cpu >= 0.5);
            let threads: Vec<_> = threads.map(|(kind, cpu)| format!("{kind} {cpu:.0}%")).collect();
            writeln!(out, "  {}", threads.join(", "))?;
        }
        Ok(())
    }

    /// Whose word "added" is.
    pub fn what_added_is(&self) -> &'static str {
        if self.steps.iter().any(|step| step.server_added_ms.is_some()) {
            "added: last packet in to first packet out, by the server's ledger. e2e: sent to last packet back."
        } else {
            "added: sent to first packet back. e2e: sent to last packet back."
        }
    }

    /// The page.
    pub fn html(&self) -> String {
        html::page(self)
    }

    /// What stands above the plot.
    pub fn added_title(&self) -> &'static str {
        if self.steps.iter().any(|step| step.server_added_ms.is_some()) {
            "Server-added: last packet in to first packet out"
        } else {
            "Turnaround: sent to first packet back"
        }
    }
}

fn four(quantiles: Option<Quantiles>, first: usize) -> String {
    let Some(Quantiles { p50, p95, p99, max, .. }) = quantiles else { return format!("{:>1$}", "–", first + 21) };
    format!("{p50:>first$.1} {p95:>6.1} {p99:>6.1} {max:>6.1}")
}

/// A run in a line.
pub fn line(step: &Step) -> String {
    if let Some(why) = &step.failed {
        return why.clone();
    }
    let (fps, detections) = (step.least(|one| one.fps), step.least(|one| one.detections));
    let p95 = |quantiles: Option<Quantiles>| quantiles.map_or(f64::NAN, |quantiles| quantiles.p95);
    let (added, whole) = (p95(step.added()), p95(step.end_to_end_ms));
    let cpu = |cpu: &Option<super::load::Cpu>| cpu.as_ref().map_or(f64::NAN, |cpu| cpu.total);
    let (server, own) = (cpu(&step.server_cpu), cpu(&step.generator_cpu));
    format!(
        "{fps:.1} fps, {detections:.1} detections/s, p95 added {added:.1} ms, end to end {whole:.1} ms, CPU server \
         {server:.0} %, generator {own:.0} %"
    )
}
