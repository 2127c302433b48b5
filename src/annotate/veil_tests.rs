use proptest::prelude::*;
use rand::rngs::SmallRng;
use rand::{RngCore, SeedableRng};

use super::*;

fn noisy(width: usize, height: usize, seed: u64) -> I420Frame {
    let mut frame = I420Frame::black(width, height);
    let mut rng = SmallRng::seed_from_u64(seed);
    let (y, u, v) = frame.planes_mut();
    [y, u, v].into_iter().for_each(|plane| rng.fill_bytes(plane));
    frame
}

const VEILS: [Veil; 3] = [Veil::Blur, Veil::Pixelate, Veil::Black];

/// Which pixels differ, by luma.
fn changed(before: &I420Frame, after: &I420Frame) -> Vec<(usize, usize)> {
    let pairs = before.plane(Plane::Y).iter().zip(after.plane(Plane::Y));
    let (width, _) = before.plane_size(Plane::Y);
    pairs.enumerate().filter(|(_, (a, b))| a != b).map(|(n, _)| (n % width, n / width)).collect()
}

#[test]
fn what_is_hidden_is_hidden_and_the_rest_is_as_it_was() {
    for veil in VEILS {
        let before = noisy(320, 240, 1);
        let mut after = before.clone();
        Hider::new().hide(&mut after, &Hidden::Box(BBox::new(101.0, 51.0, 199.0, 149.0)), veil);
        let touched = changed(&before, &after);
        assert!(touched.iter().all(|&(x, y)| (100..200).contains(&x) && (50..150).contains(&y)), "{veil:?}");
        // Noise is equal to its mean now and then.
        assert!(touched.len() > 9500, "{veil:?}: {}", touched.len());
    }
}

#[test]
fn of_what_was_there_a_few_means_are_left() {
    for veil in [Veil::Blur, Veil::Pixelate] {
        let (mut one, mut other) = (I420Frame::black(320, 240), I420Frame::black(320, 240));
        // Two pictures that differ by a checkerboard finer than any cell.
        for (n, (a, b)) in one.planes_mut().0.iter_mut().zip(other.planes_mut().0).enumerate() {
            let white = (n % 320 + n / 320) % 2 == 0;
            (*a, *b) = if white { (200, 50) } else { (50, 200) };
        }
        let what = Hidden::Box(BBox::new(40.0, 40.0, 240.0, 240.0));
        Hider::new().hide(&mut one, &what, veil);
        Hider::new().hide(&mut other, &what, veil);
        for (y, (a, b)) in one.plane(Plane::Y).chunks(320).zip(other.plane(Plane::Y).chunks(320)).enumerate().skip(40) {
            assert_eq!(a[40..240], b[40..240], "{veil:?} row {y}");
        }
    }
}

#[test]
fn a_blur_is_smooth_and_a_mosaic_has_cells() {
    let mut frame = noisy(320, 240, 2);
    Hider::new().hide(&mut frame, &Hidden::All, Veil::Blur);
    let luma = frame.plane(Plane::Y);
    for (n, pair) in luma.windows(2).enumerate().filter(|(n, _)| n % 320 != 319) {
        assert!(pair[0].abs_diff(pair[1]) <= 4, "{n}: {pair:?}");
    }
    let mut frame = noisy(320, 240, 2);
    Hider::new().hide(&mut frame, &Hidden::All, Veil::Pixelate);
    // 240 / 12 = 20 pixels each.
    assert!(frame.plane(Plane::Y).chunks(320).all(|row| row.chunks(20).all(|cell| cell.iter().all(|s| *s == cell[0]))));
}

#[test]
fn a_box_that_is_none_hides_everything_and_one_outside_nothing() {
    let before = noisy(64, 48, 3);
    let mut after = before.clone();
    Hider::new().hide(&mut after, &Hidden::Box(BBox::new(f32::NAN, 0.0, 9.0, 9.0)), Veil::Black);
    assert!(after.plane(Plane::Y).iter().all(|sample| *sample == 16));
    let mut after = before.clone();
    Hider::new().hide(&mut after, &Hidden::Box(BBox::new(100.0, 0.0, 200.0, 9.0)), Veil::Black);
    assert_eq!(changed(&before, &after), []);
}

#[test]
fn a_concave_polygon_leaves_its_notch() {
    let before = noisy(200, 200, 4);
    let mut after = before.clone();
    let l = [[0.1, 0.1], [0.5, 0.1], [0.5, 0.5], [0.9, 0.5], [0.9, 0.9], [0.1, 0.9]];
    Hider::new().hide(&mut after, &Hidden::Polygon(&l), Veil::Black);
    let dark = |x: usize, y: usize| after.plane(Plane::Y)[y * 200 + x] == 16;
    for y in 20..180 {
        for x in 20..180 {
            let notch = x > 104 && y < 96;
            let inside = x < 100 || y > 100;
            assert!(!inside || dark(x, y), "{x}, {y}");
            assert!(!notch || after.plane(Plane::Y)[y * 200 + x] == before.plane(Plane::Y)[y * 200 + x], "{x}, {y}");
        }
    }
}

#[test]
fn a_polygon_that_crosses_itself_hides_all_that_it_goes_round() {
    let mut frame = noisy(100, 100, 5);
    // A pentagram: by the even-odd rule its middle would be seen.
    let star = [[0.5, 0.0], [0.8, 1.0], [0.0, 0.4], [1.0, 0.4], [0.2, 1.0]];
    Hider::new().hide(&mut frame, &Hidden::Polygon(&star), Veil::Black);
    assert_eq!(frame.plane(Plane::Y)[50 * 100 + 50], 16);
}

proptest! {
    #[test]
    fn every_pixel_of_a_box_is_hidden(
        width in 1usize..120, height in 1usize..120, x in -20f32..120.0, y in -20f32..120.0, w in 1f32..90.0, h in 1f32..90.0,
    ) {
        let mut frame = noisy(width, height, 6);
        Hider::new().hide(&mut frame, &Hidden::Box(BBox::new(x, y, x + w, y + h)), Veil::Black);
        for (n, sample) in frame.plane(Plane::Y).iter().enumerate() {
            let (px, py) = ((n % width) as f32, (n / width) as f32);
            let covered = px + 1.0 > x && px < x + w && py + 1.0 > y && py < y + h;
            prop_assert!(!covered || *sample == 16, "{px}, {py}");
        }
    }

    /// Against the definition: whatever is inside a convex polygon.
    #[test]
    fn every_pixel_of_a_polygon_is_hidden(
        width in 8usize..120, height in 8usize..120, radius in 0.05f32..0.5, corners in 3u8..9, turn in 0f32..1.0,
    ) {
        let mut frame = noisy(width, height, 7);
        let points: Vec<[f32; 2]> = (0..corners)
            .map(|n| {
                let angle = (f32::from(n) / f32::from(corners) + turn) * std::f32::consts::TAU;
                [0.5 + radius * angle.cos(), 0.5 + radius * angle.sin()]
            })
            .collect();
        Hider::new().hide(&mut frame, &Hidden::Polygon(&points), Veil::Black);
        for (n, sample) in frame.plane(Plane::Y).iter().enumerate() {
            let at = [((n % width) as f32 + 0.5) / width as f32, ((n / width) as f32 + 0.5) / height as f32];
            let inside = points.iter().zip(points.iter().cycle().skip(1)).all(|(a, b)| {
                (b[0] - a[0]) * (at[1] - a[1]) - (b[1] - a[1]) * (at[0] - a[0]) > 0.0
            });
            prop_assert!(!inside || *sample == 16, "{at:?}");
        }
    }

    #[test]
    fn no_input_panics(
        width in 1usize..200, height in 1usize..200, edges in prop::array::uniform4(prop::num::f32::ANY),
        points in prop::collection::vec(prop::array::uniform2(prop::num::f32::ANY), 0..8), veil in 0usize..3,
    ) {
        let mut frame = noisy(width, height, 8);
        let [x1, y1, x2, y2] = edges;
        let mut hider = Hider::new();
        for what in [Hidden::All, Hidden::Box(BBox::new(x1, y1, x2, y2)), Hidden::Polygon(&points)] {
            hider.hide(&mut frame, &what, VEILS[veil]);
        }
    }
}
