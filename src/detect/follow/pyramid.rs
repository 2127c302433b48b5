//! The luma of the last pictures, small: what the motion of objects is read from.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::media::{I420Frame, Plane};

/// Pictures are halved until the longer side is at most this: enough for a tenth of a pixel of the source.
const LONGEST_SIDE: usize = 960;

/// Planes of a pyramid, each half of the one before.
pub(super) const LEVELS: usize = 3;

/// The most pictures that are kept: half a second at 60 a second, which only a detector that hangs makes use of.
const MOST_PICTURES: usize = 32;

/// A plane of luma without padding.
#[derive(Clone, Debug, Default)]
pub(super) struct Level {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) data: Vec<u8>,
}

impl Level {
    /// `count` samples of row `y` from `x` on, where they are inside.
    #[inline]
    pub(super) fn run(&self, x: isize, y: isize, count: usize) -> Option<&[u8]> {
        let (x, y) = (usize::try_from(x).ok()?, usize::try_from(y).ok()?);
        if y >= self.height || x + count > self.width {
            return None;
        }
        self.data.get(y * self.width + x..y * self.width + x + count)
    }

    /// Becomes `source` at half the size: each sample the mean of four. An odd last column or row is left out.
    fn halve(&mut self, source: &[u8], width: usize, height: usize) {
        self.width = width / 2;
        self.height = height / 2;
        self.data.resize(self.width * self.height, 0);
        if self.width == 0 {
            return;
        }
        for (row, out) in self.data.chunks_exact_mut(self.width).enumerate() {
            let Some(rows) = source.get(2 * row * width..(2 * row + 2) * width) else { return };
            let (upper, lower) = rows.split_at(width);
            for ((out, a), b) in out.iter_mut().zip(upper.chunks_exact(2)).zip(lower.chunks_exact(2)) {
                let sum = u16::from(a[0]) + u16::from(a[1]) + u16::from(b[0]) + u16::from(b[1]);
                #[allow(clippy::cast_possible_truncation)] // a mean of bytes
                let mean = ((sum + 2) / 4) as u8;
                *out = mean;
            }
        }
    }
}

/// One picture's luma in [`LEVELS`] sizes.
#[derive(Clone, Debug, Default)]
pub(super) struct Pyramid {
    /// Source pixels for each sample of the largest level, along a side.
    pub(super) step: usize,
    pub(super) levels: [Level; LEVELS],
    /// In between, where a picture is halved more than once.
    spare: Level,
}

impl Pyramid {
    fn build(&mut self, picture: &I420Frame) {
        let (mut width, mut height) = (picture.width(), picture.height());
        let mut base = std::mem::take(&mut self.levels[0]);
        self.step = 1;
        if width.max(height) <= LONGEST_SIDE {
            base.width = width;
            base.height = height;
            base.data.clear();
            base.data.extend_from_slice(picture.plane(Plane::Y));
        } else {
            base.halve(picture.plane(Plane::Y), width, height);
            self.step = 2;
            while base.width.max(base.height) > LONGEST_SIDE {
                self.spare.halve(&base.data, base.width, base.height);
                std::mem::swap(&mut self.spare, &mut base);
                self.step *= 2;
            }
        }
        (width, height) = (base.width, base.height);
        self.levels[0] = base;
        for n in 1..LEVELS {
            let (below, above) = self.levels.split_at_mut(n);
            let (Some(below), Some(above)) = (below.last(), above.first_mut()) else { return };
            above.halve(&below.data, width, height);
            (width, height) = (above.width, above.height);
        }
    }
}

/// A picture that was shown, or was about to be.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) frame_id: u64,
    pub(super) at: Instant,
    /// As it came, until its pyramid is needed.
    whole: Option<Arc<I420Frame>>,
    pub(super) pyramid: Pyramid,
}

impl Kept {
    fn build(&mut self) {
        if let Some(picture) = self.whole.take() {
            self.pyramid.build(&picture);
        }
    }
}

/// The last pictures of a stream, oldest first, all of one size.
#[derive(Debug, Default)]
pub(super) struct Pictures {
    kept: VecDeque<Kept>,
    spare: Vec<Pyramid>,
    size: (usize, usize),
}

impl Pictures {
    /// Takes a picture. Those older than `memory`, or of another size, go. Nothing is computed yet.
    pub(super) fn push(&mut self, frame_id: u64, at: Instant, picture: &Arc<I420Frame>, memory: Duration) {
        let size = (picture.width(), picture.height());
        if size != self.size {
            self.clear();
            self.size = size;
        }
        while self.kept.len() >= MOST_PICTURES
            || self.kept.front().is_some_and(|oldest| at.saturating_duration_since(oldest.at) > memory)
        {
            self.spare.extend(self.kept.pop_front().map(|kept| kept.pyramid));
        }
        // Two are enough to go on with; the rest was the memory of a faster stream.
        self.spare.truncate(2);
        let pyramid = self.spare.pop().unwrap_or_default();
        self.kept.push_back(Kept { frame_id, at, whole: Some(Arc::clone(picture)), pyramid });
    }

    /// Makes the pyramids of all that are kept, and lets go of the pictures themselves.
    pub(super) fn build(&mut self) {
        self.kept.iter_mut().for_each(Kept::build);
    }

    /// A result of picture `frame_id` is there, and none of an older one will be.
    pub(super) fn forget_before(&mut self, frame_id: u64) {
        while self.kept.get(1).is_some_and(|second| second.frame_id <= frame_id) {
            self.spare.extend(self.kept.pop_front().map(|kept| kept.pyramid));
        }
    }

    fn clear(&mut self) {
        self.kept.clear();
        self.spare.clear();
    }

    pub(super) fn find(&self, frame_id: u64) -> Option<&Kept> {
        self.kept.binary_search_by_key(&frame_id, |kept| kept.frame_id).ok().and_then(|n| self.kept.get(n))
    }

    /// Those after `frame_id`, oldest first.
    pub(super) fn after(&self, frame_id: u64) -> impl ExactSizeIterator<Item = &Kept> {
        let begin = self.kept.partition_point(|kept| kept.frame_id <= frame_id);
        self.kept.range(begin..)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_sample_is_the_mean_of_four() {
        let mut level = Level::default();
        level.halve(&[0, 4, 9, 0, 4, 8, 9, 0, 1, 1, 1, 1], 4, 3);
        assert_eq!((level.width, level.height, level.data), (2, 1, vec![4, 5]));
    }

    #[test]
    fn the_pictures_are_bounded_by_number_and_by_age() {
        let (mut pictures, now) = (Pictures::default(), Instant::now());
        let picture = Arc::new(I420Frame::black(64, 48));
        for n in 0..50u32 {
            pictures.push(u64::from(n), now + n * Duration::from_millis(33), &picture, Duration::from_secs(2));
        }
        assert_eq!(pictures.kept.len(), MOST_PICTURES);
        assert!(pictures.find(18).is_some() && pictures.find(17).is_none());
        assert_eq!(pictures.after(46).map(|kept| kept.frame_id).collect::<Vec<_>>(), [47, 48, 49]);
        pictures.forget_before(46);
        assert!(pictures.find(45).is_none() && pictures.find(46).is_some());
        pictures.push(50, now + Duration::from_secs(9), &picture, Duration::from_secs(2));
        assert_eq!(pictures.kept.len(), 1);
        pictures.push(51, now + Duration::from_secs(9), &Arc::new(I420Frame::black(32, 32)), Duration::from_secs(2));
        assert_eq!(pictures.kept.len(), 1, "another size is another world");
    }

    proptest! {
        #[test]
        fn every_size_has_its_pyramid(width in 1usize..2200, height in 1usize..40, flip in any::<bool>()) {
            let (width, height) = if flip { (height, width) } else { (width, height) };
            let mut pyramid = Pyramid::default();
            pyramid.build(&I420Frame::black(width, height));
            prop_assert!(pyramid.levels[0].width.max(pyramid.levels[0].height) <= LONGEST_SIDE);
            let (mut w, mut h) = (width / pyramid.step, height / pyramid.step);
            for level in &pyramid.levels {
                prop_assert_eq!((level.width, level.height, level.data.len()), (w, h, w * h));
                prop_assert!(level.data.iter().all(|&y| y == 16));
                (w, h) = (w / 2, h / 2);
            }
        }
    }
}
