//! Decoding order to order of presentation.

use super::Picture;

/// The most pictures that any stream reorders (§A.3.1, `MaxDpbFrames`).
const MAX_DEPTH: usize = 16;

/// Holds as many pictures back as the stream reorders, and gives the earliest by RTP timestamp (presentation time, RFC
/// 6184 §5.1) beyond them. At depth 0, which is every stream without B slices, it holds nothing.
#[derive(Debug, Default)]
pub struct Reorder {
    depth: usize,
    /// With the number of the IDR that each follows: pictures of an earlier one go first, whatever their timestamps.
    held: Vec<(u64, Picture)>,
    idrs: u64,
    last: Option<(u64, u32)>,
}

impl Reorder {
    /// Reorders `frames` pictures from now on. Pictures beyond a smaller depth are forgotten, or they would delay every
    /// later one.
    pub fn set_depth(&mut self, frames: u32) {
        self.depth = usize::try_from(frames).unwrap_or(MAX_DEPTH).min(MAX_DEPTH);
        while self.held.len() > self.depth {
            self.next();
        }
    }

    /// Takes a picture in decoding order and gives the one that is due. A B picture that comes after a later one was
    /// given shows that the stream reorders more than it said: it is lost, and those after it are not.
    pub fn put(&mut self, picture: Picture, idr: bool, b_slice: bool) -> Option<Picture> {
        self.idrs += u64::from(idr);
        let late = self.last.is_some_and(|last| precedes((self.idrs, picture.rtp_timestamp), last));
        if late && b_slice && self.depth < MAX_DEPTH {
            self.depth += 1;
            return None;
        }
        if self.depth == 0 {
            self.last = Some((self.idrs, picture.rtp_timestamp));
            return Some(picture);
        }
        self.held.push((self.idrs, picture));
        if self.held.len() > self.depth { self.next() } else { None }
    }

    /// The earliest picture held.
    pub fn next(&mut self) -> Option<Picture> {
        let mut earliest = 0;
        for (at, (idr, picture)) in self.held.iter().enumerate() {
            let (other_idr, other) = self.held.get(earliest)?;
            if precedes((*idr, picture.rtp_timestamp), (*other_idr, other.rtp_timestamp)) {
                earliest = at;
            }
        }
        if self.held.is_empty() {
            return None;
        }
        let (idr, picture) = self.held.remove(earliest);
        self.last = Some((idr, picture.rtp_timestamp));
        Some(picture)
    }

    /// Forgets every picture held.
    pub fn clear(&mut self) {
        self.held.clear();
    }
}

/// Whether a picture, given by its IDR and timestamp, is shown before another.
fn precedes((idr, timestamp): (u64, u32), (other_idr, other): (u64, u32)) -> bool {
    const HALF: u32 = 1 << 31;
    idr < other_idr || idr == other_idr && (1..HALF).contains(&other.wrapping_sub(timestamp))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use proptest::prelude::*;

    use super::*;
    use crate::media::I420Frame;

    fn picture(rtp_timestamp: u32) -> Picture {
        let now = Instant::now();
        let picture = I420Frame::black(2, 2);
        Picture { picture, rtp_timestamp, first_packet: now, last_packet: now, captured: None }
    }

    #[test]
    fn without_reordering_every_picture_is_due_at_once() {
        let mut reorder = Reorder::default();
        for at in [u32::MAX - 1, 2, 5, 4] {
            let due = reorder.put(picture(at), false, false);
            assert_eq!(due.map(|picture| picture.rtp_timestamp), Some(at));
        }
    }

    #[test]
    fn an_idr_goes_after_what_came_before_even_if_its_clock_went_back() {
        let mut reorder = Reorder::default();
        reorder.set_depth(1);
        assert!(reorder.put(picture(9000), true, false).is_none());
        assert_eq!(reorder.put(picture(10), true, false).unwrap().rtp_timestamp, 9000);
        assert_eq!(reorder.put(picture(20), false, false).unwrap().rtp_timestamp, 10);
    }

    #[test]
    fn a_late_b_picture_deepens_the_reordering_but_a_jittering_clock_does_not() {
        let mut reorder = Reorder::default();
        assert!(reorder.put(picture(0), true, false).is_some());
        assert!(reorder.put(picture(9), false, false).is_some());
        assert!(reorder.put(picture(8), false, false).is_some(), "no B slice: the clock is to blame");
        assert!(reorder.put(picture(3), false, true).is_none());
        assert_eq!(reorder.depth, 1);
    }

    proptest! {
        #[test]
        fn pictures_come_out_sorted_once_each(start in any::<u32>(), depth in 1u32..4, count in 1usize..40, seed in any::<u64>()) {
            // A decoding order that stays within the depth: each picture may move up by at most `depth` places.
            let mut left: Vec<u32> = (0..count as u32).collect();
            let mut seed = seed;
            let mut reorder = Reorder::default();
            reorder.set_depth(depth);
            let mut out = Vec::new();
            let mut waited = 0;
            while !left.is_empty() {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let ahead = if waited >= depth { 0 } else { (seed >> 33) as usize % 2 };
                let at = ahead.min(left.len() - 1);
                waited = if at == 0 { 0 } else { waited + 1 };
                let value = left.remove(at);
                out.extend(reorder.put(picture(start.wrapping_add(value * 3000)), false, true));
            }
            out.extend(std::iter::from_fn(|| reorder.next()));
            let order: Vec<u32> = out.iter().map(|picture| picture.rtp_timestamp.wrapping_sub(start) / 3000).collect();
            prop_assert_eq!(order, (0..count as u32).collect::<Vec<_>>());
        }
    }
}
