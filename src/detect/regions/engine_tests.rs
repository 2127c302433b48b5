use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::RegionConfig;
use super::*;
use crate::media::BBox;

const FRAME: Duration = Duration::from_millis(33);

/// The middle of the picture, and an upwards line in its middle.
fn regions(dwell_s: Option<f32>) -> RegionSet {
    let polygon = vec![[0.3, 0.3], [0.7, 0.3], [0.7, 0.7], [0.3, 0.7]];
    let room = RegionConfig { polygon, dwell_s, ..RegionConfig::default() };
    let line = RegionConfig { line: vec![[0.5, 0.9], [0.5, 0.1]], ..RegionConfig::default() };
    RegionSet::new(&BTreeMap::from([("line".to_owned(), line), ("room".to_owned(), room)])).unwrap()
}

fn object(track_id: u64, [x, y]: [f32; 2]) -> Detection {
    let (x, y) = (x * 1000.0, y * 1000.0);
    Detection {
        bbox: BBox::new(x - 10.0, y - 40.0, x + 10.0, y),
        confidence: 0.9,
        class_name: "person".into(),
        track_id: Some(track_id),
        ..Detection::default()
    }
}

struct Scene {
    engine: Engine,
    now: Instant,
}

impl Scene {
    fn new(dwell_s: Option<f32>) -> Self {
        Self { engine: Engine::new(&regions(dwell_s)), now: Instant::now() }
    }

    fn show(&mut self, items: &[Detection]) -> Vec<RegionEvent> {
        self.now += FRAME;
        self.engine.update(self.now, 1000.0, 1000.0, items)
    }

    /// What an object does on its way, a hundredth of the picture a frame.
    fn walk(&mut self, track_id: u64, from: [f32; 2], to: [f32; 2]) -> Vec<String> {
        let steps = ((to[0] - from[0]).hypot(to[1] - from[1]) * 100.0).ceil().max(1.0);
        let mut said = Vec::new();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        for step in 0..=steps as u16 {
            let share = f32::from(step) / steps;
            let at = [from[0] + (to[0] - from[0]) * share, from[1] + (to[1] - from[1]) * share];
            said.extend(self.show(&[object(track_id, at)]).iter().map(words));
        }
        said
    }

    fn count(&self, region: &str) -> RegionCount {
        self.engine.counts().find(|(name, _)| &***name == region).unwrap().1.clone()
    }
}

fn words(event: &RegionEvent) -> String {
    let direction = event.direction.map_or("", Direction::name);
    format!("{} {} {direction}", event.kind.name(), event.region).trim().to_owned()
}

#[test]
fn who_the_tracker_remembers_has_not_left() {
    let mut engine = Engine::new(&regions(None));
    engine.remember(Duration::from_secs(5));
    let (now, inside) = (Instant::now(), [object(1, [0.5, 0.5])]);
    let after = |seconds: u64| now + Duration::from_secs(seconds);
    assert_eq!(engine.update(now, 1000.0, 1000.0, &inside).len(), 1);
    assert_eq!(engine.update(after(2), 1000.0, 1000.0, &[]), []);
    assert_eq!(engine.update(after(4), 1000.0, 1000.0, &inside), []);
    assert_eq!(engine.update(after(10), 1000.0, 1000.0, &[]).len(), 1, "now it has left");
}

#[test]
fn who_walks_through_enters_crosses_and_leaves() {
    let mut scene = Scene::new(None);
    let said = scene.walk(1, [0.1, 0.5], [0.9, 0.5]);
    assert_eq!(said, ["enter room", "cross line left_to_right", "leave room"]);
    assert_eq!(scene.walk(1, [0.9, 0.5], [0.1, 0.5]), ["enter room", "cross line right_to_left", "leave room"]);
    let (room, line) = (scene.count("room"), scene.count("line"));
    assert_eq!((room.enters, room.leaves, room.inside), (2, 2, 0));
    assert_eq!((line.left_to_right, line.right_to_left), (1, 1));
}

#[test]
fn who_goes_round_the_line_has_not_crossed_it() {
    let mut scene = Scene::new(None);
    let mut said = scene.walk(1, [0.1, 0.05], [0.9, 0.05]);
    said.extend(scene.walk(1, [0.9, 0.05], [0.9, 0.2]));
    assert_eq!(said, Vec::<String>::new());
    assert_eq!(scene.walk(1, [0.9, 0.2], [0.1, 0.2]), ["cross line right_to_left"]);
}

#[test]
fn who_stays_is_told_of_once_and_again_after_coming_back() {
    let mut scene = Scene::new(Some(2.0));
    assert_eq!(scene.walk(1, [0.1, 0.4], [0.4, 0.4]), ["enter room"]);
    let mut told = Vec::new();
    for _ in 0..120 {
        told.extend(scene.show(&[object(1, [0.4, 0.4])]));
    }
    assert_eq!(told.iter().map(words).collect::<Vec<_>>(), ["dwell room"]);
    assert!((2.0..2.2).contains(&told[0].dwell_s.unwrap()), "{told:?}");
    assert_eq!(scene.walk(1, [0.4, 0.4], [0.1, 0.4]), ["leave room"]);
    assert_eq!(scene.walk(1, [0.1, 0.4], [0.4, 0.4]), ["enter room"]);
    let again = (0..120).flat_map(|_| scene.show(&[object(1, [0.4, 0.4])])).count();
    assert_eq!((again, scene.count("room").dwells), (1, 2));
}

#[test]
fn who_vanishes_inside_leaves_after_a_while_and_not_before() {
    let mut scene = Scene::new(None);
    assert_eq!(scene.walk(7, [0.1, 0.4], [0.4, 0.4]), ["enter room"]);
    let gone = scene.now;
    let left = loop {
        let events = scene.show(&[]);
        if !events.is_empty() {
            break events;
        }
        assert!(scene.now - gone < Duration::from_secs(5));
    };
    assert!(scene.now - gone > FORGOTTEN);
    assert_eq!(left.iter().map(words).collect::<Vec<_>>(), ["leave room"]);
    assert_eq!((left[0].track_id, left[0].count), (7, Some(0)));
    // A gap that the tracker bridges is none.
    assert_eq!(scene.walk(8, [0.1, 0.4], [0.4, 0.4]), ["enter room"]);
    let bridged = (0..20).flat_map(|_| scene.show(&[])).count();
    assert_eq!(bridged + scene.show(&[object(8, [0.4, 0.4])]).len(), 0);
}

#[test]
fn who_stands_just_inside_has_entered_after_a_second() {
    let mut scene = Scene::new(None);
    let mut entered = None;
    let start = scene.now;
    for _ in 0..60 {
        if !scene.show(&[object(1, [0.305, 0.4])]).is_empty() {
            entered.get_or_insert(scene.now - start);
        }
    }
    assert!(entered.is_some_and(|after| after > Duration::from_secs(1) && after < Duration::from_millis(1200)));
}

#[test]
fn regions_of_a_class_are_for_that_class() {
    let polygon = vec![[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]];
    let config = RegionConfig { polygon, classes: vec!["car".to_owned()], ..RegionConfig::default() };
    let set = RegionSet::new(&BTreeMap::from([("road".to_owned(), config)])).unwrap();
    let mut engine = Engine::new(&set);
    assert_eq!(engine.update(Instant::now(), 1000.0, 1000.0, &[object(1, [0.5, 0.5])]), []);
    let car = Detection { class_name: "car".into(), ..object(2, [0.5, 0.5]) };
    assert_eq!(engine.update(Instant::now(), 1000.0, 1000.0, &[car]).len(), 1);
}

#[test]
fn a_region_that_stays_as_it_is_keeps_its_counts() {
    let mut scene = Scene::new(None);
    scene.walk(1, [0.1, 0.4], [0.4, 0.4]);
    scene.engine.set(&regions(None));
    assert_eq!(scene.count("room").inside, 1);
    scene.engine.set(&regions(Some(9.0)));
    assert_eq!(scene.count("room").inside, 0, "another region under the same name");
}

/// Objects that walk about, vanish and come back under another name.
fn walks() -> impl Strategy<Value = Vec<Vec<(u64, [f32; 2])>>> {
    let step = (0u64..5, prop::array::uniform2(0f32..=1.0));
    prop::collection::vec(prop::collection::vec(step, 0..5), 1..150)
}

proptest! {
    #[test]
    fn counts_are_conserved(walks in walks(), dwell in prop::option::of(0.1f32..2.0), gap in 10u64..900) {
        let mut engine = Engine::new(&regions(dwell));
        let mut now = Instant::now();
        let mut told: BTreeMap<&str, u64> = BTreeMap::new();
        for items in walks {
            now += Duration::from_millis(gap);
            let items: Vec<_> = items.into_iter().map(|(id, at)| object(id, at)).collect();
            for event in engine.update(now, 1000.0, 1000.0, &items) {
                *told.entry(event.kind.name()).or_default() += 1;
                prop_assert_eq!(event.direction.is_some(), event.kind == RegionEventKind::Cross);
            }
            let room = engine.counts().find(|(name, _)| &***name == "room").unwrap().1;
            prop_assert_eq!(room.enters - room.leaves, room.inside);
            prop_assert!(room.inside <= 5 && room.dwells <= room.enters);
            prop_assert_eq!(told.get("enter").copied().unwrap_or(0), room.enters);
            prop_assert_eq!(told.get("leave").copied().unwrap_or(0), room.leaves);
        }
        // All are gone in the end.
        now += FORGOTTEN + FRAME;
        engine.update(now, 1000.0, 1000.0, &[]);
        let room = engine.counts().find(|(name, _)| &***name == "room").unwrap().1;
        prop_assert_eq!((room.inside, room.enters), (0, room.leaves));
    }

    #[test]
    fn jitter_on_an_edge_is_no_flood(
        jitter in prop::collection::vec(-0.015f32..0.015, 300), along in 0.35f32..0.65, interval in 10u64..200,
    ) {
        // On the room's left edge, and on the line.
        for edge in [0.3, 0.5] {
            let mut engine = Engine::new(&regions(None));
            let (mut now, mut events) = (Instant::now(), Vec::new());
            for by in &jitter {
                now += Duration::from_millis(interval);
                events.extend(engine.update(now, 1000.0, 1000.0, &[object(1, [edge + by, along])]));
            }
            // A second without a break on the other side takes at least five pictures in a row there.
            let most = jitter.len() as u64 * interval / 1000 + 2;
            prop_assert!(events.len() as u64 <= most, "{} events", events.len());
            if interval < 60 {
                prop_assert!(events.len() <= 2, "{} events", events.len());
            }
        }
    }

    #[test]
    fn no_input_panics(
        boxes in prop::collection::vec((prop::array::uniform4(prop::num::f32::ANY), prop::option::of(0u64..4)), 0..20),
        width in prop::num::f32::ANY, height in prop::num::f32::ANY,
    ) {
        let mut engine = Engine::new(&regions(Some(0.1)));
        let now = Instant::now();
        for (n, (edges, track_id)) in boxes.into_iter().enumerate() {
            let [x1, y1, x2, y2] = edges;
            let item = Detection { bbox: BBox::new(x1, y1, x2, y2), track_id, ..Detection::default() };
            engine.update(now + FRAME * u32::try_from(n).unwrap(), width, height, &[item]);
        }
    }
}
