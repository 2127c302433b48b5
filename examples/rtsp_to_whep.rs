//! The bridge: one camera in, any number of viewers out, in a program of one's own.
//!
//! ```sh
//! cargo run --release --example rtsp_to_whep -- rtsp://user:password@192.168.1.20/stream1
//! ```
//!
//! Any WHEP player watches at the address that is printed, with the boxes at `?video=annotated`. A camera that is not there
//! yet, or goes and comes back, is waited for; its viewers stay.

use std::net::SocketAddr;

use anyhow::anyhow;
use clap::Parser;
use sightline::detect::{self, Model, Pools};
use sightline::peer::{self, Engine};
use sightline::pipeline::{CameraConfig, Mode, Pipeline};
use sightline::source::camera::Address;
use sightline::{encode, pipeline, server};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Shows a camera to browsers.
#[derive(Parser)]
struct Args {
    /// The camera: rtsp://…, http://… (Motion JPEG), or file:… to play a file over and over.
    camera: Address,
    /// Address and port of HTTP.
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// UDP port of all media; 0 lets the system choose.
    #[arg(long, default_value_t = peer::Config::default().udp_port)]
    udp_port: u16,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let engine = Engine::bind(&peer::Config { udp_port: args.udp_port, ..peer::Config::default() })?;
    let (model, detect) = (Model::motion(), detect::Config::default());
    let pool = Pools::start(model, &detect)?;
    let (config, encode) = (pipeline::Config::default(), encode::Config::default());
    let pipeline = Pipeline::new(engine, pool, config, encode, Vec::new());

    // `Original`: the camera's own video goes on as it is, and is encoded for nobody who did not ask for the boxes.
    let camera = CameraConfig { mode: Mode::Original, ..CameraConfig::at(args.camera) };
    pipeline.add_camera("camera", camera).map_err(|error| anyhow!(error))?;

    let listener = TcpListener::bind(args.listen).await?;
    println!("http://{}/whep/camera", listener.local_addr()?);
    let stop = CancellationToken::new();
    let server = server::run(listener, server::Config::default(), pipeline, String::new, stop.clone());
    tokio::spawn(async move {
        let _ = tokio::signal::ctrl_c().await;
        stop.cancel();
    });
    Ok(server.await?)
}
