//! Several streams in one run of a model.

use super::*;

/// A detector that is given several pictures at once, reports their widths, and waits for one order for all.
struct Crowd {
    entered: Sender<Vec<usize>>,
    orders: Arc<Mutex<Receiver<Order>>>,
}

/// A picture of this width is a bad one.
const BAD: usize = 66;

impl Crowd {
    fn look(&mut self, pictures: &[(Picture<'_>, &Settings)]) -> Vec<Result<Found, DetectError>> {
        let widths: Vec<_> = pictures.iter().map(|(picture, _)| picture.size().0).collect();
        self.entered.send(widths.clone()).unwrap();
        match lock(&self.orders).recv_timeout(PATIENCE) {
            Ok(Order::Panic) => panic!("told to"),
            Ok(Order::Fail) => return Vec::new(),
            _ => {}
        }
        let infer = Duration::from_millis(12);
        let one = |width: usize| match width {
            BAD => Err(DetectError::Frame("a bad picture".into())),
            _ => Ok(Found { infer, shared_by: pictures.len(), ..Found::default() }),
        };
        widths.into_iter().map(one).collect()
    }
}

impl Detector for Crowd {
    fn detect(&mut self, picture: Picture<'_>, settings: &Settings) -> Result<Found, DetectError> {
        self.look(&[(picture, settings)]).pop().unwrap_or(Err(DetectError::Frame("told to".into())))
    }

    fn detect_batch(&mut self, pictures: &[(Picture<'_>, &Settings)]) -> Vec<Result<Found, DetectError>> {
        self.look(pictures)
    }
}

struct Hall {
    orders: Sender<Order>,
    pool: Arc<Pools>,
    entered: Receiver<Vec<usize>>,
    results: Receiver<Arc<Detections>>,
    deliver: Sender<Arc<Detections>>,
}

impl Hall {
    fn new(batch: usize) -> Self {
        let (entered_in, entered) = channel();
        let (orders, orders_out) = channel();
        let (deliver, results) = channel();
        let orders_out = Arc::new(Mutex::new(orders_out));
        let model = Model::new(Model::motion().info().clone(), false, move || {
            Ok(Box::new(Crowd { entered: entered_in.clone(), orders: Arc::clone(&orders_out) }))
        });
        let config = Config { workers: Some(1), deadline_ms: 600_000, ..Config::default() };
        let load = |_: &Config| Err(DetectError::Frame("no other model here".into()));
        Self {
            pool: Pools::start_with(model.with_batch(batch), &config, load).unwrap(),
            orders,
            entered,
            results,
            deliver,
        }
    }

    /// Lanes with a frame each that wait while the pool is at another's, which is then let go, and is the last of them.
    fn waiting(&self, widths: &[usize]) -> Vec<Lane> {
        let lane = |_: usize| {
            let deliver = self.deliver.clone();
            self.pool.lane("a".into(), options(0.5), move |result| drop(deliver.send(result)))
        };
        let first = lane(30);
        first.offer(frame(30, 0));
        assert_eq!(self.entered(), [30], "who is alone waits for nobody");
        let mut lanes: Vec<_> = widths.iter().map(|&width| lane(width)).collect();
        for (lane, &width) in lanes.iter().zip(widths) {
            lane.offer(frame(width, 1));
        }
        self.orders.send(Order::Find).unwrap();
        assert_eq!(self.results.recv_timeout(PATIENCE).unwrap().width, 30);
        lanes.push(first);
        lanes
    }

    fn entered(&self) -> Vec<usize> {
        self.entered.recv_timeout(PATIENCE).unwrap()
    }

    /// The widths of the next so many results.
    fn results(&self, count: usize) -> Vec<u32> {
        (0..count).map(|_| self.results.recv_timeout(PATIENCE).unwrap().width).collect()
    }
}

#[test]
fn lanes_that_wait_are_looked_at_together_up_to_the_limit() {
    let hall = Hall::new(4);
    let _lanes = hall.waiting(&[32, 34, 36, 38, 40, 42]);
    assert_eq!(hall.entered(), [32, 34, 36, 38]);
    hall.orders.send(Order::Find).unwrap();
    assert_eq!(hall.entered(), [40, 42]);
    hall.orders.send(Order::Find).unwrap();
    assert_eq!(hall.results(6), [32, 34, 36, 38, 40, 42]);
    let info = &hall.pool.info()[0];
    assert_eq!((info.frames, info.batched, info.failed), (7, 6, 0));
}

#[test]
fn a_model_without_batches_looks_at_one_at_a_time() {
    let hall = Hall::new(1);
    let _lanes = hall.waiting(&[32, 34]);
    assert_eq!(hall.entered(), [32]);
    hall.orders.send(Order::Find).unwrap();
    assert_eq!(hall.entered(), [34]);
    hall.orders.send(Order::Find).unwrap();
    assert_eq!(hall.results(2), [32, 34]);
}

#[test]
fn a_bad_picture_in_a_batch_costs_its_own_stream_alone() {
    let hall = Hall::new(4);
    let lanes = hall.waiting(&[32, BAD, 36]);
    assert_eq!(hall.entered(), [32, BAD, 36]);
    hall.orders.send(Order::Find).unwrap();
    assert_eq!(hall.results(2), [32, 36]);
    until("all are counted", || lanes.iter().all(|lane| lane.counters().failed + lane.counters().finished == 1));
    let failed: Vec<_> = lanes.iter().map(|lane| lane.counters().failed).collect();
    assert_eq!(failed, [0, 1, 0, 0]);
}

#[test]
fn a_batch_that_fails_as_a_whole_is_looked_at_one_by_one() {
    for order in [Order::Panic, Order::Fail] {
        let hall = Hall::new(4);
        let lanes = hall.waiting(&[32, 34]);
        assert_eq!(hall.entered(), [32, 34]);
        hall.orders.send(order).unwrap();
        for width in [32, 34] {
            assert_eq!(hall.entered(), [width]);
            hall.orders.send(Order::Find).unwrap();
        }
        assert_eq!(hall.results(2), [32, 34]);
        assert!(lanes.iter().all(|lane| lane.counters().failed == 0));
    }
}

#[test]
fn who_takes_a_result_of_a_batch_and_panics_costs_no_other() {
    let hall = Hall::new(4);
    let bad = hall.pool.lane("bad".into(), options(0.5), |_| panic!("on purpose"));
    let deliver = hall.deliver.clone();
    let good = hall.pool.lane("good".into(), options(0.5), move |result| drop(deliver.send(result)));
    let _lanes = {
        let lanes = hall.waiting(&[]);
        bad.offer(frame(32, 1));
        assert_eq!(hall.entered(), [32]);
        bad.offer(frame(32, 2));
        good.offer(frame(34, 1));
        hall.orders.send(Order::Find).unwrap();
        lanes
    };
    let mut together = hall.entered();
    together.sort_unstable();
    assert_eq!(together, [32, 34]);
    hall.orders.send(Order::Find).unwrap();
    assert_eq!(hall.results(1), [34]);
}
