//! What takes too long: a look at a picture, and a model's loading.

use super::*;

/// Hangs at the first picture: until it is ended if it `heeds` that, else until the test lets it go.
struct Hanging {
    heeds: bool,
    hangs: bool,
    end: Arc<(Mutex<bool>, Condvar)>,
    go: Arc<Mutex<Receiver<()>>>,
}

impl Detector for Hanging {
    fn detect(&mut self, _: Picture<'_>, _: &Settings) -> Result<Found, DetectError> {
        if self.hangs && self.heeds {
            let (ended, changed) = &*self.end;
            drop(changed.wait_while(lock(ended), |ended| !*ended).unwrap());
            return Err(DetectError::Frame("ended".into()));
        }
        if self.hangs {
            let _ = lock(&self.go).recv_timeout(PATIENCE);
        }
        Ok(Found::default())
    }

    fn stopper(&self) -> Option<Stopper> {
        let end = Arc::clone(&self.end);
        self.heeds.then(|| {
            Arc::new(move || {
                *lock(&end.0) = true;
                end.1.notify_all();
            }) as Stopper
        })
    }
}

/// A pool of one thread whose first detector hangs, what lets go of it, and how many detectors were made.
fn hanging(heeds: bool) -> (Arc<Pools>, Sender<()>, Arc<AtomicU64>) {
    let (let_go, go) = channel();
    let (go, made) = (Arc::new(Mutex::new(go)), Arc::new(AtomicU64::new(0)));
    let count = Arc::clone(&made);
    let model = Model::new(Model::motion().info().clone(), false, move || {
        let hangs = count.fetch_add(1, Ordering::SeqCst) == 0;
        Ok(Box::new(Hanging { heeds, hangs, end: Arc::default(), go: Arc::clone(&go) }))
    });
    let config = Config { workers: Some(1), deadline_ms: 100, ..Config::default() };
    (Pools::start(model, &config).unwrap(), let_go, made)
}

#[test]
fn a_detector_past_its_deadline_is_ended_counted_and_replaced() {
    let (pool, _go, made) = hanging(true);
    let (deliver, results) = channel();
    let lane = pool.lane("a".into(), options(0.5), move |result| deliver.send(result).unwrap());
    lane.offer(frame(32, 0));
    until("the frame has failed", || lane.counters().failed == 1);
    lane.offer(frame(32, 1));
    assert_eq!(results.recv_timeout(PATIENCE).unwrap().frame_id, 1);
    let stats = pool.stats();
    assert_eq!((stats.overdue, stats.replaced, made.load(Ordering::SeqCst)), (1, 0, 2));
    let info = &pool.info()[0];
    assert_eq!((info.overdue, info.failed, info.detectors), (1, 1, 1));
}

#[test]
fn a_detector_that_does_not_end_costs_its_thread_and_no_other_stream() {
    let (pool, go, made) = hanging(false);
    let (deliver, results) = channel();
    let lanes = ["a", "b"].map(|name| {
        let deliver = deliver.clone();
        pool.lane(name.into(), options(0.5), move |result| deliver.send(result).unwrap())
    });
    lanes[0].offer(frame(32, 0));
    until("the frame is in work", || pool.stats().working == 1);
    lanes[1].offer(frame(34, 7));
    assert_eq!(results.recv_timeout(PATIENCE).unwrap().frame_id, 7, "on a new thread");
    assert_eq!((pool.stats().overdue, pool.stats().replaced), (1, 1));
    assert_eq!(lanes[0].counters().failed, 1);
    lanes[0].offer(frame(32, 1));
    assert_eq!(results.recv_timeout(PATIENCE).unwrap().frame_id, 1, "the lane itself goes on");
    go.send(()).unwrap();
    until("the old thread is gone", || pool.stats().working == 0);
    pool.shutdown();
    drop((lanes, deliver));
    assert!(results.recv_timeout(PATIENCE).is_err(), "what it found late is nobody's");
    assert_eq!(made.load(Ordering::SeqCst), 2);
}

#[test]
fn a_shutdown_does_not_wait_for_a_detector_that_hangs() {
    for heeds in [true, false] {
        let (pool, _go, _) = hanging(heeds);
        let lane = pool.lane("a".into(), options(0.5), |_| {});
        lane.offer(frame(32, 0));
        until("the frame is in work", || pool.stats().working == 1);
        pool.shutdown();
        drop(lane);
    }
}

/// A pool whose other models do not come before the sender goes; the sender.
fn never_loaded(load_deadline_ms: u64) -> (Arc<Pools>, Sender<()>) {
    let (go, wait) = channel::<()>();
    let wait = Mutex::new(wait);
    let config = Config { load_deadline_ms, model: "motion".into(), workers: Some(1), ..Config::default() };
    let pool = Pools::start_with(Model::motion(), &config, move |_| {
        let _ = lock(&wait).recv();
        Ok(Model::motion())
    });
    (pool.unwrap(), go)
}

#[test]
fn a_model_whose_loading_hangs_is_given_up_counted_and_costs_its_own_stream_alone() {
    let (pool, _go) = never_loaded(50);
    let (deliver, results) = channel();
    let usual = pool.lane("usual".into(), options(0.5), move |result| drop(deliver.send(result)));
    let other = LaneOptions { model: Some("b".into()), ..LaneOptions::default() };
    let lane = pool.lane("a".into(), other, |_| {});
    usual.offer(frame(32, 0));
    results.recv_timeout(PATIENCE).unwrap();
    until("it is given up", || matches!(lane.model(), LaneModel::Failed(_)));
    let LaneModel::Failed(reason) = lane.model() else { unreachable!() };
    assert!(reason.contains("`b` was not loaded within"), "{reason}");
    assert_eq!(pool.stats().loads_overdue, 1);
    usual.offer(frame(32, 1));
    results.recv_timeout(PATIENCE).unwrap();
}

#[test]
fn detectors_that_do_not_come_refuse_the_start() {
    let (go, wait) = channel::<()>();
    let wait = Mutex::new(wait);
    let model = Model::new(Model::motion().info().clone(), false, move || {
        let _ = lock(&wait).recv();
        Err(DetectError::Frame("the test is over".into()))
    });
    let error = Pools::start(model, &Config { load_deadline_ms: 50, ..Config::default() }).unwrap_err();
    assert!(matches!(error, DetectError::Overdue { .. }), "{error}");
    drop(go);
}

/// A pool whose configured model, a file, finds how bright a picture is; and the file.
fn bright(folder: &tempfile::TempDir) -> (Arc<Pools>, std::path::PathBuf) {
    let file = folder.path().join("bright.onnx");
    std::fs::write(&file, brightness(1)).unwrap();
    let models_dir = folder.path().to_path_buf();
    let config = Config { model: "bright".into(), models_dir, workers: Some(1), ..Config::default() };
    // Only what comes later has to hurry: the tests share their machine.
    let model = Model::load(&config).unwrap();
    (Pools::start(model, &Config { load_deadline_ms: 1000, ..config }).unwrap(), file)
}

#[test]
fn a_new_file_without_end_leaves_the_old_model_at_work() {
    let folder = tempfile::tempdir().unwrap();
    let (pool, file) = bright(&folder);
    let mut upload = pool.upload("bright").unwrap();
    upload.write(&endless_brightness()).unwrap();
    let error = pool.replace(upload, None).unwrap_err().to_string();
    assert!(error.contains("was not loaded within 1 s"), "{error}");
    assert_eq!(std::fs::read(&file).unwrap(), brightness(1), "nothing was stored");

    // The same of a file that somebody put there.
    std::fs::write(&file, endless_brightness()).unwrap();
    let mut changes = Vec::new();
    until("the change is seen", || {
        changes = pool.look();
        !changes.is_empty()
    });
    let error = changes[0].outcome.as_ref().unwrap_err();
    assert!(matches!(error, DetectError::Overdue { .. }), "{error}");
    assert_eq!(pool.refused().len(), 1);

    let (deliver, results) = channel();
    let lane = pool.lane("a".into(), options(0.0), move |result| drop(deliver.send(result)));
    lane.offer(frame(32, 0));
    assert_eq!(&*results.recv_timeout(PATIENCE).unwrap().model, "bright");
    assert_eq!((lane.counters().failed, lane.counters().finished), (0, 1));
}
