//! `sightline bench`: what this machine can do, measured from outside over real WebRTC.
//!
//! Belongs here: the load generator, what is made of its figures, and how they are shown. Does not belong here: anything that
//! the server itself knows.

mod arrivals;
mod book;
mod clip;
mod hold;
mod html;
mod load;
mod numbers;
mod plot;
mod process;
mod relay;
mod report;
mod screen;
mod session;
mod soak;
mod stages;
mod stamp;
mod watch;

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};

use clap::Parser;
use sightline::config::{Config, Overrides};
use sightline::pipeline::stand_ahead;

use clip::{Clip, LOOP_SECONDS};
use hold::{Hold, Search};
use load::{Plan, Step};
use process::Server;
use report::{Held, Report};
use screen::Screen;
use session::Common;

/// Of these the stages are measured, beside the size that is sent.
const STAGE_SIZES: [(usize, usize); 2] = [(640, 480), (1280, 720)];
/// As many seconds of pictures are enough for that.
const STAGE_SECONDS: usize = 2;

/// More sessions than this are not tried by `--hold` without being asked for.
const LIMIT: usize = 64;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Without --url the server is started here, as `sightline serve` with what stands behind `--`:\n  \
    sightline bench --sessions 1,4,8 --hold p95=33ms,fps=29,detections=2 -- --model yolox-nano\n  \
    sightline bench --url http://127.0.0.1:8080 --pid 4711 --sessions 1,2,3\n\n\
    docs/bench.md says how each figure is taken."
)]
pub struct Args {
    /// How many sessions at once, one run for each number.
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "1,2,4,8")]
    sessions: Vec<usize>,
    /// WHEP viewers of the annotated streams, beside the sessions (a server that names its streams only).
    #[arg(long, value_name = "M", default_value_t = 0)]
    viewers: usize,
    /// How long each run is measured, after three seconds of warm-up.
    #[arg(long, value_name = "S", default_value_t = 10.0)]
    seconds: f64,
    /// Seconds between the beginnings of two sessions.
    #[arg(long, value_name = "S", default_value_t = 0.25)]
    ramp: f64,
    /// Find the most sessions of which each keeps this, as in p95=33ms,fps=29,detections=2 (p50, p95, p99, max: what the server
    /// adds; missing=1%).
    #[arg(long, value_name = "TARGET")]
    hold: Option<Hold>,
    /// In place of all that: let four sessions at a time come and go for so long, over a link that loses packets, and see that
    /// nothing grows and nothing stays behind.
    #[arg(long, value_name = "MINUTES", conflicts_with_all = ["hold", "html"])]
    soak: Option<f64>,
    /// Size of the pictures.
    #[arg(long, value_name = "WxH", default_value = "640x480", value_parser = parse_size)]
    size: (usize, usize),
    /// Pictures a second.
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=120))]
    fps: u32,
    /// What the pictures show: an H.264 file (MP4 or Annex B), ten seconds of it [default: a scene that is drawn].
    #[arg(long, value_name = "FILE")]
    video: Option<PathBuf>,
    /// Measure this server, which answers `POST /offer`, in place of one that is started here.
    #[arg(long, value_name = "URL", conflicts_with = "serve")]
    url: Option<String>,
    /// The process id of that server, for its CPU and memory.
    #[arg(long, value_name = "PID", requires = "url")]
    pid: Option<u32>,
    /// Leave out what each stage costs by itself.
    #[arg(long)]
    no_stages: bool,
    /// Print one JSON object in place of the tables.
    #[arg(long)]
    json: bool,
    /// Write the report as a page with plots.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// What the server is started with.
    #[arg(last = true, value_name = "SERVE ARGUMENTS")]
    serve: Vec<String>,
}

fn parse_size(text: &str) -> Result<(usize, usize), String> {
    let side = |text: &str| text.trim().parse::<usize>().ok();
    let size = text.split_once('x').and_then(|(width, height)| Some((side(width)?, side(height)?)));
    let fits = |&(width, height): &(usize, usize)| width >= stamp::LEAST_WIDTH && height >= 64;
    size.filter(fits).ok_or_else(|| format!("{text:?}: as in 640x480, at least {}x64", stamp::LEAST_WIDTH))
}

/// Measures, and prints what was found; `false` when a run failed, or when nothing holds the target.
pub fn run(args: &Args, out: &mut impl Write) -> anyhow::Result<bool> {
    ensure!(args.sessions.iter().all(|&n| n > 0), "--sessions: at least 1 each");
    let seconds = |name: &str, value: f64| {
        Duration::try_from_secs_f64(value).with_context(|| format!("--{name}: {value} is no number of seconds"))
    };
    let (length, ramp) = (seconds("seconds", args.seconds)?, seconds("ramp", args.ramp)?);
    ensure!(length >= Duration::from_secs(1), "--seconds: at least 1");
    eprintln!("encoding {}×{} at {} fps, once for all sessions …", args.size.0, args.size.1, args.fps);
    let clip = Arc::new(Clip::new(args.size, args.fps, LOOP_SECONDS, args.video.as_deref())?);
    if let Some(minutes) = args.soak {
        return soak(args, clip, seconds("soak", minutes * 60.0)?, out);
    }
    let mut report = Report::new(args.size, args.fps, args.seconds, &clip);
    // They are this program's own, whatever server is measured.
    if args.url.is_none() && !args.no_stages {
        report.stages = stages(args, &clip)?;
    }
    Bench { args, clip, length, ramp, report: &mut report }.run()?;
    if let Some(path) = &args.html {
        fs::write(path, report.html()).with_context(|| path.display().to_string())?;
        eprintln!("wrote {}", path.display());
    }
    if args.json {
        writeln!(out, "{}", serde_json::to_string(&report)?)?;
    } else {
        report.write_table(out)?;
    }
    let nothing_holds = report.hold.as_ref().is_some_and(|held| held.sessions == 0);
    // That the most was passed is what a search is for.
    let failed = args.hold.is_none() && report.steps.iter().any(|step| step.failed.is_some());
    Ok(!failed && !nothing_holds)
}

/// What stands behind `--`, read as `sightline serve` reads it.
#[derive(Parser)]
#[command(name = "sightline serve")]
struct Serve {
    #[command(flatten)]
    overrides: Overrides,
}

/// Each stage by itself, for the size that is sent and the two that are most common.
fn stages(args: &Args, clip: &Clip) -> anyhow::Result<Vec<stages::Stages>> {
    let serve = Serve::try_parse_from(std::iter::once("serve").chain(args.serve.iter().map(String::as_str)))?;
    let config = Config::load(&serve.overrides)?.detect;
    let model = stages::model(&config)?;
    let mut all = Vec::new();
    eprintln!("the stages alone …");
    all.push(stages::measure(clip, &model, &config)?);
    for size in STAGE_SIZES.into_iter().filter(|size| *size != args.size) {
        let clip = Clip::new(size, args.fps, STAGE_SECONDS, args.video.as_deref())?;
        all.push(stages::measure(&clip, &model, &config)?);
    }
    Ok(all)
}

/// One thread: the generator is to take the least from the server that it measures on the same machine.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

/// Runs `work` on a thread that stands as far ahead as the server's do: behind them it would send late, and read the clock late.
/// The server is not started there, as it would inherit that.
fn apart<T: Send>(work: impl FnOnce() -> anyhow::Result<T> + Send) -> anyhow::Result<T> {
    std::thread::scope(|scope| {
        let begun = std::thread::Builder::new().name("generator".into()).spawn_scoped(scope, || {
            stand_ahead();
            work()
        });
        begun?.join().map_err(|_| anyhow::anyhow!("the load generator failed"))?
    })
}

/// Sessions come and go; `false` when something grew or stayed behind.
fn soak(args: &Args, clip: Arc<Clip>, length: Duration, out: &mut impl Write) -> anyhow::Result<bool> {
    let server = server(args, 16)?;
    let common = common(&server, clip)?;
    let soak = apart(|| runtime()?.block_on(soak::run(&common, &server, length)))?;
    if args.json {
        writeln!(out, "{}", serde_json::to_string(&soak)?)?;
    } else {
        soak.write(out)?;
    }
    Ok(soak.well())
}

/// The server that is measured.
fn server(args: &Args, sessions: usize) -> anyhow::Result<Server> {
    if let Some(url) = &args.url {
        return Ok(Server::other(url, args.pid));
    }
    let mut arguments = args.serve.clone();
    if !arguments.iter().any(|argument| argument.starts_with("--max-sessions")) {
        arguments.extend(["--max-sessions".to_owned(), sessions.to_string()]);
    }
    Server::start(&arguments)
}

fn common(server: &Server, clip: Arc<Clip>) -> anyhow::Result<Common> {
    // A server is asked itself, whatever proxy the environment names.
    let http = reqwest::Client::builder().no_proxy().build()?;
    Ok(Common { url: server.url.clone(), http, clip, screen: Screen::start()? })
}

struct Bench<'a> {
    args: &'a Args,
    clip: Arc<Clip>,
    length: Duration,
    ramp: Duration,
    report: &'a mut Report,
}

impl Bench<'_> {
    fn run(&mut self) -> anyhow::Result<()> {
        let mut search = Search::default();
        for &sessions in &self.args.sessions {
            let holds = self.step(sessions)?;
            search.note(sessions, holds);
        }
        let Some(hold) = &self.args.hold else { return Ok(()) };
        let limit = self.args.sessions.iter().copied().max().unwrap_or(1).max(LIMIT);
        while let Some(sessions) = search.next(limit) {
            let holds = self.step(sessions)?;
            search.note(sessions, holds);
        }
        self.report.steps.sort_by_key(|step| step.sessions);
        self.report.hold = Some(Held { target: hold.to_string(), p95_ms: hold.p95(), sessions: search.held });
        Ok(())
    }

    /// One run; whether it holds what is to hold.
    fn step(&mut self, sessions: usize) -> anyhow::Result<bool> {
        let plan = Plan { sessions, viewers: self.args.viewers, ramp: self.ramp, length: self.length };
        let mut server = server(self.args, sessions)?;
        if let Some(model) = &server.model {
            self.report.model = Some(model.clone());
        }
        eprintln!("{sessions} sessions at {} …", server.url);
        let common = common(&server, Arc::clone(&self.clip))?;
        let step = apart(|| Ok(runtime()?.block_on(load::step(&common, &mut server, &plan))))?;
        eprintln!("  {}", report::line(&step));
        let holds = self.holds(&step);
        self.report.steps.push(step);
        Ok(holds)
    }

    fn holds(&self, step: &Step) -> bool {
        let broken = self.args.hold.as_ref().map(|hold| hold.broken_by(step)).unwrap_or_default();
        if !broken.is_empty() {
            eprintln!("  does not hold: {}", broken.join(", "));
        }
        broken.is_empty()
    }
}
