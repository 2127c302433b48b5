//! One object between two results of the detector: its path through the pictures that were shown.

use std::time::{Duration, Instant};

use super::kalman::Kalman;
use super::motion::{Motion, Reader};
use super::pyramid::Pictures;
use crate::media::{BBox, Detection};

/// A detector's edge is off by this share of the object's size (one standard deviation), and a little. Less than the filter
/// takes it for: that has a velocity to learn, which noise does more harm to.
const NOISE_SHARE: f32 = 0.01;
const NOISE_LEAST: f32 = 0.7;

/// How far the picture's word may lead a box astray: a standard deviation, as a share of the object's size for each second.
const DRIFT: f32 = 0.4;

/// A result never counts for less than this against the path: people change their outline as they walk.
const LEAST_GAIN: f32 = 0.5;

/// An edge further from its path than this many standard deviations, and this share of the size, tells that the picture was
/// followed wrongly.
const ASTRAY: f32 = 4.0;
const ASTRAY_SHARE: f32 = 0.1;

/// Pictures that are read on the way from the detected one to the one at hand, at most.
const MOST_READS: usize = 3;

/// After this long without an answer from the pictures an object is left to the prediction.
const PATIENCE: Duration = Duration::from_millis(250);

/// A velocity from the pictures holds for this long.
const FRESH: Duration = Duration::from_millis(150);

/// An object that results miss is still believed in if it was found this often before…
const CONFIRMED: u32 = 6;

/// …last with this score at least: where it is less, the object itself is in doubt, and not the one look…
const SURE: f32 = 0.5;

/// …for so many results.
const MOST_MISSES: u32 = 2;

/// How a box and what belongs to it moved since its track began: `p' = scale · p + by`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Warp {
    pub(super) scale: f32,
    pub(super) by: [f32; 2],
}

impl Warp {
    const NONE: Self = Self { scale: 1.0, by: [0.0, 0.0] };

    /// This one, then another about the centre `(x, y)`.
    fn then(self, motion: &Motion, (x, y): (f32, f32)) -> Self {
        let next = |by: f32, moved: f32, centre: f32| motion.scale * (by - centre) + centre + moved;
        Self {
            scale: self.scale * motion.scale,
            by: [next(self.by[0], motion.by.0, x), next(self.by[1], motion.by.1, y)],
        }
    }

    /// From where `self` put a point to where `later` puts it.
    pub(super) fn until(self, later: Self) -> Self {
        let scale = later.scale / self.scale;
        Self { scale, by: [later.by[0] - scale * self.by[0], later.by[1] - scale * self.by[1]] }
    }

    pub(super) fn apply(&self, [x, y]: [f32; 2]) -> [f32; 2] {
        [self.scale * x + self.by[0], self.scale * y + self.by[1]]
    }
}

/// Where the object was in one picture.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stand {
    frame_id: u64,
    at: Instant,
    pub(super) bbox: BBox,
    pub(super) warp: Warp,
}

/// What became of the wish to follow an object into the picture at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The picture told where it is.
    Followed,
    /// The picture did not tell.
    Doubtful,
    /// There was no time to look.
    Skipped,
    /// There was no picture to compare with.
    Predicted,
}

/// One object.
#[derive(Clone, Debug)]
pub(super) struct Track {
    /// As it was found last.
    pub(super) item: Detection,
    /// The picture that it was found in last.
    pub(super) found_in: u64,
    kalman: Kalman,
    pub(super) seen: Instant,
    sightings: u32,
    /// Results since then that do not have it.
    misses: u32,
    /// Since results miss it, the pictures have not told of it once.
    lost: bool,
    /// Oldest first; the first is that of the last result's picture, the others were read from pictures.
    path: Vec<Stand>,
    /// How far the path may be off: a standard deviation in pixels.
    doubt: f32,
    /// Pixels per second from the pictures, and when.
    velocity: Option<([f32; 2], Instant)>,
    /// Left, top, right, bottom: the picture's border hides where the object ends.
    open: [bool; 4],
    /// The picture that did not tell.
    failed: Option<u64>,
}

impl Track {
    pub(super) fn begin(item: &Detection, frame_id: u64, at: Instant, size: (f32, f32)) -> Self {
        let bbox = &item.bbox;
        let stand = Stand { frame_id, at, bbox: *bbox, warp: Warp::NONE };
        Self {
            item: item.clone(),
            found_in: frame_id,
            kalman: Kalman::begin(bbox, at),
            seen: at,
            sightings: 1,
            misses: 0,
            lost: false,
            path: vec![stand],
            doubt: noise_of(bbox),
            velocity: None,
            open: open_edges(bbox, size),
            failed: None,
        }
    }

    /// The detector found it in an earlier picture, whose number and time these are.
    pub(super) fn see(&mut self, item: &Detection, frame_id: u64, at: Instant, size: (f32, f32)) {
        let bbox = &item.bbox;
        self.item.clone_from(item);
        self.found_in = frame_id;
        self.kalman.see(bbox, at);
        let before = std::mem::replace(&mut self.open, open_edges(bbox, size));
        let since = at.saturating_duration_since(self.seen).as_secs_f32();
        let noise = noise_of(bbox);
        let here = self.stand_at(frame_id, at);
        let doubt = self.doubt.hypot(DRIFT * mean_side(bbox) * since);
        self.seen = at;
        self.sightings = self.sightings.saturating_add(1);
        self.misses = 0;
        self.lost = false;
        self.failed = None;
        let far = (ASTRAY * doubt.hypot(noise)).max(ASTRAY_SHARE * mean_side(bbox));
        let gain = (doubt * doubt / (doubt * doubt + noise * noise)).max(LEAST_GAIN);
        let off = here.map(|here| {
            let (found, here) = (edges(bbox), edges(&here.bbox));
            std::array::from_fn::<f32, 4, _>(|n| found[n] - here[n])
        });
        let open = self.open;
        let astray =
            |off: &[f32; 4]| off.iter().zip(open).zip(before).any(|((off, now), was)| !now && !was && off.abs() > far);
        if let (Some(here), Some(off)) = (here, off.filter(|off| !astray(off))) {
            self.doubt = doubt * (1.0 - gain).sqrt();
            let after = self.path.iter().filter(|stand| stand.at > at && stand.frame_id != frame_id);
            self.path = std::iter::once(Stand { frame_id, at, ..here }).chain(after.copied()).collect();
            // An open edge stays with the border; one that was open is seen for the first time.
            let shift: [f32; 4] = std::array::from_fn(|n| match (before[n], open[n]) {
                (_, true) => 0.0,
                (true, false) => off[n],
                (false, false) => gain * off[n],
            });
            for stand in &mut self.path {
                let here = edges(&stand.bbox);
                stand.bbox = ordered(std::array::from_fn(|n| here[n] + shift[n]));
            }
        } else {
            self.doubt = noise.min(self.kalman.doubt().max(noise / 2.0));
            let bbox = if here.is_some() { *bbox } else { self.kalman.at(at) };
            self.path.clear();
            self.path.push(Stand { frame_id, at, bbox, warp: Warp::NONE });
        }
    }

    /// A result does not have it.
    pub(super) fn miss(&mut self) {
        self.misses = self.misses.saturating_add(1);
    }

    /// Whether results miss it, and it is believed in for now all the same, for `memory` at most.
    pub(super) fn is_missed(&self, at: Instant, memory: Duration) -> bool {
        (1..=MOST_MISSES).contains(&self.misses)
            && self.sightings >= CONFIRMED
            && self.item.confidence >= SURE
            && !self.lost
            && at.saturating_duration_since(self.seen) <= memory
    }

    /// Whether this very picture told where it is.
    pub(super) fn is_in(&self, frame_id: u64) -> bool {
        self.failed.is_none() && self.path.last().is_some_and(|last| last.frame_id == frame_id)
    }

    /// Follows the object through the pictures up to the newest, as long as `may_look`.
    pub(super) fn follow(
        &mut self,
        pictures: &Pictures,
        size: (f32, f32),
        reader: &mut Reader,
        may_look: impl Fn() -> bool,
    ) -> Outcome {
        loop {
            let Some(last) = self.path.last().copied() else { return Outcome::Predicted };
            let waiting = pictures.after(last.frame_id).len();
            if waiting == 0 {
                return Outcome::Followed;
            }
            let Some(older) = pictures.find(last.frame_id) else { return Outcome::Predicted };
            // After a picture that did not tell, only the newest is worth a look.
            let ahead = if self.failed.is_some() { waiting } else { waiting.div_ceil(MOST_READS) };
            let Some(newer) = pictures.after(last.frame_id).nth(ahead - 1) else { return Outcome::Predicted };
            if newer.at.saturating_duration_since(older.at) > PATIENCE && self.failed.is_some() {
                return Outcome::Doubtful;
            }
            if !may_look() {
                return Outcome::Skipped;
            }
            let expected = self.extrapolated(&last, newer.at);
            let ((x0, y0), (x1, y1)) = (last.bbox.centre(), expected.bbox.centre());
            let bbox = self.pinned(&last.bbox, size);
            let read = reader.read(&older.pyramid, &newer.pyramid, &bbox, (x1 - x0, y1 - y0), self.moves());
            let Some(motion) = read else {
                self.failed = Some(newer.frame_id);
                self.lost |= self.misses > 0;
                return Outcome::Doubtful;
            };
            self.failed = None;
            let elapsed = newer.at.saturating_duration_since(older.at).as_secs_f32();
            if elapsed > 0.005 {
                let measured = [motion.by.0 / elapsed, motion.by.1 / elapsed];
                self.velocity = Some((measured, newer.at));
            }
            let warp = last.warp.then(&motion, bbox.centre());
            let moved = self.pinned(&moved(&bbox, &motion), size);
            self.path.push(Stand { frame_id: newer.frame_id, at: newer.at, bbox: moved, warp });
        }
    }

    /// Where the object is in a picture of instant `at`, and how it got there from its last sighting.
    pub(super) fn now(&self, frame_id: u64, at: Instant, size: (f32, f32)) -> (BBox, Warp) {
        let (Some(first), Some(last)) = (self.path.first(), self.path.last()) else {
            return (self.kalman.at(at), Warp::NONE);
        };
        let stand = if last.frame_id == frame_id { *last } else { self.extrapolated(last, at) };
        (self.pinned(&stand.bbox, size), first.warp.until(stand.warp))
    }

    /// How much there is to gain by looking: the way it is expected to have gone in parts of its size, and time.
    pub(super) fn worth(&self, at: Instant) -> f32 {
        let Some(last) = self.path.last() else { return 0.0 };
        let waited = at.saturating_duration_since(last.at).as_secs_f32();
        let [vx, vy] = self.speed(at);
        vx.hypot(vy) * waited / mean_side(&last.bbox) + waited
    }

    /// The picture changed its size by these factors: the path is of pictures that are no more.
    pub(super) fn rescale(&mut self, x: f32, y: f32) {
        self.kalman.rescale(x, y);
        self.path.clear();
        self.velocity = None;
        self.doubt *= x.max(y);
    }

    /// Whether anything is known of its motion.
    fn moves(&self) -> bool {
        self.sightings > 1 || self.velocity.is_some()
    }

    fn speed(&self, at: Instant) -> [f32; 2] {
        match self.velocity {
            Some((velocity, measured)) if at.saturating_duration_since(measured) < FRESH => velocity,
            _ => self.kalman.velocity(),
        }
    }

    /// Goes on from `stand` without a look at the picture.
    fn extrapolated(&self, stand: &Stand, at: Instant) -> Stand {
        let seconds = at.saturating_duration_since(stand.at).as_secs_f32();
        let fresh = self.velocity.filter(|(_, measured)| at.saturating_duration_since(*measured) < FRESH);
        let (bbox, by) = if let Some(([vx, vy], _)) = fresh {
            let (x, y) = (vx * seconds, vy * seconds);
            let b = stand.bbox;
            (BBox::new(b.x1 + x, b.y1 + y, b.x2 + x, b.y2 + y), [x, y])
        } else {
            let (before, after) = (edges(&self.kalman.at(stand.at)), edges(&self.kalman.at(at)));
            let here = edges(&stand.bbox);
            let bbox = ordered(std::array::from_fn(|n| here[n] + after[n] - before[n]));
            let [vx, vy] = self.kalman.velocity();
            (bbox, [vx * seconds, vy * seconds])
        };
        let warp = Warp { by: [stand.warp.by[0] + by[0], stand.warp.by[1] + by[1]], ..stand.warp };
        Stand { frame_id: stand.frame_id, at, bbox, warp }
    }

    /// The path at a picture that it may not have passed itself: between its neighbours. `None` past its end.
    fn stand_at(&self, frame_id: u64, at: Instant) -> Option<Stand> {
        if let Some(exact) = self.path.iter().find(|stand| stand.frame_id == frame_id) {
            return Some(*exact);
        }
        let next = self.path.iter().position(|stand| stand.at >= at)?;
        let (before, after) = (self.path.get(next.checked_sub(1)?)?, self.path.get(next)?);
        let whole = after.at.saturating_duration_since(before.at).as_secs_f32();
        let share = if whole > 0.0 { at.saturating_duration_since(before.at).as_secs_f32() / whole } else { 1.0 };
        let mix = |a: f32, b: f32| a + share * (b - a);
        let (a, b) = (edges(&before.bbox), edges(&after.bbox));
        let warp = Warp {
            scale: mix(before.warp.scale, after.warp.scale),
            by: std::array::from_fn(|n| mix(before.warp.by[n], after.warp.by[n])),
        };
        Some(Stand { frame_id, at, bbox: ordered(std::array::from_fn(|n| mix(a[n], b[n]))), warp })
    }

    /// The box with its open edges on the picture's border.
    fn pinned(&self, bbox: &BBox, (width, height): (f32, f32)) -> BBox {
        let border = [0.0, 0.0, width, height];
        let edges = edges(bbox);
        ordered(std::array::from_fn(|n| if self.open[n] { border[n] } else { edges[n] }))
    }
}

fn moved(bbox: &BBox, motion: &Motion) -> BBox {
    let (x, y) = bbox.centre();
    let (w, h) = (motion.scale * bbox.width() / 2.0, motion.scale * bbox.height() / 2.0);
    let (x, y) = (x + motion.by.0, y + motion.by.1);
    BBox::new(x - w, y - h, x + w, y + h)
}

fn edges(bbox: &BBox) -> [f32; 4] {
    [bbox.x1, bbox.y1, bbox.x2, bbox.y2]
}

/// A box of these edges, not turned inside out.
fn ordered([x1, y1, x2, y2]: [f32; 4]) -> BBox {
    BBox::new(x1.min(x2), y1.min(y2), x2.max(x1), y2.max(y1))
}

fn mean_side(bbox: &BBox) -> f32 {
    f32::midpoint(bbox.width(), bbox.height()).max(1.0)
}

fn noise_of(bbox: &BBox) -> f32 {
    NOISE_SHARE * mean_side(bbox) + NOISE_LEAST
}

/// Which edges lie on the picture's border, as nearly as a detector tells.
fn open_edges(bbox: &BBox, (width, height): (f32, f32)) -> [bool; 4] {
    let near = noise_of(bbox).min(2.0);
    [bbox.x1 <= near, bbox.y1 <= near, bbox.x2 >= width - near, bbox.y2 >= height - near]
}
