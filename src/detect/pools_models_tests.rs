//! Models that are loaded beside the configured one.

use super::*;

/// Other models, loaded when the test says so.
struct Store {
    asked: Receiver<String>,
    answers: Sender<Answer>,
    /// Detectors of other models that live.
    alive: Arc<AtomicU64>,
}

enum Answer {
    Here,
    Nothing,
    Panic,
}

/// A detector that finds nothing, at once, and counts itself.
struct Blind(Arc<AtomicU64>);

impl Detector for Blind {
    fn detect(&mut self, _: Picture<'_>, _: &Settings) -> Result<Found, DetectError> {
        Ok(Found::default())
    }
}

impl Drop for Blind {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn store(workers: usize) -> (Stage, Store) {
    let ((asked_in, asked), (answers, answers_out)) = (channel(), channel());
    let alive = Arc::new(AtomicU64::new(0));
    let (count, answers_out) = (Arc::clone(&alive), Mutex::new(answers_out));
    let stage = Stage::with(workers, false, move |config| {
        asked_in.send(config.model.clone()).unwrap();
        match lock(&answers_out).recv_timeout(PATIENCE).unwrap() {
            Answer::Here => {}
            Answer::Nothing => return Err(DetectError::Frame("it is not there".into())),
            Answer::Panic => panic!("on purpose"),
        }
        let info = ModelInfo { name: (&*config.model).into(), confidence: 0.25, ..Model::motion().info().clone() };
        let count = Arc::clone(&count);
        Ok(Model::new(info, false, move || {
            count.fetch_add(1, Ordering::SeqCst);
            Ok(Box::new(Blind(Arc::clone(&count))))
        }))
    });
    (stage, Store { asked, answers, alive })
}

impl Store {
    fn asked(&self) -> String {
        self.asked.recv_timeout(PATIENCE).unwrap()
    }

    fn answer(&self, answer: Answer) {
        self.answers.send(answer).unwrap();
    }
}

impl Stage {
    fn other(&self, stream: &str, model: &str) -> Lane {
        let deliver = self.deliver.clone();
        let options = LaneOptions { model: Some(model.into()), ..LaneOptions::default() };
        self.pool.lane(stream.into(), options, move |result| deliver.send(result).unwrap())
    }
}

#[test]
fn another_model_is_loaded_beside_the_others_way_and_goes_with_its_last_lane() {
    let (stage, store) = store(2);
    let (usual, other) = (stage.lane("usual"), stage.other("other", "b"));
    assert_eq!(store.asked(), "b");
    assert!(matches!(other.model(), LaneModel::Loading) && other.labels().is_empty());
    assert!(stage.pool.info().iter().any(|info| info.model == "b" && info.loading));
    other.offer(frame(34, 1));
    other.offer(frame(34, 2));
    usual.offer(frame(32, 0));
    assert_eq!(&*stage.pass().1.model, "puppet", "the others go on meanwhile");
    store.answer(Answer::Here);
    let first = stage.result();
    assert_eq!((&*first.model, first.frame_id), ("b", 2), "the newest waited");
    assert!(matches!(other.model(), LaneModel::Ready(info) if &*info.name == "b"));
    assert_eq!(other.settings().confidence.to_bits(), 0.25f32.to_bits(), "its own threshold");
    until("the frame is counted", || stage.pool.info().iter().any(|info| info.model == "b" && info.frames == 1));
    let info = stage.pool.info();
    let of = |name: &str| info.iter().find(|info| info.model == name).unwrap();
    assert_eq!((of("puppet").default, of("puppet").lanes, of("puppet").detectors), (true, 1, 2));
    assert_eq!((of("b").default, of("b").lanes, of("b").detectors, of("b").frames), (false, 1, 1, 1));

    // The same for whoever else asks, with one more detector, and no more than there are threads.
    let second = stage.other("second", "b");
    let third = stage.other("third", "b");
    for (lane, width) in [(&second, 36), (&third, 38)] {
        lane.offer(frame(width, 0));
        assert_eq!((stage.result().width, store.alive.load(Ordering::SeqCst)), (width as u32, 2));
    }
    assert!(store.asked.try_recv().is_err(), "it was loaded once");
    drop((other, second));
    assert_eq!(stage.pool.info().len(), 2);
    drop(third);
    // A thread may be about to put its detector back.
    until("its detectors are gone", || store.alive.load(Ordering::SeqCst) == 0);
    assert_eq!(stage.pool.info().len(), 1, "and the configured model stays");
    assert_eq!(stage.left_over(), 0);
}

#[test]
fn a_model_that_cannot_be_loaded_is_an_error_of_its_stream_alone() {
    let (stage, store) = store(1);
    let (usual, bad) = (stage.lane("usual"), stage.other("bad", "b"));
    for (answer, said) in [(Answer::Nothing, "it is not there"), (Answer::Panic, "on purpose")] {
        let worse = stage.other("worse", "b");
        worse.offer(frame(34, 0));
        assert_eq!(store.asked(), "b");
        store.answer(answer);
        until("the load has failed", || matches!(worse.model(), LaneModel::Failed(_)));
        let LaneModel::Failed(reason) = worse.model() else { unreachable!() };
        assert!(reason.contains(said), "{reason}");
        worse.offer(frame(34, 1));
        assert_eq!(worse.counters(), LaneCounters { offered: 2, passed_over: 0, skipped: 0, finished: 0, failed: 2 });
        usual.offer(frame(32, 0));
        stage.pass();
    }
    assert!(matches!(bad.model(), LaneModel::Failed(_)), "whoever waited for it hears too");
    assert_eq!((stage.pool.info().len(), stage.left_over()), (1, 0));
}

#[test]
fn the_default_models_name_is_no_other_model() {
    let (stage, store) = store(1);
    let lane = stage.other("a", "puppet");
    lane.offer(frame(32, 0));
    assert_eq!(&*stage.pass().1.model, "puppet");
    assert!(store.asked.try_recv().is_err());
}

#[test]
fn a_lane_that_goes_while_its_model_is_loaded_leaves_nothing() {
    let (stage, store) = store(1);
    let lane = stage.other("a", "b");
    assert_eq!(store.asked(), "b");
    lane.offer(frame(32, 0));
    drop(lane);
    store.answer(Answer::Here);
    until("the model is gone", || stage.pool.info().len() == 1 && store.alive.load(Ordering::SeqCst) == 0);
    assert_eq!((stage.pool.stats().lanes, stage.left_over()), (0, 0));
}

/// A stream of a cascade of these two models.
fn in_a_row(stage: &Stage, first: &str, second: &str) -> Lane {
    let cascade = Cascade { sampling: None, first: first.into(), classes: Vec::new(), second: Some(second.into()) };
    let options = LaneOptions { cascade: Some(cascade), ..LaneOptions::default() };
    stage.pool.lane("cascade".into(), options, |_| {})
}

#[test]
fn a_cascade_takes_the_models_that_are_in_use_and_loads_the_others() {
    let (stage, store) = store(1);
    let alone = stage.other("alone", "b");
    assert_eq!(store.asked(), "b");
    store.answer(Answer::Here);
    until("it is there", || matches!(alone.model(), LaneModel::Ready(_)));
    // The configured model and one that a stream has.
    let lane = in_a_row(&stage, "puppet", "b");
    until("it is there", || matches!(lane.model(), LaneModel::Ready(info) if &*info.name == "puppet+b"));
    let another = in_a_row(&stage, "b", "c");
    assert_eq!(store.asked(), "c");
    store.answer(Answer::Here);
    until("it is there", || matches!(another.model(), LaneModel::Ready(info) if &*info.name == "b+c"));
    let twice = in_a_row(&stage, "d", "d");
    assert_eq!(store.asked(), "d");
    store.answer(Answer::Here);
    until("it is there", || matches!(twice.model(), LaneModel::Ready(info) if &*info.name == "d+d"));
    assert!(store.asked.try_recv().is_err(), "no other was loaded");
}

#[test]
fn another_file_for_one_of_its_models_makes_a_cascade_anew() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("b.onnx");
    std::fs::write(&file, brightness(1)).unwrap();
    let models_dir = folder.path().to_path_buf();
    let config = Config { model: "motion".into(), models_dir, workers: Some(1), ..Config::default() };
    let pool = Pools::start(Model::motion(), &config).unwrap();
    let cascade = Cascade { sampling: None, first: "b".into(), classes: Vec::new(), second: None };
    let options = LaneOptions { cascade: Some(cascade), settings: Some(settings(0.0)), ..LaneOptions::default() };
    let (deliver, results) = channel();
    let lane = pool.lane("a".into(), options, move |result| drop(deliver.send(result)));
    until("it is there", || matches!(lane.model(), LaneModel::Ready(_)));
    std::fs::write(&file, "no model").unwrap();
    let changed = || {
        let mut changes = Vec::new();
        until("the change is seen", || {
            changes = pool.look();
            !changes.is_empty()
        });
        changes.remove(0)
    };
    assert!(matches!(changed().outcome, Err(DetectError::Unusable { .. })));
    // The old one stays at work.
    lane.offer(frame(32, 0));
    assert_eq!(&*results.recv_timeout(PATIENCE).unwrap().model, "b");
    std::fs::write(&file, brightness(-1)).unwrap();
    let change = changed();
    assert!(change.outcome.is_ok() && change.model.starts_with("b ["), "{change:?}");
    lane.offer(frame(32, 1));
    assert_eq!(&*results.recv_timeout(PATIENCE).unwrap().model, "b");
    assert_eq!(lane.counters().failed, 0);
}
