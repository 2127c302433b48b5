use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;

use super::super::Family;
use super::*;
use crate::media::{BBox, I420Frame, Plane};

type Look = Arc<dyn Fn(&I420Frame) -> Vec<Detection> + Send + Sync>;

/// A detector of the test's own, which keeps to the classes and the threshold.
struct Fake(Look);

impl Detector for Fake {
    fn detect(&mut self, picture: Picture<'_>, settings: &Settings) -> Result<Found, DetectError> {
        let Picture::I420(frame) = picture else { return Err(DetectError::Frame("not planes".into())) };
        let mut items = (self.0)(frame);
        items.retain(|item| {
            let classes = settings.classes.as_ref();
            item.confidence >= settings.confidence
                && classes.is_none_or(|classes| classes.iter().any(|class| **class == *item.class_name))
        });
        Ok(Found { items, ..Found::default() })
    }
}

fn model(name: &str, labels: &[&str], look: impl Fn(&I420Frame) -> Vec<Detection> + Send + Sync + 'static) -> Model {
    let info = ModelInfo {
        name: name.into(),
        family: Family::Yolox,
        labels: labels.iter().map(|label| Arc::from(*label)).collect(),
        confidence: 0.4,
        ..Model::motion().info().clone()
    };
    let look: Look = Arc::new(look);
    Model::new(info, false, move || Ok(Box::new(Fake(Arc::clone(&look)))))
}

fn object(class_id: u32, class: &str, bbox: BBox, confidence: f32) -> Detection {
    Detection { bbox, confidence, class_id, class_name: class.into(), ..Detection::default() }
}

/// Bright pixels of a picture, as a box.
fn bright(frame: &I420Frame) -> Option<BBox> {
    let (width, _) = frame.plane_size(Plane::Y);
    let lit = frame.plane(Plane::Y).iter().enumerate().filter(|(_, sample)| **sample > 180);
    lit.map(|(n, _)| ((n % width) as f32, (n / width) as f32)).fold(None, |bounds: Option<BBox>, (x, y)| {
        let pixel = BBox::new(x, y, x + 1.0, y + 1.0);
        Some(bounds.map_or(pixel, |b| BBox::new(b.x1.min(x), b.y1.min(y), b.x2.max(x + 1.0), b.y2.max(y + 1.0))))
    })
}

const PERSON: BBox = BBox::new(101.0, 41.0, 161.0, 181.0);
const CAR: BBox = BBox::new(200.0, 100.0, 300.0, 160.0);

fn people_and_cars() -> Model {
    model("a", &["person", "car"], |_| vec![object(0, "person", PERSON, 0.9), object(1, "car", CAR, 0.8)])
}

fn plates() -> Model {
    model("b", &["light"], |frame| bright(frame).map(|bbox| object(0, "light", bbox, 0.7)).into_iter().collect())
}

fn settings(classes: Option<&[&str]>) -> Settings {
    let classes = classes.map(|classes| classes.iter().map(|class| (*class).to_owned()).collect());
    Settings { confidence: 0.1, iou: 0.5, classes, max_detections: 100 }
}

/// A picture with a light at this place.
fn picture(light: BBox) -> I420Frame {
    let mut frame = I420Frame::black(320, 240);
    for (n, sample) in frame.planes_mut().0.iter_mut().enumerate() {
        let (x, y) = ((n % 320) as f32, (n / 320) as f32);
        if (light.x1..light.x2).contains(&x) && (light.y1..light.y2).contains(&y) {
            *sample = 220;
        }
    }
    frame
}

fn look(model: &Model, frame: &I420Frame, classes: Option<&[&str]>) -> Found {
    model.detector().unwrap().detect(Picture::I420(frame), &settings(classes)).unwrap()
}

#[test]
fn what_is_found_in_a_crop_is_where_it_is_in_the_picture_and_knows_its_parent() {
    let light = BBox::new(120.0, 60.0, 130.0, 72.0);
    let cascade = Model::cascade(people_and_cars(), &[], Some(plates())).unwrap();
    let found = look(&cascade, &picture(light), None);
    let names: Vec<&str> = found.items.iter().map(|item| &*item.class_name).collect();
    assert_eq!(names, ["person", "car", "light"]);
    let inner = &found.items[2];
    assert_eq!((inner.bbox, inner.class_id, inner.parent), (light, 2, Some(0)));
    assert_eq!(found.passes, [Pass { looked: 1, passed: 1 }, Pass { looked: 2, passed: 1 }]);
    assert_eq!(cascade.info().labels.iter().map(|label| &**label).collect::<Vec<_>>(), ["person", "car", "light"]);
    assert_eq!(&*cascade.info().name, "a+b");
}

#[test]
fn only_the_chosen_classes_go_on() {
    let crops = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&crops);
    let second = model("b", &["light"], move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
        Vec::new()
    });
    let cascade = Model::cascade(people_and_cars(), &["car".to_owned()], Some(second)).unwrap();
    let found = look(&cascade, &I420Frame::black(320, 240), None);
    assert_eq!((found.items.len(), crops.load(Ordering::Relaxed)), (1, 1));
    assert_eq!(found.passes, [Pass { looked: 1, passed: 1 }, Pass { looked: 1, passed: 0 }]);
}

#[test]
fn where_the_first_finds_nothing_the_second_does_not_look() {
    let second = model("b", &["light"], |_| panic!("nothing to look at"));
    let cascade = Model::cascade(model("a", &["person"], |_| Vec::new()), &[], Some(second)).unwrap();
    let found = look(&cascade, &I420Frame::black(320, 240), None);
    assert_eq!(found.passes, [Pass { looked: 1, passed: 0 }, Pass::default()]);
}

#[test]
fn a_parent_that_is_not_asked_for_is_left_out_and_its_child_stays() {
    let cascade = Model::cascade(people_and_cars(), &[], Some(plates())).unwrap();
    let frame = picture(BBox::new(240.0, 120.0, 250.0, 130.0));
    let found = look(&cascade, &frame, Some(&["light"]));
    assert_eq!(found.items.len(), 1);
    assert_eq!((&*found.items[0].class_name, found.items[0].parent), ("light", None));
    let found = look(&cascade, &frame, Some(&["car", "light"]));
    assert_eq!(found.items.iter().map(|item| item.parent).collect::<Vec<_>>(), [None, Some(0)], "the car is first now");
}

#[test]
fn what_two_crops_show_is_one_object() {
    let twins = model("a", &["person"], |_| {
        vec![object(0, "person", PERSON, 0.9), object(0, "person", BBox::new(111.0, 41.0, 171.0, 181.0), 0.8)]
    });
    let cascade = Model::cascade(twins, &[], Some(plates())).unwrap();
    let found = look(&cascade, &picture(BBox::new(125.0, 60.0, 145.0, 80.0)), None);
    assert_eq!(found.items.iter().filter(|item| &*item.class_name == "light").count(), 1);
}

#[test]
fn what_cannot_be_a_cascade_says_why() {
    let error = Model::cascade(people_and_cars(), &["dog".to_owned()], None).unwrap_err().to_string();
    assert!(error.contains("dog") && error.contains("person, car"), "{error}");
    let error = Model::cascade(people_and_cars(), &[], Some(Model::motion())).unwrap_err().to_string();
    assert!(error.contains("motion"), "{error}");
}

#[test]
fn an_rgb_picture_is_cropped_too() {
    struct Sizes(Arc<Mutex<Vec<(usize, usize)>>>);
    impl Detector for Sizes {
        fn detect(&mut self, picture: Picture<'_>, _: &Settings) -> Result<Found, DetectError> {
            self.0.lock().unwrap().push(picture.size());
            let bbox = BBox::new(10.0, 10.0, 60.0, 50.0);
            Ok(Found { items: vec![object(0, "person", bbox, 0.9)], ..Found::default() })
        }
    }
    let sizes = Arc::new(Mutex::new(Vec::new()));
    let made = Arc::clone(&sizes);
    let info = people_and_cars().info().clone();
    let model = Model::new(info, false, move || Ok(Box::new(Sizes(Arc::clone(&made)))));
    let cascade = Model::cascade(model.clone(), &[], Some(model)).unwrap();
    let data = vec![0; 100 * 80 * 3];
    let picture = Picture::Rgb { data: &data, width: 100, height: 80 };
    let found = cascade.detector().unwrap().detect(picture, &settings(None)).unwrap();
    // The box with a tenth of its sides on each side, from an even pixel on.
    assert_eq!(*sizes.lock().unwrap(), [(100, 80), (61, 48)]);
    assert_eq!(found.items[1].bbox, BBox::new(14.0, 16.0, 64.0, 56.0));
}

proptest! {
    #[test]
    fn wherever_the_box_is_the_crop_lies_in_the_picture(
        width in 1usize..200, height in 1usize..200, edges in prop::array::uniform4(prop_oneof![-300f32..300.0, prop::num::f32::ANY]),
    ) {
        let [x1, y1, x2, y2] = edges;
        let first = model("a", &["person"], move |_| vec![object(0, "person", BBox::new(x1, y1, x2, y2), 0.9)]);
        let second = model("b", &["whole"], |frame| {
            let (w, h) = (frame.width() as f32, frame.height() as f32);
            vec![object(0, "whole", BBox::new(0.0, 0.0, w, h), 0.9)]
        });
        let cascade = Model::cascade(first, &[], Some(second)).unwrap();
        let found = look(&cascade, &I420Frame::black(width, height), None);
        for item in &found.items[1..] {
            let b = item.bbox;
            prop_assert!(b.x1 >= 0.0 && b.y1 >= 0.0 && b.x2 <= width as f32 && b.y2 <= height as f32);
        }
    }
}
