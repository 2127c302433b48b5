use proptest::prelude::*;

use super::*;

fn detection(bbox: BBox, class_id: u32) -> Detection {
    Detection {
        bbox,
        confidence: 0.87,
        class_id,
        class_name: "person".into(),
        track_id: Some(7),
        ..Detection::default()
    }
}

fn pixel(picture: &I420Frame, x: usize, y: usize) -> Yuv {
    let at = |plane, x, y| picture.plane(plane)[y * picture.plane_size(plane).0 + x];
    Yuv { y: at(Plane::Y, x, y), u: at(Plane::U, x / 2, y / 2), v: at(Plane::V, x / 2, y / 2) }
}

fn drawn(width: usize, height: usize, boxes: &[Detection]) -> I420Frame {
    let mut picture = I420Frame::black(width, height);
    Annotator::new().draw(&mut picture, boxes);
    picture
}

const BLACK: Yuv = Yuv { y: 16, u: 128, v: 128 };

#[test]
fn the_outline_has_exactly_the_colour_of_the_class_and_the_inside_is_untouched() {
    for class_id in 0..16 {
        let picture = drawn(640, 480, &[detection(BBox::new(101.3, 99.0, 300.0, 250.7), class_id)]);
        let colour = colour(class_id);
        for x in 100..300 {
            assert_eq!(pixel(&picture, x, 98), colour);
            assert_eq!(pixel(&picture, x, 251), colour);
        }
        for y in 98..252 {
            for x in [100, 101, 298, 299] {
                assert_eq!(pixel(&picture, x, y), colour, "{x},{y}");
            }
        }
        for y in 100..250 {
            assert!((102..298).all(|x| pixel(&picture, x, y) == BLACK));
            assert!((0..100).chain(300..640).all(|x| pixel(&picture, x, y) == BLACK));
        }
        assert!((252..480).all(|y| (0..640).all(|x| pixel(&picture, x, y) == BLACK)), "nothing below the box");
    }
}

#[test]
fn the_outline_grows_with_the_picture() {
    assert_eq!([240, 480, 719, 720, 1080, 1200, 2160].map(thickness), [2, 2, 2, 4, 4, 6, 10]);
}

#[test]
fn the_label_stands_on_its_box_and_under_its_edge_where_there_is_no_room() {
    let plate = |picture: &I420Frame, y: usize| pixel(picture, 201, y) == colour(3);
    let above = drawn(640, 480, &[detection(BBox::new(200.0, 100.0, 300.0, 200.0), 3)]);
    assert!(plate(&above, 85) && plate(&above, 99) && !plate(&above, 83));
    let below = drawn(640, 480, &[detection(BBox::new(200.0, 4.0, 300.0, 200.0), 3)]);
    assert!(plate(&below, 7) && plate(&below, 20) && !plate(&below, 2));
}

#[test]
fn a_label_at_the_edge_is_moved_into_the_picture() {
    let picture = drawn(640, 480, &[detection(BBox::new(600.0, 300.0, 640.0, 400.0), 0)]);
    let plate = (0..640).filter(|&x| pixel(&picture, x, 285) == colour(0)).count();
    assert!(plate > 80, "the whole plate is there: {plate} pixels of its first row");
}

#[test]
fn a_box_beyond_the_picture_is_closed_at_its_edge() {
    let picture = drawn(321, 241, &[detection(BBox::new(-50.0, 100.0, 1e30, 1e9), 2)]);
    let colour = colour(2);
    for (x, y) in [(0, 150), (320, 150), (150, 240), (320, 240), (200, 100)] {
        assert_eq!(pixel(&picture, x, y), colour, "{x},{y}");
    }
    assert_eq!(pixel(&picture, 150, 200), BLACK);
}

#[test]
fn what_is_no_box_is_not_drawn() {
    let nan = f32::NAN;
    let boxes = [
        BBox::new(nan, 0.0, 10.0, 10.0),
        BBox::new(0.0, 0.0, f32::INFINITY, 10.0),
        BBox::new(50.0, 50.0, 50.0, 90.0),
        BBox::new(90.0, 50.0, 50.0, 90.0),
        BBox::new(-20.0, -20.0, -10.0, -10.0),
        BBox::new(400.0, 10.0, 500.0, 90.0),
    ];
    let picture = drawn(320, 240, &boxes.map(|bbox| detection(bbox, 1)));
    assert_eq!(picture.planes(), I420Frame::black(320, 240).planes());
}

#[test]
fn the_better_of_two_boxes_is_on_top_and_labels_above_all() {
    let boxes =
        [detection(BBox::new(100.0, 100.0, 200.0, 200.0), 0), detection(BBox::new(100.0, 100.0, 200.0, 300.0), 1)];
    let picture = drawn(640, 480, &boxes);
    assert_eq!(pixel(&picture, 100, 150), colour(0));
    assert_eq!(pixel(&picture, 100, 250), colour(1));
}

#[test]
fn drawing_the_same_boxes_again_draws_the_same() {
    let boxes: Vec<Detection> = (0..10u8)
        .map(|n| detection(BBox::new(f32::from(n) * 30.0, 40.0, f32::from(n) * 30.0 + 60.0, 200.0), n.into()))
        .collect();
    let mut annotator = Annotator::new();
    let mut pictures = [(640, 480), (640, 480), (320, 240), (640, 480)].map(|(w, h)| I420Frame::black(w, h));
    for picture in &mut pictures {
        annotator.draw(picture, &boxes);
    }
    assert_eq!(pictures[0].planes(), pictures[1].planes());
    assert_eq!(pictures[0].planes(), pictures[3].planes(), "after another size too");
}

fn any_edge() -> impl Strategy<Value = f32> {
    prop_oneof![4 => -50f32..400.0, 1 => any::<f32>(), 1 => Just(f32::NAN), 1 => Just(0.0)]
}

proptest! {
    #[test]
    fn any_box_on_any_picture_is_drawn_without_a_panic(
        width in 1usize..330, height in 1usize..260, edges in prop::collection::vec([any_edge(), any_edge(), any_edge(), any_edge()], 0..6),
        confidence in any::<f32>(), class_id in any::<u32>(), name in ".{0,40}", track_id in any::<Option<u64>>(),
    ) {
        let boxes: Vec<Detection> = edges.iter().map(|&[x1, y1, x2, y2]| Detection {
            bbox: BBox::new(x1, y1, x2, y2), confidence, class_id, class_name: name.as_str().into(), track_id, ..Detection::default()
        }).collect();
        let picture = drawn(width, height, &boxes);
        let rects: Vec<Rect> = boxes.iter().filter_map(|only| Rect::of(&only.bbox, width, height)).collect();
        if rects.is_empty() {
            let untouched = I420Frame::black(width, height);
            prop_assert_eq!(picture.planes(), untouched.planes());
        }
        for rect in rects {
            prop_assert!(rect.left < rect.right && rect.right <= width && rect.top < rect.bottom && rect.bottom <= height);
            prop_assert!(rect.left % 2 == 0 && rect.top % 2 == 0);
        }
    }
}
