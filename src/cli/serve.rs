//! `sightline serve`.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use sightline::config::{Overrides, Reloader};
use sightline::detect::{self, DetectError, Model, Pools};
use sightline::peer::Engine;
use sightline::pipeline::{self, Pipeline, share_memory, stand_ahead};
use sightline::{decode, encode, server, telemetry};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::reload;

/// How long a thread for work that blocks is kept without any.
const IDLE_THREAD: Duration = Duration::from_secs(1);

pub fn run(overrides: &Overrides) -> anyhow::Result<()> {
    share_memory();
    let (config, reloader) = Reloader::start(overrides.clone())?;
    telemetry::init_logs(&config.log).map_err(|error| anyhow!(error))?;
    let metrics = telemetry::init_metrics().map_err(|error| anyhow!(error))?;
    if !encode::has_assembly() {
        tracing::warn!(
            "the H.264 codec was built without its assembly and is about 2.7 times slower: install nasm, then run \
             `cargo clean -p openh264-sys2` and build again"
        );
    }
    let mut warnings = Vec::new();
    let model = load_model(&config.detect, &mut warnings)?;
    let info = model.info();
    tracing::info!(model = %info.name, family = %info.family, codec_assembly = encode::has_assembly(), "detector ready");
    tracing::info!(ffmpeg = decode::ffmpeg_version().as_deref().unwrap_or("not built in"), "decoders");
    for assumed in &info.assumed {
        tracing::info!(%assumed, "the model does not say");
    }
    let pool = Pools::start(model, &config.detect)?;

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("net")
        .on_thread_start(stand_ahead)
        // Work that blocks comes every few seconds, and each time another of the idle threads takes it: with the ten seconds
        // that are usual none of them ever went.
        .thread_keep_alive(IDLE_THREAD)
        .build()?;
    runtime.block_on(async move {
        let hangups = reload::hangups();
        let stop = CancellationToken::new();
        stop_on_signal(stop.clone());
        let listener = TcpListener::bind(config.server.listen).await.with_context(|| {
            format!("cannot listen on {}; choose another address with --listen", config.server.listen)
        })?;
        let engine = Engine::bind(&config.media)?;
        let address = listener.local_addr()?;
        tracing::info!(udp_port = engine.port(), addresses = ?engine.addresses(), "media");
        tracing::info!("open http://{address}/ in a browser");
        let streams = pipeline::Config { stream: config.stream, ..config.pipeline };
        let pipeline = Pipeline::new(engine, pool, streams, config.encode, warnings);
        let refused = reload::run_cameras(&pipeline, config.cameras, &config.camera_flags);
        pipeline.set_warnings(reload::CAMERAS, refused);
        tokio::spawn(Arc::clone(&pipeline).watch_models());
        tokio::spawn(Arc::clone(&pipeline).keep_budgets());
        tokio::spawn(reload::watch(reloader, hangups, Arc::clone(&pipeline), stop.clone()));
        tokio::spawn({
            let (metrics, stop, pipeline) = (metrics.clone(), stop.clone(), Arc::clone(&pipeline));
            async move {
                let mut tick = tokio::time::interval(std::time::Duration::from_secs(5));
                while !stop.is_cancelled() {
                    tick.tick().await;
                    let names = pipeline.stream_names();
                    metrics.upkeep(|stream| names.contains(stream));
                }
            }
        });
        let runtime = tokio::runtime::Handle::current();
        let render = move || {
            ::metrics::gauge!("sightline_tasks").set(runtime.metrics().num_alive_tasks() as f64);
            metrics.render()
        };
        server::run(listener, config.server, pipeline, render, stop).await?;
        tracing::info!("stopped");
        Ok::<(), anyhow::Error>(())
    })?;
    runtime.shutdown_timeout(std::time::Duration::from_millis(200));
    Ok(())
}

/// The configured model; with no file of the default one, motion detection, so that the server runs at once.
fn load_model(config: &detect::Config, warnings: &mut Vec<String>) -> anyhow::Result<Model> {
    match Model::load(config) {
        Ok(model) => Ok(model),
        Err(error @ DetectError::Missing { .. }) if config.model == detect::Config::default().model => {
            let warning = format!("{error}. Until then the built-in motion detector is at work.");
            tracing::warn!("{warning}");
            warnings.push(warning);
            Ok(Model::motion())
        }
        Err(error) => Err(error.into()),
    }
}

/// From now on SIGTERM and SIGINT stop the server; before the first line that says that it is there.
fn stop_on_signal(stop: CancellationToken) {
    let [terminated, interrupted] = [SignalKind::terminate(), SignalKind::interrupt()].map(|kind| {
        signal(kind).inspect_err(|error| tracing::warn!(%error, "signal {} is not heard", kind.as_raw_value())).ok()
    });
    tokio::spawn(async move {
        tokio::select! {
            () = told(terminated) => {}
            () = told(interrupted) => {}
        }
        stop.cancel();
        tracing::info!("shutting down");
    });
}

async fn told(signal: Option<Signal>) {
    match signal {
        Some(mut signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}
