//! The pool under detectors that do what a test tells them, when it tells them.

use std::sync::Condvar;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Instant;

use super::*;
use crate::detect::backend::made::{brightness, endless_brightness};
use crate::detect::{Detector, Family, Found, LaneCounters, Picture};
use crate::detect::{LaneModel, Priority, Stopper, Zone};
use crate::media::{BBox, Detection, Frame, FrameLedger, I420Frame, Mark, Plane, RtpTimestamp};

const PATIENCE: Duration = Duration::from_secs(20);

/// What a detector is told to do with the frame in its hands.
#[derive(Clone, Copy)]
enum Order {
    Find,
    Fail,
    Panic,
}

/// A detector that reports what it was given and waits for its order.
struct Puppet {
    /// Which of the detectors made it is.
    number: u64,
    entered: Sender<Entry>,
    orders: Arc<Mutex<Receiver<Order>>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    detector: u64,
    /// The picture's width stands for the stream, its first sample for the frame.
    stream: usize,
    frame: u8,
}

impl Detector for Puppet {
    fn detect(&mut self, picture: Picture<'_>, settings: &Settings) -> Result<Found, DetectError> {
        let Picture::I420(frame) = picture else { panic!("the pool gives frames") };
        let entry = Entry { detector: self.number, stream: frame.width(), frame: frame.plane(Plane::Y)[0] };
        let _ = self.entered.send(entry);
        match lock(&self.orders).recv_timeout(PATIENCE) {
            Ok(Order::Find) => {}
            Ok(Order::Fail) => return Err(DetectError::Frame("told to".into())),
            Ok(Order::Panic) => panic!("told to"),
            Err(_) => return Err(DetectError::Frame("the test is over".into())),
        }
        // The same object at every size of the picture.
        let width = frame.width() as f32;
        let bbox = BBox::new(width / 4.0, 1.0, width / 2.0, 9.0);
        let item = Detection {
            bbox,
            confidence: settings.confidence,
            class_id: 0,
            class_name: "puppet".into(),
            ..Detection::default()
        };
        Ok(Found { items: vec![item], infer: Duration::from_millis(7), ..Found::default() })
    }
}

/// A pool of puppets and the strings to them.
struct Stage {
    /// Goes before the pool: a detector that still holds a frame need not wait for its order.
    orders: Sender<Order>,
    pool: Arc<Pools>,
    entered: Receiver<Entry>,
    results: Receiver<Arc<Detections>>,
    deliver: Sender<Arc<Detections>>,
}

impl Stage {
    fn new(workers: usize, per_stream: bool) -> Self {
        Self::with(workers, per_stream, |_| Err(DetectError::Frame("no other model here".into())))
    }

    fn with(
        workers: usize,
        per_stream: bool,
        load: impl Fn(&Config) -> Result<Model, DetectError> + Send + Sync + 'static,
    ) -> Self {
        let (entered_in, entered) = channel();
        let (orders, orders_out) = channel();
        let (deliver, results) = channel();
        let (orders_out, made) = (Arc::new(Mutex::new(orders_out)), AtomicU64::new(0));
        let info = ModelInfo { name: "puppet".into(), ..Model::motion().info().clone() };
        assert_eq!(info.family, Family::Motion);
        let model = Model::new(info, per_stream, move || {
            let number = made.fetch_add(1, Ordering::Relaxed);
            Ok(Box::new(Puppet { number, entered: entered_in.clone(), orders: Arc::clone(&orders_out) }))
        });
        // A test on a busy machine may let a puppet wait.
        let config = Config { workers: Some(workers), deadline_ms: 600_000, ..Config::default() };
        let pool = Pools::start_with(model, &config, load).unwrap();
        Self { pool, entered, orders, results, deliver }
    }

    fn lane(&self, name: &str) -> Lane {
        let deliver = self.deliver.clone();
        self.pool.lane(name.into(), options(0.5), move |result| deliver.send(result).unwrap())
    }

    /// Waits until a detector holds a frame, and tells which.
    fn entered(&self) -> Entry {
        self.entered.recv_timeout(PATIENCE).unwrap()
    }

    fn order(&self, order: Order) {
        self.orders.send(order).unwrap();
    }

    fn result(&self) -> Arc<Detections> {
        self.results.recv_timeout(PATIENCE).unwrap()
    }

    /// Lets the next frame pass and waits for its result.
    fn pass(&self) -> (Entry, Arc<Detections>) {
        let entry = self.entered();
        self.order(Order::Find);
        (entry, self.result())
    }

    /// Ends the pool and returns what was delivered that nobody asked for.
    fn left_over(self) -> usize {
        self.pool.shutdown();
        drop(self.deliver);
        self.results.try_iter().count()
    }
}

fn settings(confidence: f32) -> Settings {
    Settings { confidence, iou: 0.5, classes: None, max_detections: 100 }
}

fn options(confidence: f32) -> LaneOptions {
    LaneOptions { settings: Some(settings(confidence)), ..LaneOptions::default() }
}

/// Frame `n` of the stream that is `stream` pixels wide.
fn frame(stream: usize, n: u8) -> Frame {
    let mut picture = I420Frame::black(stream, 16);
    picture.planes_mut().0[0] = n;
    let now = Instant::now();
    let stamp = RtpTimestamp { output: u32::from(n) * 3000 + 7, source: u32::from(n) * 3000 };
    Frame {
        id: n.into(),
        rtp_timestamp: stamp,
        captured: None,
        picture: Arc::new(picture),
        ledger: FrameLedger::arrived(now, now),
    }
}

#[test]
fn a_result_carries_the_name_and_the_times_of_its_frame() {
    let stage = Stage::new(1, false);
    let lane = stage.lane("a");
    let offered = frame(32, 5);
    lane.offer(offered.clone());
    let (_, result) = stage.pass();
    assert_eq!((result.frame_id, result.rtp_timestamp), (5, offered.rtp_timestamp));
    assert_eq!(Some(result.arrived), offered.ledger.at(Mark::LastPacket));
    assert_eq!((result.width, result.height, &*result.model), (32, 16, "puppet"));
    assert_eq!(result.times.infer, Duration::from_millis(7));
    assert_eq!(result.items[0].track_id, Some(1), "the tracker named it");
    assert_eq!(stage.left_over(), 0);
}

#[test]
fn the_newest_frame_wins_and_the_skipped_are_counted() {
    let stage = Stage::new(1, false);
    let lane = stage.lane("a");
    lane.offer(frame(32, 0));
    assert_eq!(stage.entered().frame, 0);
    for n in 1..=4 {
        lane.offer(frame(32, n));
    }
    stage.order(Order::Find);
    assert_eq!(stage.result().frame_id, 0);
    assert_eq!(stage.pass().1.frame_id, 4);
    assert_eq!(lane.counters(), LaneCounters { offered: 5, passed_over: 0, skipped: 3, finished: 2, failed: 0 });
    assert_eq!(stage.left_over(), 0);
}

#[test]
fn streams_take_turns_on_a_slow_detector() {
    let stage = Stage::new(1, false);
    let lanes = [stage.lane("a"), stage.lane("b"), stage.lane("c")];
    let mut turns = Vec::new();
    for n in 0..9 {
        // The first stream is greedy: it offers all the time, the others once in a turn.
        for _ in 0..5 {
            lanes[0].offer(frame(32, n));
        }
        lanes[1].offer(frame(34, n));
        lanes[2].offer(frame(36, n));
        turns.push(stage.pass().0.stream);
    }
    for three in turns.windows(3) {
        let mut three = three.to_vec();
        three.sort_unstable();
        assert_eq!(three, [32, 34, 36], "of {turns:?}");
    }
}

#[test]
fn who_was_quiet_is_served_before_who_was_just_served() {
    let stage = Stage::new(1, false);
    let (busy, quiet) = (stage.lane("busy"), stage.lane("quiet"));
    busy.offer(frame(32, 0));
    assert_eq!(stage.entered().stream, 32);
    busy.offer(frame(32, 1));
    quiet.offer(frame(34, 0));
    stage.order(Order::Find);
    assert_eq!(stage.entered().stream, 34);
    stage.order(Order::Find);
    assert_eq!(stage.entered().stream, 32);
    stage.order(Order::Find);
}

#[test]
fn frames_of_one_stream_stay_in_order_while_streams_share_the_threads() {
    let stage = Stage::new(3, false);
    let (a, b) = (stage.lane("a"), stage.lane("b"));
    a.offer(frame(32, 0));
    let held = stage.entered();
    assert_eq!(held.stream, 32);
    // Two threads are free, and still the second frame of the stream waits for the first.
    a.offer(frame(32, 1));
    b.offer(frame(34, 0));
    assert_eq!(stage.entered().stream, 34, "another stream is served meanwhile");
    stage.order(Order::Find);
    stage.order(Order::Find);
    stage.order(Order::Find);
    let ids: Vec<_> = (0..3).map(|_| stage.result()).filter(|r| r.width == 32).map(|r| r.frame_id).collect();
    assert_eq!(ids, [0, 1]);
    assert_eq!(stage.entered().frame, 1);
}

#[test]
fn an_error_costs_its_frame_and_nothing_else() {
    let stage = Stage::new(1, false);
    let (a, b) = (stage.lane("a"), stage.lane("b"));
    a.offer(frame(32, 0));
    assert_eq!(stage.entered().detector, 0);
    b.offer(frame(34, 1));
    stage.order(Order::Fail);
    let (entry, result) = stage.pass();
    assert_eq!((entry.stream, entry.detector, result.width), (34, 0, 34), "the same detector goes on");
    assert_eq!((a.counters().failed, b.counters().failed), (1, 0));
}

#[test]
fn a_panic_costs_its_frame_and_its_detector_and_hurts_no_other_stream() {
    let stage = Stage::new(1, false);
    let (a, b) = (stage.lane("a"), stage.lane("b"));
    a.offer(frame(32, 0));
    assert_eq!(stage.entered().detector, 0);
    b.offer(frame(34, 1));
    stage.order(Order::Panic);
    let (entry, result) = stage.pass();
    assert_eq!((entry.stream, entry.detector, result.width), (34, 1, 34), "a new detector took its place");
    a.offer(frame(32, 2));
    assert_eq!(stage.pass().1.frame_id, 2);
    assert_eq!(a.counters(), LaneCounters { offered: 2, passed_over: 0, skipped: 0, finished: 1, failed: 1 });
    assert_eq!((b.counters().failed, stage.pool.stats().panics), (0, 1));
}

#[test]
fn a_panic_of_who_takes_the_results_stops_no_thread() {
    let stage = Stage::new(1, false);
    let bad = stage.pool.lane("bad".into(), options(0.5), |_| panic!("on purpose"));
    bad.offer(frame(32, 0));
    assert_eq!(stage.entered().stream, 32);
    stage.order(Order::Find);
    let good = stage.lane("good");
    good.offer(frame(34, 1));
    assert_eq!(stage.pass().1.frame_id, 1);
    bad.offer(frame(32, 2));
    assert_eq!(stage.entered(), Entry { detector: 0, stream: 32, frame: 2 }, "the lane itself lives too");
    stage.order(Order::Find);
}

#[test]
fn a_lane_dropped_in_flight_gives_no_result() {
    let stage = Stage::new(1, false);
    let (gone, stays) = (stage.lane("gone"), stage.lane("stays"));
    gone.offer(frame(32, 0));
    assert_eq!(stage.entered().stream, 32);
    gone.offer(frame(32, 1));
    drop(gone);
    assert_eq!(stage.pool.stats().lanes, 1);
    stays.offer(frame(34, 0));
    stage.order(Order::Find);
    let (entry, result) = stage.pass();
    assert_eq!((entry.stream, result.width), (34, 34), "the waiting frame went with its lane");
    assert_eq!(stage.left_over(), 0);
}

#[test]
fn a_lane_may_be_dropped_by_its_own_result() {
    let stage = Stage::new(1, false);
    let own: Arc<Mutex<Option<Lane>>> = Arc::default();
    let (place, deliver) = (Arc::clone(&own), stage.deliver.clone());
    let lane = stage.pool.lane("a".into(), options(0.5), move |result| {
        drop(lock(&place).take());
        deliver.send(result).unwrap();
    });
    lock(&own).insert(lane).offer(frame(32, 0));
    assert_eq!(stage.pass().1.frame_id, 0);
    assert_eq!(stage.pool.stats().lanes, 0);
}

#[test]
fn settings_hold_from_the_next_frame_on() {
    let stage = Stage::new(1, false);
    let lane = stage.lane("a");
    lane.offer(frame(32, 0));
    assert_eq!(stage.entered().frame, 0);
    lane.set_settings(settings(0.75));
    assert_eq!(*lane.settings(), settings(0.75));
    stage.order(Order::Find);
    assert_eq!(stage.result().items[0].confidence.to_bits(), 0.5f32.to_bits());
    lane.offer(frame(32, 1));
    assert_eq!(stage.pass().1.items[0].confidence.to_bits(), 0.75f32.to_bits());
}

#[test]
fn a_model_with_a_memory_gets_a_detector_for_each_stream() {
    let stage = Stage::new(1, true);
    let (a, b) = (stage.lane("a"), stage.lane("b"));
    let mut detectors = Vec::new();
    for (lane, stream) in [(&a, 32), (&b, 34), (&a, 32), (&b, 34)] {
        lane.offer(frame(stream, 0));
        detectors.push(stage.pass().0.detector);
    }
    assert_eq!(detectors, [0, 1, 0, 1]);
    a.offer(frame(32, 1));
    assert_eq!(stage.entered().detector, 0);
    stage.order(Order::Panic);
    a.offer(frame(32, 2));
    assert_eq!(stage.pass().0.detector, 2, "only the one that panicked is made anew");
    b.offer(frame(34, 3));
    assert_eq!(stage.pass().0.detector, 1);
}

#[test]
fn a_change_of_resolution_keeps_the_track() {
    let stage = Stage::new(1, false);
    let lane = stage.lane("a");
    // Ten times as wide, the boxes do not even touch.
    for (n, width) in [(0, 32), (1, 32), (2, 320), (3, 32)] {
        lane.offer(frame(width, n));
        assert_eq!(stage.pass().1.items[0].track_id, Some(1));
    }
}

#[test]
fn shutdown_joins_and_later_frames_are_not_looked_at() {
    let stage = Stage::new(2, false);
    let lane = stage.lane("a");
    lane.offer(frame(32, 0));
    stage.pass();
    stage.pool.shutdown();
    assert!(lock(stage.pool.inner.shared.threads()).iter().all(Option::is_none));
    assert_eq!(Arc::strong_count(&stage.pool.inner.shared), 2, "the pool's and the lane's: no thread holds it");
    lane.offer(frame(32, 1));
    stage.pool.shutdown();
    assert!(stage.entered.try_recv().is_err());
    drop(stage);
    lane.offer(frame(32, 2));
    assert_eq!(lane.counters(), LaneCounters { offered: 3, passed_over: 0, skipped: 1, finished: 1, failed: 0 });
}

#[test]
fn the_load_is_the_share_of_the_time_spent_on_frames() {
    let stats = |busy_ms, uptime_ms| PoolStats {
        workers: 2,
        working: 0,
        lanes: 0,
        frames: 0,
        panics: 0,
        overdue: 0,
        loads_overdue: 0,
        replaced: 0,
        busy: Duration::from_millis(busy_ms),
        uptime: Duration::from_millis(uptime_ms),
        last: None,
    };
    assert!((stats(1500, 3000).load_since(&stats(500, 2000)) - 0.5).abs() < 1e-9);
    assert!(stats(1500, 3000).load_since(&stats(1500, 3000)).abs() < 1e-9);
}

#[test]
fn a_real_detector_works_through_the_pool() {
    let pool = Pools::start(Model::motion(), &Config::default()).unwrap();
    let (deliver, results) = channel();
    let lane = pool.lane("cam".into(), options(0.2), move |result| deliver.send(result).unwrap());
    let mut found = Vec::new();
    for n in 0..30usize {
        let mut picture = I420Frame::black(320, 240);
        for row in picture.planes_mut().0.chunks_exact_mut(320).skip(100).take(40) {
            row[n * 8..n * 8 + 40].fill(220);
        }
        let now = Instant::now();
        lane.offer(Frame {
            id: n as u64,
            rtp_timestamp: RtpTimestamp::default(),
            captured: None,
            picture: Arc::new(picture),
            ledger: FrameLedger::arrived(now, now),
        });
        found.push(results.recv_timeout(PATIENCE).unwrap());
    }
    let last = found.last().unwrap();
    assert_eq!(last.items.len(), 1);
    assert!(last.items[0].bbox.iou(&BBox::new(232.0, 100.0, 272.0, 140.0)) > 0.5, "{last:?}");
    assert_eq!(&*last.model, "motion");
    assert!(last.items[0].track_id.is_some());
}

#[test]
fn the_turns_go_by_the_priority_which_may_change() {
    let stage = Stage::new(1, false);
    let (high, low) = (stage.lane("high"), stage.lane("low"));
    low.set_priority(Priority::new(3).unwrap());
    assert_eq!((high.priority().number(), low.priority().number()), (1, 3));
    let turns = |rounds: u8| {
        let mut of_low = 0;
        for n in 0..rounds {
            high.offer(frame(32, n));
            low.offer(frame(34, n));
            of_low += usize::from(stage.pass().0.stream == 34);
        }
        of_low
    };
    // The thread may begin with the frame that waits, before the next two are there: a turn more or less is none of the share's.
    let before = turns(40);
    assert!((9..=12).contains(&before), "{before}");
    low.set_priority(Priority::HIGHEST);
    let after = turns(40);
    assert!((17..=21).contains(&after), "{after}");
}

#[test]
fn only_what_stands_in_the_zone_counts_and_keeps_its_track() {
    let stage = Stage::new(1, false);
    let lane = stage.lane("a");
    let mut seen = Vec::new();
    // The puppet's object stands at 3/8 of the width and 9/16 of the height.
    let left = Zone::new(&[[0.0, 0.0], [0.5, 0.0], [0.5, 1.0], [0.0, 1.0]]).unwrap();
    let above = Zone::new(&[[0.0, 0.0], [1.0, 0.0], [1.0, 0.5]]).unwrap();
    for (n, zone) in [(0, None), (1, left.clone()), (2, above), (3, left.clone())] {
        lane.set_zone(zone.clone());
        assert_eq!(lane.zone(), zone);
        lane.offer(frame(32, n));
        seen.push(stage.pass().1.items.iter().map(|item| item.track_id).collect::<Vec<_>>());
    }
    assert_eq!(seen, [vec![Some(1)], vec![Some(1)], vec![], vec![Some(1)]]);
}

/// Waits for what a thread that nobody hears of does next.
fn until(what: &str, mut state: impl FnMut() -> bool) {
    let started = Instant::now();
    while !state() {
        assert!(started.elapsed() < PATIENCE, "{what}");
        thread::sleep(Duration::from_millis(2));
    }
}

#[path = "batch_tests.rs"]
mod batch;

#[path = "pools_deadline_tests.rs"]
mod deadlines;

#[path = "pools_models_tests.rs"]
mod models;
