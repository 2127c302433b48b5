//! `sightline doctor`: whether everything that the server needs is there and works.

mod inference;
mod loopback;

use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::num::NonZero;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use serde::Serialize;
use sightline::config::{Config, Overrides};
use sightline::decode::ffmpeg_version;
use sightline::detect::backend::{RuntimeInfo, find_library, runtime};
use sightline::detect::{self, DetectError, Model, Picture, Pools, locate};
use sightline::encode;
use sightline::media::I420Frame;
use sightline::peer::{self, Engine, PeerError};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    overrides: Overrides,
    /// Print one JSON object instead of lines.
    #[arg(long)]
    json: bool,
}

/// Checks everything; `false` when the server would not work.
pub fn run(args: &Args, out: &mut impl Write) -> anyhow::Result<bool> {
    let mut report = Report { out, quiet: args.json, checks: Vec::new() };
    let config = report.config(&args.overrides)?;
    report.say(codec())?;
    report.say(ffmpeg())?;
    report.detector(&config.detect)?;
    report.say(tcp_port(config.server.listen))?;
    let network = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    report.say(network.block_on(async { udp_port(&config.media) }))?;
    report.say(self_test(network.block_on(loopback::run())))?;
    network.shutdown_timeout(Duration::from_millis(200));

    let Report { checks, .. } = report;
    let failed = checks.iter().filter(|check| check.status == Status::Failed).count();
    let warned = checks.iter().filter(|check| check.status == Status::Warning).count();
    if args.json {
        let report = serde_json::json!({ "ok": failed == 0, "version": env!("CARGO_PKG_VERSION"), "checks": checks });
        writeln!(out, "{report}")?;
    } else {
        match (failed, warned) {
            (0, 0) => writeln!(out, "\nEverything is well.")?,
            (0, _) => writeln!(out, "\nThe server will run; what is marked with ! would make it better.")?,
            _ => writeln!(out, "\nThe server will not run as it is: mend what is marked with ✗.")?,
        }
    }
    Ok(failed == 0)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Ok,
    /// The server runs, and would be better with it.
    Warning,
    /// The server does not run without it.
    Failed,
}

#[derive(Debug, Serialize)]
struct Check {
    name: &'static str,
    status: Status,
    detail: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    took_ms: Option<f64>,
}

impl Check {
    fn new(name: &'static str, status: Status, detail: impl Into<String>) -> Self {
        Self { name, status, detail: detail.into(), fix: None, took_ms: None }
    }

    fn ok(name: &'static str, detail: impl Into<String>) -> Self {
        Self::new(name, Status::Ok, detail)
    }

    fn failed(name: &'static str, detail: impl Into<String>) -> Self {
        Self::new(name, Status::Failed, detail)
    }

    fn fix(self, fix: impl Into<String>) -> Self {
        Self { fix: Some(fix.into()), ..self }
    }

    fn took(self, took: Duration) -> Self {
        Self { took_ms: Some((took.as_secs_f64() * 100_000.0).round() / 100.0), ..self }
    }
}

struct Report<'a, W> {
    out: &'a mut W,
    quiet: bool,
    checks: Vec<Check>,
}

impl<W: Write> Report<'_, W> {
    /// Shows a check as soon as it is done.
    fn say(&mut self, check: Check) -> io::Result<()> {
        if !self.quiet {
            let mark = match check.status {
                Status::Ok => '✓',
                Status::Warning => '!',
                Status::Failed => '✗',
            };
            write!(self.out, "{mark} {:<14} {}", check.name, check.detail)?;
            if let Some(took) = check.took_ms {
                write!(self.out, " ({took:.1} ms)")?;
            }
            writeln!(self.out)?;
            if let Some(fix) = &check.fix {
                writeln!(self.out, "  → {fix}")?;
            }
            self.out.flush()?;
        }
        self.checks.push(check);
        Ok(())
    }

    /// The configuration that the rest is checked with.
    fn config(&mut self, overrides: &Overrides) -> io::Result<Config> {
        const NAME: &str = "configuration";
        let file = overrides.detector.places.file();
        match Config::load(overrides) {
            Ok(config) => {
                let file = file.map_or("no file, the defaults".to_owned(), |file| file.display().to_string());
                self.say(Check::ok(NAME, file))?;
                Ok(config)
            }
            Err(error) => {
                let check = Check::failed(NAME, error.to_string().trim_end());
                self.say(
                    check.fix("mend it; docs/configuration.md has every key. The rest is checked with the defaults"),
                )?;
                Ok(Config::default())
            }
        }
    }

    /// Runtime, providers, server, model and threads.
    fn detector(&mut self, config: &detect::Config) -> io::Result<()> {
        let needs_runtime = *Model::motion().info().name != *config.model;
        // A server whose default model was never pulled runs on motion, and says so.
        let model_absent = locate(&config.model, &config.models_dir).is_ok_and(|model| !model.path.is_file());
        let falls_back = model_absent && config.model == detect::Config::default().model;
        let library = find_library(config.onnxruntime.as_deref());
        self.say(match runtime(&library) {
            Ok(info) => Check::ok("ONNX Runtime", format!("{}: {}", info.path.display(), version(&info))),
            Err(error) => {
                let needed = needs_runtime && !falls_back;
                let status = if needed { Status::Failed } else { Status::Warning };
                Check::new("ONNX Runtime", status, error.to_string())
            }
        })?;
        if runtime(&library).is_ok() {
            self.say(inference::providers(config, &library))?;
        }
        let (check, model) = model(config, falls_back);
        self.say(check)?;
        if let Some(check) = inference::remote(config, model.as_ref()) {
            self.say(check)?;
        }
        self.say(workers(model.unwrap_or_else(Model::motion), config))
    }
}

/// The version in the library's name, `libonnxruntime.so.1.31.1`, behind any links; what it says of its build does not always
/// have one: `ORT Build Info: git-branch=rel-1.31.1, …`.
fn version(info: &RuntimeInfo) -> String {
    let path = info.path.canonicalize().unwrap_or_else(|_| info.path.clone());
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let numbers = |text: &str| text.split('.').all(|part| part.parse::<u32>().is_ok());
    let named = name.split_once(".so.").map(|(_, version)| version);
    let branch = info.build.split_once("git-branch=rel-").map(|(_, rest)| rest.split(',').next().unwrap_or(rest));
    match named.or(branch).filter(|version| numbers(version)) {
        Some(version) => format!("version {version}"),
        None => info.build.clone(),
    }
}

fn codec() -> Check {
    if encode::has_assembly() {
        Check::ok("H.264 codec", "openh264 with its assembly")
    } else {
        Check::new("H.264 codec", Status::Warning, "openh264 was built without its assembly: about 2.7 times slower")
            .fix("install nasm (apt-get install nasm), run `cargo clean -p openh264-sys2`, and build again")
    }
}

/// What decodes H.265; without it the server is whole, so that nothing is to be mended.
fn ffmpeg() -> Check {
    const NAME: &str = "FFmpeg";
    Check::ok(
        NAME,
        match ffmpeg_version() {
            Some(version) => format!("built in: {version}, for H.265 and interlaced cameras"),
            None => "not built in; cameras of H.265 or interlaced video need `--features ffmpeg`".into(),
        },
    )
}

fn model(config: &detect::Config, falls_back: bool) -> (Check, Option<Model>) {
    const NAME: &str = "model";
    let model = match Model::load(config) {
        Ok(model) => model,
        Err(error @ DetectError::Missing { .. }) if falls_back => {
            let check = Check::new(NAME, Status::Warning, format!("{error}"));
            return (check.fix("until then the built-in motion detector is at work"), None);
        }
        Err(error) => return (Check::failed(NAME, error.to_string()), None),
    };
    let info = model.info();
    let looked = model.detector().and_then(|mut detector| {
        let picture = I420Frame::black(640, 480);
        let start = Instant::now();
        detector.detect(Picture::I420(&picture), &model.settings(config))?;
        Ok(start.elapsed())
    });
    let check = match looked {
        Ok(took) => {
            let classes = info.labels.len();
            let what = format!("{} ({}, {classes} {})", info.name, info.family, plural(classes, "class", "classes"));
            Check::ok(NAME, format!("{what} looks at 640×480 pixels")).took(took)
        }
        Err(error) => Check::failed(NAME, error.to_string()),
    };
    (check, Some(model))
}

fn plural<'a>(count: usize, one: &'a str, more: &'a str) -> &'a str {
    if count == 1 { one } else { more }
}

fn workers(model: Model, config: &detect::Config) -> Check {
    const NAME: &str = "detector";
    let cores = available_parallelism().map_or(1, NonZero::get);
    match Pools::start(model, config) {
        Ok(pool) => {
            let (workers, threads) = (pool.stats().workers, config.threads.unwrap_or(1));
            let detail = format!(
                "{workers} {} with {threads} {} each, on {cores} {}",
                plural(workers, "worker", "workers"),
                plural(threads, "thread", "threads"),
                plural(cores, "core", "cores"),
            );
            let wanted = workers.saturating_mul(threads);
            if wanted > cores {
                Check::new(NAME, Status::Warning, detail)
                    .fix("more threads than cores slow the video down: lower `workers` or `threads` in [detect]")
            } else {
                Check::ok(NAME, detail)
            }
        }
        Err(error) => Check::failed(NAME, error.to_string()),
    }
}

fn tcp_port(listen: SocketAddr) -> Check {
    const NAME: &str = "TCP port";
    match TcpListener::bind(listen) {
        Ok(listener) => {
            let at = listener.local_addr().map_or(listen, |at| at);
            let whom = if listen.ip().is_loopback() {
                "free; the page is for this machine only (--listen 0.0.0.0:8080 opens it to others)"
            } else {
                "free; a webcam on another machine needs HTTPS in front, browsers ask for it"
            };
            Check::ok(NAME, format!("{at} is {whom}"))
        }
        Err(error) => Check::failed(NAME, format!("cannot listen on {listen}: {error}"))
            .fix("stop what uses it (another sightline?), or choose another address with --listen"),
    }
}

fn udp_port(config: &peer::Config) -> Check {
    const NAME: &str = "UDP port";
    match Engine::bind(config) {
        Ok(engine) => {
            let addresses = engine.addresses();
            let port = engine.port();
            let shown = addresses.iter().map(|ip| SocketAddr::new(*ip, port).to_string());
            let public = config.public_ip.iter().map(|ip| format!("{} (public)", SocketAddr::new(*ip, port)));
            let candidates = shown.chain(public).collect::<Vec<_>>().join(", ");
            engine.stop();
            let check = Check::ok(NAME, format!("free; candidates carry {candidates}"));
            if addresses.iter().chain(&config.public_ip).all(IpAddr::is_loopback) {
                let check = Check { status: Status::Warning, ..check };
                check.fix("no address but loopback: browsers on other machines cannot reach the media")
            } else {
                check
            }
        }
        Err(PeerError::Bind { at, source }) => Check::failed(NAME, format!("cannot bind UDP {at}: {source}"))
            .fix("stop what uses it (another sightline?), or choose another port with --udp-port"),
        Err(error) => Check::failed(NAME, error.to_string()),
    }
}

fn self_test(result: anyhow::Result<loopback::Trip>) -> Check {
    const NAME: &str = "self-test";
    match result {
        Ok(trip) => {
            let connect = trip.connect.as_secs_f64() * 1000.0;
            let detail = format!(
                "connected over loopback in {connect:.0} ms; a picture of 640×480 ({} bytes) encoded, sent, received, decoded",
                trip.bytes
            );
            Check::ok(NAME, detail).took(trip.picture)
        }
        Err(error) => {
            Check::failed(NAME, format!("{error:#}")).fix("a firewall on the loopback interface may be in the way")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_the_librarys_name_or_from_what_it_says() {
        let of = |path: &str, build: &str| version(&RuntimeInfo { path: path.into(), build: build.to_owned() });
        assert_eq!(of("/x/libonnxruntime.so.1.31.1", "ORT Build Info: git-branch=HEAD"), "version 1.31.1");
        assert_eq!(of("/x/mine.so", "ORT Build Info: git-branch=rel-1.31.0, git-commit-id=abc"), "version 1.31.0");
        assert_eq!(of("libonnxruntime.so", "something else"), "something else");
    }

    #[test]
    fn a_port_in_use_is_a_failure_with_a_fix() {
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        let check = tcp_port(held.local_addr().unwrap());
        assert_eq!(check.status, Status::Failed);
        assert!(check.fix.unwrap().contains("--listen"));
    }

    #[test]
    fn more_threads_than_cores_are_a_warning() {
        let config = detect::Config { workers: Some(1), threads: Some(256), ..detect::Config::default() };
        let check = workers(Model::motion(), &config);
        assert!(check.detail.starts_with("1 worker with 256 threads"), "{}", check.detail);
        assert_eq!(check.status, Status::Warning);
    }
}
