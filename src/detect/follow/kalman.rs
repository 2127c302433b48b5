//! Where an object is and how it moves, from sightings that are noisy and late: a Kalman filter of constant velocity.

use std::time::{Duration, Instant};

use crate::media::BBox;

/// A detector's edge is off by this share of the object's size (one standard deviation)…
const NOISE_SHARE: f32 = 0.02;

/// …and by this much at least, in pixels.
const NOISE_LEAST: f32 = 0.7;

/// How much the velocity of the centre changes within a second, as a share of the object's size: what people and vehicles do.
const ACCELERATION: f32 = 2.0;

/// The same for the size, which changes more calmly.
const GROWTH: f32 = 0.6;

/// How fast something may be that was seen once, in sizes per second (one standard deviation).
const FIRST_SPEED: f32 = 5.0;

/// The same for the growth.
const FIRST_GROWTH: f32 = 0.3;

/// A sighting further from the prediction than this (normalised innovation squared of x and y: two degrees of freedom,
/// 1 % of a well-modelled object's sightings) is a manoeuvre.
const MANOEUVRE: f32 = 9.2;

/// A manoeuvre leaves this much of the velocity in doubt, in sizes per second.
const MANOEUVRE_SPEED: f32 = 3.0;

/// One quantity: its value, its rate, and their covariance.
#[derive(Clone, Copy, Debug)]
struct Axis {
    value: f32,
    rate: f32,
    /// Variances of value, of both together, of rate.
    p: [f32; 3],
}

impl Axis {
    fn begin(value: f32, noise: f32, rate_noise: f32) -> Self {
        Self { value, rate: 0.0, p: [noise * noise, 0.0, rate_noise * rate_noise] }
    }

    /// Lets `dt` seconds pass, in which the rate wanders by `wander` in the square root of a second.
    fn advance(&mut self, dt: f32, wander: f32) {
        let [pp, pv, vv] = self.p;
        let q = wander * wander;
        self.value += self.rate * dt;
        self.p =
            [pp + dt * (2.0 * pv + dt * vv) + q * dt * dt * dt / 3.0, pv + dt * vv + q * dt * dt / 2.0, vv + q * dt];
    }

    /// The squared distance of a measurement, in units of what is expected of it.
    fn surprise(&self, measured: f32, noise: f32) -> f32 {
        let far = measured - self.value;
        far * far / (self.p[0] + noise * noise)
    }

    fn correct(&mut self, measured: f32, noise: f32) {
        let [pp, pv, vv] = self.p;
        let sum = pp + noise * noise;
        let (gain, rate_gain) = (pp / sum, pv / sum);
        let far = measured - self.value;
        self.value += gain * far;
        self.rate += rate_gain * far;
        self.p = [pp * (1.0 - gain), pv * (1.0 - gain), (vv - rate_gain * pv).max(0.0)];
    }

    fn scale(&mut self, by: f32) {
        self.value *= by;
        self.rate *= by;
        self.p = self.p.map(|p| p * by * by);
    }

    fn is_finite(&self) -> bool {
        self.value.is_finite() && self.rate.is_finite() && self.p.iter().all(|p| p.is_finite())
    }
}

/// The filter over one object's box: centre and size, each with its rate (Kalman 1960; the model and the noise in proportion to
/// the size as in SORT and its successors, Bewley et al. 2016, arXiv:1602.00763). What turns or stops is noticed by its
/// innovation, and then the velocity is learnt anew.
#[derive(Clone, Debug)]
pub(in crate::detect) struct Kalman {
    x: Axis,
    y: Axis,
    width: Axis,
    height: Axis,
    at: Instant,
}

impl Kalman {
    /// An object that is seen for the first time.
    pub(in crate::detect) fn begin(bbox: &BBox, at: Instant) -> Self {
        let (x, y) = bbox.centre();
        let (width, height) = (bbox.width(), bbox.height());
        let size = size(width, height);
        let speed = FIRST_SPEED * size;
        Self {
            x: Axis::begin(x, centre_noise(width), speed),
            y: Axis::begin(y, centre_noise(height), speed),
            width: Axis::begin(width, size_noise(width), FIRST_GROWTH * size),
            height: Axis::begin(height, size_noise(height), FIRST_GROWTH * size),
            at,
        }
    }

    /// Takes a sighting at `at`. One before the last counts as of the same moment.
    pub(in crate::detect) fn see(&mut self, bbox: &BBox, at: Instant) {
        let dt = at.saturating_duration_since(self.at).as_secs_f32();
        let (x, y) = bbox.centre();
        let (width, height) = (bbox.width(), bbox.height());
        let size = size(width, height);
        let mut next = self.clone();
        next.at = self.at.max(at);
        for (axis, wander) in next.axes().into_iter().zip([ACCELERATION, ACCELERATION, GROWTH, GROWTH]) {
            axis.advance(dt, wander * size);
        }
        let noise = [centre_noise(width), centre_noise(height), size_noise(width), size_noise(height)];
        if next.x.surprise(x, noise[0]) + next.y.surprise(y, noise[1]) > MANOEUVRE {
            for axis in [&mut next.x, &mut next.y] {
                let doubt = MANOEUVRE_SPEED * size;
                axis.p[2] += doubt * doubt;
                axis.p[1] += doubt * doubt * dt;
                axis.p[0] += doubt * doubt * dt * dt;
            }
        }
        for ((axis, measured), noise) in next.axes().into_iter().zip([x, y, width, height]).zip(noise) {
            axis.correct(measured, noise);
        }
        // Numbers past what a float holds: whatever it was, it begins anew.
        *self = if next.axes().iter().all(|axis| axis.is_finite()) { next } else { Self::begin(bbox, at) };
    }

    /// The box at `at`; before the last sighting, that of the last sighting.
    pub(in crate::detect) fn at(&self, at: Instant) -> BBox {
        let dt = at.saturating_duration_since(self.at).as_secs_f32();
        let value = |axis: &Axis| axis.value + axis.rate * dt;
        let (x, y) = (value(&self.x), value(&self.y));
        // A size that shrinks fast must not turn inside out.
        let half = |axis: &Axis| value(axis).max(axis.value / 2.0).max(0.0) / 2.0;
        let (w, h) = (half(&self.width), half(&self.height));
        BBox::new(x - w, y - h, x + w, y + h)
    }

    /// Motion of the centre, in pixels per second.
    pub(in crate::detect) fn velocity(&self) -> [f32; 2] {
        [self.x.rate, self.y.rate]
    }

    /// The standing uncertainty of the centre at the last sighting: a standard deviation in pixels.
    pub(in crate::detect) fn doubt(&self) -> f32 {
        f32::midpoint(self.x.p[0], self.y.p[0]).max(0.0).sqrt()
    }

    /// The picture changed its size by these factors.
    pub(in crate::detect) fn rescale(&mut self, x: f32, y: f32) {
        self.x.scale(x);
        self.width.scale(x);
        self.y.scale(y);
        self.height.scale(y);
    }

    fn axes(&mut self) -> [&mut Axis; 4] {
        [&mut self.x, &mut self.y, &mut self.width, &mut self.height]
    }
}

/// How long it is remembered after it was last seen, whoever remembers it, where looks are not seldom.
pub(in crate::detect) const MEMORY: Duration = Duration::from_millis(700);

/// What the noise of motion is measured by: the mean side.
fn size(width: f32, height: f32) -> f32 {
    f32::midpoint(width, height).max(1.0)
}

/// How far an edge of an object of this side is off: a standard deviation in pixels.
fn edge_noise(side: f32) -> f32 {
    NOISE_SHARE * side + NOISE_LEAST
}

/// Of the centre: two edges' mean.
fn centre_noise(side: f32) -> f32 {
    edge_noise(side) * std::f32::consts::FRAC_1_SQRT_2
}

/// Of the side: two edges' difference.
fn size_noise(side: f32) -> f32 {
    edge_noise(side) * std::f32::consts::SQRT_2
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STEP: Duration = Duration::from_millis(66);

    fn square(x: f32, y: f32) -> BBox {
        BBox::new(x, y, x + 160.0, y + 160.0)
    }

    /// Noise between −2 and 2 pixels, the same in every run.
    fn noise(n: u16) -> f32 {
        f32::from(n.wrapping_mul(25_173).wrapping_add(13_849) >> 4) / 1024.0 - 2.0
    }

    #[test]
    fn a_steady_motion_is_learnt_and_goes_on() {
        let mut now = Instant::now();
        let mut kalman = Kalman::begin(&square(0.0, 0.0), now);
        for n in 1..20u16 {
            now += STEP;
            kalman.see(&square(f32::from(n) * 42.24 + noise(n), noise(n + 100)), now);
        }
        let [vx, vy] = kalman.velocity();
        assert!((vx - 640.0).abs() < 30.0 && vy.abs() < 30.0, "{vx} {vy}");
        let ahead = kalman.at(now + STEP);
        assert!(ahead.iou(&square(20.0 * 42.24, 0.0)) > 0.93, "{ahead:?}");
    }

    #[test]
    fn noise_of_what_stands_is_smoothed() {
        let mut now = Instant::now();
        let mut kalman = Kalman::begin(&square(100.0, 100.0), now);
        let (mut seen, mut kept) = (0.0, 0.0);
        for n in 1..60u16 {
            now += STEP;
            let found = square(100.0 + noise(n), 100.0 + noise(n + 200));
            kalman.see(&found, now);
            seen += found.iou(&square(100.0, 100.0));
            kept += kalman.at(now).iou(&square(100.0, 100.0));
        }
        assert!(kept > seen, "{kept} against {seen}");
    }

    #[test]
    fn a_dead_stop_is_believed_at_the_second_sighting() {
        let mut now = Instant::now();
        let mut kalman = Kalman::begin(&square(0.0, 0.0), now);
        for n in 1..12u16 {
            now += STEP;
            kalman.see(&square(42.24 * f32::from(n), 0.0), now);
        }
        for _ in 0..2 {
            now += STEP;
            kalman.see(&square(42.24 * 11.0, 0.0), now);
        }
        assert!(kalman.velocity()[0].abs() < 120.0, "{:?}", kalman.velocity());
    }

    proptest! {
        #[test]
        fn no_sequence_of_boxes_gives_what_is_not_a_number(
            seen in prop::collection::vec((prop::array::uniform4(-1e6f32..1e6), 0u64..2000), 1..20),
        ) {
            let mut now = Instant::now();
            let mut kalman: Option<Kalman> = None;
            for ([x1, y1, w, h], pause) in seen {
                now += Duration::from_millis(pause);
                let bbox = BBox::new(x1, y1, x1 + w.abs(), y1 + h.abs());
                match &mut kalman {
                    None => kalman = Some(Kalman::begin(&bbox, now)),
                    Some(kalman) => kalman.see(&bbox, now),
                }
                if let Some(kalman) = &kalman {
                    let ahead = kalman.at(now + STEP);
                    prop_assert!(ahead.is_finite() && ahead.x1 <= ahead.x2 && ahead.y1 <= ahead.y2);
                    prop_assert!(kalman.velocity().iter().all(|v| v.is_finite()));
                }
            }
        }

        #[test]
        fn a_scaled_picture_scales_the_motion(scale in 0.2f32..4.0) {
            let now = Instant::now();
            let mut kalman = Kalman::begin(&square(0.0, 0.0), now);
            kalman.see(&square(40.0, 20.0), now + STEP);
            let before = kalman.velocity();
            kalman.rescale(scale, scale);
            let after = kalman.velocity();
            prop_assert!((after[0] - before[0] * scale).abs() < 1.0 && (after[1] - before[1] * scale).abs() < 1.0);
        }
    }
}
