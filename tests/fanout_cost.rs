//! What a viewer costs the sending side: the work of an engine's own threads for 50 viewers of one encode.
//!
//! ```sh
//! cargo nextest run --run-ignored only --no-capture --test fanout_cost
//! ```

use std::fs;
use std::time::{Duration, Instant};

use bytes::Bytes;
use sightline::peer::{Config, ConnectionEvent, ConnectionState, Engine, Role, VideoOut};
use tokio::runtime::{Builder, Runtime};

const VIEWERS: usize = 50;
/// 1.5 Mbit/s at 30 frames a second: six packets of 1042 bytes to a frame.
const PACKETS: usize = 6;
const PAYLOAD_BYTES: usize = 1042;
const FRAMES: u32 = 150;
const FRAME: Duration = Duration::from_micros(33_333);
/// The share of a core that one more viewer may take.
const LIMIT: f64 = 0.006;

fn runtime(name: &str) -> Runtime {
    Builder::new_multi_thread().worker_threads(2).thread_name(name).enable_all().build().unwrap()
}

fn engine() -> Engine {
    Engine::bind_loopback(&Config { udp_port: 0, public_ip: Vec::new() }).unwrap()
}

/// CPU time of this process's threads of a name (proc_pid_stat(5), fields 14 and 15, in ticks of 10 ms).
fn cpu_time(name: &str) -> Duration {
    let mut ticks = 0;
    for thread in fs::read_dir("/proc/self/task").unwrap().flatten() {
        let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        let Some((head, rest)) = stat.rsplit_once(')') else { continue };
        if head.ends_with(&format!("({name}")) {
            let fields: Vec<&str> = rest.split_whitespace().collect();
            ticks += fields[11..13].iter().map(|field| field.parse::<u64>().unwrap()).sum::<u64>();
        }
    }
    Duration::from_millis(10 * ticks)
}

#[test]
#[ignore = "a measurement: it wants the machine for itself"]
fn one_more_viewer_costs_little() {
    let (sending, receiving) = (runtime("sending"), runtime("receiving"));
    let server = sending.block_on(async { engine() });
    let mut outs: Vec<VideoOut> = Vec::new();
    let mut kept = Vec::new();
    for _ in 0..VIEWERS {
        // Each viewer has a socket of its own, as each browser has.
        let (client, offered) = receiving.block_on(async {
            let client = engine();
            let offered = client.offer_to_view().await.unwrap();
            (client, offered)
        });
        let mut answered = sending.block_on(server.answer_as(&offered.sdp, Role::Viewer)).unwrap();
        let accepted = receiving.block_on(offered.accept(&answered.sdp)).unwrap();
        sending.block_on(async {
            while !matches!(answered.events.recv().await.unwrap(), ConnectionEvent::State(ConnectionState::Connected)) {
            }
        });
        outs.push(answered.video_out.take().unwrap());
        kept.push((client, accepted, answered));
    }
    let bytes = |kept: &[(Engine, _, sightline::peer::Answered)]| -> u64 {
        kept.iter().map(|(_, _, answered)| answered.connection.stats().bytes_out).sum()
    };
    let (payloads, before) = (vec![Bytes::from(vec![0x41; PAYLOAD_BYTES]); PACKETS], bytes(&kept));
    let (began, cpu) = (Instant::now(), cpu_time("sending"));
    let tasks: Vec<_> = outs
        .into_iter()
        .map(|mut out| {
            let payloads = payloads.clone();
            sending.spawn(async move {
                let mut tick = tokio::time::interval(FRAME);
                for number in 0..FRAMES {
                    tick.tick().await;
                    out.send(&payloads, number * 3000, None).await.unwrap();
                }
            })
        })
        .collect();
    sending.block_on(async {
        for task in tasks {
            task.await.unwrap();
        }
    });
    let (took, cpu) = (began.elapsed(), cpu_time("sending").checked_sub(cpu).unwrap());
    std::thread::sleep(Duration::from_millis(200));
    let sent = bytes(&kept) - before;
    let viewers = VIEWERS as f64;
    let packets = viewers * f64::from(FRAMES) * PACKETS as f64;
    let share = cpu.as_secs_f64() / took.as_secs_f64() / viewers;
    println!(
        "{VIEWERS} viewers, {:.0} packets/s: {:.2} % of a core for each, {:.1} µs a packet, {:.2} Mbit/s each",
        packets / took.as_secs_f64(),
        share * 100.0,
        cpu.as_secs_f64() * 1e6 / packets,
        sent as f64 * 8.0 / 1e6 / took.as_secs_f64() / viewers,
    );
    assert!(sent as f64 >= packets * PAYLOAD_BYTES as f64, "all of it left");
    assert!(share <= LIMIT, "{:.2} %", share * 100.0);
}
