//! Decoded pictures in planes, and the pool that their memory comes from.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::SystemTime;

use super::{FrameLedger, RtpTimestamp};

/// The longest side of a picture that is accepted, in pixels (8K).
pub const MAX_SIDE: usize = 8192;

/// How many spare buffers a pool keeps: the decoder's, the detector's, the one being drawn on, and one in hand.
const SPARE_BUFFERS: usize = 4;

/// Which plane of an I420 picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plane {
    /// Luma, full size.
    Y,
    /// Blue difference, half size each way (rounded up).
    U,
    /// Red difference, half size each way (rounded up).
    V,
}

/// A picture in I420: a luma plane and two quarter-size chroma planes, contiguous and without padding, BT.601 limited
/// range unless the source said otherwise.
///
/// Cloning copies the pixels into a buffer of the same pool, so that `Arc::make_mut` is the copy-on-write that lets a
/// frame be drawn on while the detector still reads the original.
#[derive(Debug)]
pub struct I420Frame {
    width: usize,
    height: usize,
    data: Vec<u8>,
    home: Weak<Shelf>,
}

#[derive(Debug, Default)]
struct Shelf(Mutex<Vec<Vec<u8>>>);

impl Shelf {
    fn take(&self, len: usize) -> Option<Vec<u8>> {
        let mut spare = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = spare.iter().position(|buffer| buffer.len() == len)?;
        Some(spare.swap_remove(found))
    }

    fn give(&self, buffer: Vec<u8>) {
        let mut spare = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // After a change of resolution the old size is of no more use: what differs from the newest goes.
        spare.retain(|kept| kept.len() == buffer.len());
        if spare.len() < SPARE_BUFFERS {
            spare.push(buffer);
        }
    }
}

/// A pool of picture buffers of one stream. Cheap to clone; the memory goes when the last clone goes.
#[derive(Clone, Debug, Default)]
pub struct FramePool(Arc<Shelf>);

impl FramePool {
    /// An empty pool.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A picture of the given size whose pixels are unspecified (zero, or those of an earlier frame).
    ///
    /// # Panics
    /// If a side is 0 or larger than [`MAX_SIDE`]: callers check what comes from outside.
    #[must_use]
    pub fn frame(&self, width: usize, height: usize) -> I420Frame {
        let len = buffer_len(width, height);
        let data = self.0.take(len).unwrap_or_else(|| vec![0; len]);
        I420Frame { width, height, data, home: Arc::downgrade(&self.0) }
    }
}

fn buffer_len(width: usize, height: usize) -> usize {
    assert!((1..=MAX_SIDE).contains(&width) && (1..=MAX_SIDE).contains(&height), "picture of {width}×{height}");
    width * height + 2 * width.div_ceil(2) * height.div_ceil(2)
}

impl I420Frame {
    /// A black picture outside any pool.
    ///
    /// # Panics
    /// If a side is 0 or larger than [`MAX_SIDE`].
    #[must_use]
    pub fn black(width: usize, height: usize) -> Self {
        let mut data = vec![128; buffer_len(width, height)];
        data[..width * height].fill(16);
        Self { width, height, data, home: Weak::new() }
    }

    /// Width of the picture in pixels.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// Height of the picture in pixels.
    #[must_use]
    pub fn height(&self) -> usize {
        self.height
    }

    /// Width and height of a plane, in samples. The width is also the plane's stride.
    #[must_use]
    pub fn plane_size(&self, plane: Plane) -> (usize, usize) {
        match plane {
            Plane::Y => (self.width, self.height),
            Plane::U | Plane::V => (self.width.div_ceil(2), self.height.div_ceil(2)),
        }
    }

    /// The samples of a plane, row by row without padding.
    #[must_use]
    pub fn plane(&self, plane: Plane) -> &[u8] {
        let (y, u) = self.split_points();
        match plane {
            Plane::Y => &self.data[..y],
            Plane::U => &self.data[y..u],
            Plane::V => &self.data[u..],
        }
    }

    /// The three planes, read-only.
    #[must_use]
    pub fn planes(&self) -> (&[u8], &[u8], &[u8]) {
        (self.plane(Plane::Y), self.plane(Plane::U), self.plane(Plane::V))
    }

    /// The three planes to write to.
    pub fn planes_mut(&mut self) -> (&mut [u8], &mut [u8], &mut [u8]) {
        let (y_end, u_end) = self.split_points();
        let (y, chroma) = self.data.split_at_mut(y_end);
        let (u, v) = chroma.split_at_mut(u_end - y_end);
        (y, u, v)
    }

    /// Copies a plane from rows that may be padded.
    ///
    /// # Panics
    /// If `source` is shorter than the plane's rows at `stride`.
    pub fn copy_plane_from(&mut self, plane: Plane, source: &[u8], stride: usize) {
        let (width, height) = self.plane_size(plane);
        let (y, u, v) = self.planes_mut();
        let target = match plane {
            Plane::Y => y,
            Plane::U => u,
            Plane::V => v,
        };
        if stride == width {
            target.copy_from_slice(&source[..width * height]);
        } else {
            for (row, out) in target.chunks_exact_mut(width).enumerate() {
                out.copy_from_slice(&source[row * stride..row * stride + width]);
            }
        }
    }

    fn split_points(&self) -> (usize, usize) {
        let y = self.width * self.height;
        (y, y + self.width.div_ceil(2) * self.height.div_ceil(2))
    }
}

impl Clone for I420Frame {
    fn clone(&self) -> Self {
        let mut data = self.home.upgrade().and_then(|home| home.take(self.data.len())).unwrap_or_default();
        data.resize(self.data.len(), 0);
        data.copy_from_slice(&self.data);
        Self { width: self.width, height: self.height, data, home: self.home.clone() }
    }
}

impl Drop for I420Frame {
    fn drop(&mut self) {
        if let Some(home) = self.home.upgrade() {
            home.give(std::mem::take(&mut self.data));
        }
    }
}

/// A picture with its name, its time and its ledger, on the way from decoder to encoder.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Counts the decoded frames of the stream, from 0.
    pub id: u64,
    /// Source and output timestamps.
    pub rtp_timestamp: RtpTimestamp,
    /// When the sender captured it, by its own clock.
    pub captured: Option<SystemTime>,
    /// The pixels, shared with the detector.
    pub picture: Arc<I420Frame>,
    /// When it passed which door.
    pub ledger: FrameLedger,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_dropped_frame_gives_its_buffer_back() {
        let pool = FramePool::new();
        let mut first = pool.frame(64, 48);
        first.planes_mut().0[0] = 77;
        drop(first);
        assert_eq!(pool.frame(64, 48).plane(Plane::Y)[0], 77, "the same memory came back");
    }

    #[test]
    fn the_pool_is_bounded_and_forgets_old_sizes() {
        let pool = FramePool::new();
        drop((0..10).map(|_| pool.frame(64, 48)).collect::<Vec<_>>());
        assert_eq!(pool.0.0.lock().unwrap().len(), SPARE_BUFFERS);
        drop(pool.frame(32, 32));
        assert_eq!(pool.0.0.lock().unwrap().len(), 1);
    }

    #[test]
    fn drawing_on_a_shared_frame_leaves_the_original_alone() {
        let original = Arc::new(FramePool::new().frame(16, 16));
        let mut drawn = Arc::clone(&original);
        Arc::make_mut(&mut drawn).planes_mut().0.fill(200);
        assert!(original.plane(Plane::Y).iter().all(|&y| y == 0));
    }

    proptest! {
        #[test]
        fn planes_cover_the_buffer_without_overlap(width in 1usize..70, height in 1usize..70, pad in 0usize..9) {
            let mut frame = I420Frame::black(width, height);
            for (plane, value) in [(Plane::Y, 1u8), (Plane::U, 2), (Plane::V, 3)] {
                let (w, h) = frame.plane_size(plane);
                frame.copy_plane_from(plane, &vec![value; (w + pad) * h], w + pad);
            }
            let (y, u, v) = frame.planes();
            prop_assert!(y.iter().all(|&s| s == 1) && u.iter().all(|&s| s == 2) && v.iter().all(|&s| s == 3));
            prop_assert_eq!(y.len() + u.len() + v.len(), frame.data.len());
        }
    }
}
