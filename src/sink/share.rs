//! How much of a narrow link a viewer's messages may take: the picture goes first.
//!
//! A bucket of bits fills at a share of what the link carries, or with what the picture leaves. What the detector found may take it
//! down to nothing and into one message's debt; what was drawn in each frame only what is left above the half. So the latter become
//! fewer first. Who watches over a link too narrow for either gets a few of both, and those of IDRs, which stand alone.
//!
//! The rate that is tried is no measure of a link that was never full: a picture that is easy to encode would make it look narrow.

use std::time::{Duration, Instant};

/// The share of a narrow link that messages take at most.
const SHARE: f64 = 0.12;

/// What was not used of it is kept for this long.
const KEPT: Duration = Duration::from_millis(500);

/// What a message grows by on its way: a chunk and the header of SCTP (RFC 9260 §3), a record of DTLS 1.2 with its tag (RFC 6347
/// §4.1, RFC 5288 §3), UDP and IPv4.
const WIRE_OVERHEAD: usize = 28 + 37 + 28;

/// What a message is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// What was drawn in a frame.
    Frame,
    /// What the detector found.
    Detections,
}

impl Topic {
    /// However narrow the link, one of these may go in so long a time.
    const fn at_least_every(self) -> Duration {
        match self {
            Self::Frame => Duration::from_secs(1),
            Self::Detections => Duration::from_millis(500),
        }
    }
}

/// The share of one viewer's messages.
#[derive(Debug, Default)]
pub(super) struct Share {
    /// What messages may take, in bits a second, where it is known what the link carries.
    limit: Option<f64>,
    /// Bits that may be used at this moment.
    bucket: Option<(f64, Instant)>,
    /// When the last message of each topic was let through.
    frame: Option<Instant>,
    detections: Option<Instant>,
}

impl Share {
    /// The link carries so many bits a second and no more, of which the picture leaves `spare`; or nobody knows, as it was not full.
    pub(super) fn set_link(&mut self, link: Option<(f64, f64)>) {
        let known = link.filter(|(bps, _)| *bps > 0.0);
        self.limit = known.map(|(bps, spare)| (bps * SHARE).max(spare.min(bps)));
    }

    /// Whether a message of so many bytes goes out now.
    pub(super) fn admits(&mut self, topic: Topic, bytes: usize, now: Instant) -> bool {
        let Some(limit) = self.limit else { return true };
        let most = limit * KEPT.as_secs_f64();
        let (left, at) = self.bucket.unwrap_or((most, now));
        let left = (left + limit * now.saturating_duration_since(at).as_secs_f64()).min(most);
        let (last, least) = match topic {
            Topic::Frame => (&mut self.frame, most / 2.0),
            Topic::Detections => (&mut self.detections, 0.0),
        };
        let overdue = last.is_none_or(|last| now.saturating_duration_since(last) >= topic.at_least_every());
        let admitted = left > least || overdue;
        let cost = if admitted { (bytes + WIRE_OVERHEAD) as f64 * 8.0 } else { 0.0 };
        if admitted {
            *last = Some(now);
        }
        // What had to go all the same is not made up for by a long silence.
        self.bucket = Some(((left - cost).max(-most), now));
        admitted
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Messages of each topic that go out in ten seconds, of 30 and `found` a second that want to.
    fn ten_seconds(link: Option<(f64, f64)>, found: u64) -> (u32, u32) {
        let (mut share, start) = (Share::default(), Instant::now());
        share.set_link(link);
        let (mut frames, mut detections) = (0, 0);
        for ms in 0..10_000u64 {
            let now = start + Duration::from_millis(ms);
            let is_due = |rate: u64| ms * rate / 1000 != (ms + 1) * rate / 1000;
            detections += u32::from(is_due(found) && share.admits(Topic::Detections, 500, now));
            frames += u32::from(is_due(30) && share.admits(Topic::Frame, 700, now));
        }
        (frames, detections)
    }

    #[test]
    fn a_wide_link_or_one_that_nobody_knows_carries_all() {
        assert_eq!(ten_seconds(None, 30), (300, 300));
        assert_eq!(ten_seconds(Some((5e6, 0.0)), 30), (300, 300));
        assert_eq!(ten_seconds(Some((f64::NAN, f64::NAN)), 30), (300, 300));
        assert_eq!(ten_seconds(Some((900e3, 400e3)), 30), (300, 300), "nor one that the picture leaves empty");
    }

    #[test]
    fn what_was_drawn_gives_way_to_what_was_found() {
        let (frames, detections) = ten_seconds(Some((800e3, 0.0)), 15);
        assert_eq!(detections, 150);
        assert!((30..120).contains(&frames), "{frames}");
    }

    #[test]
    fn both_become_few_on_a_narrow_link_and_neither_ends() {
        let (frames, detections) = ten_seconds(Some((300e3, 0.0)), 30);
        assert!((9..=12).contains(&frames), "{frames}");
        assert!((40..80).contains(&detections), "{detections}");
        let (frames, detections) = ten_seconds(Some((20e3, 0.0)), 30);
        assert!((9..=12).contains(&frames) && (18..=22).contains(&detections), "{frames}, {detections}");
    }

    proptest! {
        #[test]
        fn the_share_holds_whatever_wants_to_go(link in 10e3..2e6, steps in prop::collection::vec((0u64..100, any::<bool>(), 0usize..4000), 1..400)) {
            let (mut share, start) = (Share::default(), Instant::now());
            share.set_link(Some((link, 0.0)));
            let (mut after, mut bits, mut largest) = (0, 0.0, 0.0f64);
            for (step, found, bytes) in steps {
                after += step;
                let topic = if found { Topic::Detections } else { Topic::Frame };
                let size = (bytes + WIRE_OVERHEAD) as f64 * 8.0;
                if share.admits(topic, bytes, start + Duration::from_millis(after)) {
                    bits += size;
                    largest = largest.max(size);
                }
            }
            let seconds = after as f64 / 1000.0;
            // What was kept, one debt of each topic, and three a second that go whatever else does.
            let most = link * SHARE * (seconds + KEPT.as_secs_f64()) + largest * (4.0 + 3.0 * seconds);
            prop_assert!(bits <= most, "{} of {}", bits, most);
        }
    }
}
