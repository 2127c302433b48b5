//! The server in this process, with a detector that keeps a core busy for as long as it is told.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sightline::detect::{self, DetectError, Detector, Family, Found, Model, ModelInfo, Picture, Pools, Settings};
use sightline::media::{BBox, Detection};
use sightline::peer::{self, Engine};
use sightline::pipeline::{self, Pipeline};
use sightline::{encode, server};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

struct Busy(Duration);

impl Detector for Busy {
    fn detect(&mut self, _: Picture<'_>, _: &Settings) -> Result<Found, DetectError> {
        let begin = Instant::now();
        while begin.elapsed() < self.0 {
            std::hint::spin_loop();
        }
        let items = vec![Detection {
            bbox: BBox::new(100.0, 100.0, 300.0, 300.0),
            confidence: 0.9,
            class_id: 0,
            class_name: "busy".into(),
            ..Detection::default()
        }];
        Ok(Found { items, infer: begin.elapsed(), ..Found::default() })
    }
}

/// Serves on ports of the system's choice until the process ends; returns the address.
pub async fn serve(work: Duration) -> String {
    let info = ModelInfo {
        name: "busy".into(),
        family: Family::Motion,
        labels: [Arc::from("busy")].into(),
        input: None,
        confidence: 0.5,
        iou: 0.5,
        licence: None,
        source: None,
        assumed: Vec::new(),
    };
    let model = Model::new(info, false, move || Ok(Box::new(Busy(work))));
    let config = detect::Config::default();
    let pool = Pools::start(model, &config).expect("threads");
    let engine = Engine::bind_loopback(&peer::Config { udp_port: 0, public_ip: vec![] }).expect("a UDP port");
    let pipeline = Pipeline::new(engine, pool, pipeline::Config::default(), encode::Config::default(), vec![]);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a TCP port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(server::run(listener, server::Config::default(), pipeline, String::new, CancellationToken::new()));
    format!("http://{address}")
}
