//! A real Chromium behind a narrow link: its media goes through the relay. What it saw is judged here, the queue is the relay's own.
//!
//! `LINK_SECONDS` and `LINK_LOSS` make another case of it, whose figures are printed.

#[path = "support/browser.rs"]
mod browser;
#[path = "support/client.rs"]
#[allow(dead_code)]
mod client;
#[path = "support/relay.rs"]
#[allow(dead_code)]
mod relay;
#[path = "support/server.rs"]
#[allow(dead_code)]
mod server;
#[path = "support/squares.rs"]
#[allow(dead_code)]
mod squares;
#[path = "support/watcher.rs"]
#[allow(dead_code)]
mod watcher;

use std::net::SocketAddr;
use std::time::Duration;

use relay::Relay;
use relay::link::Conditions;
use serde_json::Value;
use server::Server;
use watcher::Broadcaster;

const NARROW: u64 = 300_000;

/// The source's width.
const WIDTH: usize = 640;

/// A number from the environment.
fn asked(name: &str, default: f64) -> f64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_behind_a_narrow_link_gets_a_smaller_picture_that_goes_on() {
    let Some(mut node) = browser::node() else { return };
    let server = Server::start(server::Options::default()).await;
    let mut publisher = Broadcaster::publish_sized(&server, "scene", false, (WIDTH, 480)).await.unwrap();
    let playing = tokio::spawn(async move { publisher.play().await });
    let media = SocketAddr::from(([127, 0, 0, 1], server.pipeline.udp_port()));
    let loss = asked("LINK_LOSS", 0.0);
    let down = Conditions {
        rate: Some(NARROW),
        queue: 37_500,
        delay: Duration::from_millis(10),
        loss,
        ..Conditions::clean(7)
    };
    let relay = Relay::over(media, Conditions::clean(0), down).await;
    let seconds = asked("LINK_SECONDS", 6.0);
    let ports = [media.port(), relay.port()].map(|port| port.to_string());
    let times = [8.0, seconds].map(|time| time.to_string());
    let base = server.base.clone();
    let output = tokio::task::spawn_blocking(move || {
        node.arg("tests/browser/e2e_link.mjs").arg(&base).arg("none").args(ports).args(times).output()
    });
    let output = output.await.unwrap().expect("node starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}", output.status);
    let seen: Value = serde_json::from_slice(&output.stdout).expect("one JSON object");
    let log = relay.log();
    // The script's last words come soon after its last look.
    let end = log.last().expect("something was sent").0;
    let mut waits: Vec<_> =
        log.iter().filter(|(at, ..)| end - *at < Duration::from_secs_f64(seconds)).map(|(_, wait, _)| *wait).collect();
    waits.sort_unstable();
    let (usual, longest) = (waits[waits.len() / 2], waits[waits.len() - 1]);
    println!("{seen}; queue {usual:?}, at most {longest:?}");
    assert_eq!(seen["faults"], serde_json::json!([]), "{seen}");
    assert!(number(&seen["frames"]) >= 5.0 * seconds, "it does not go on: {seen}");
    assert!(number(&seen["width"]) < WIDTH as f64, "it is not smaller: {seen}");
    assert!(number(&seen["longest_gap_ms"]) < 1500.0, "it freezes: {seen}");
    assert!(usual < Duration::from_millis(300), "the queue stands: {usual:?}");
    playing.abort();
    server.shutdown().await;
}
