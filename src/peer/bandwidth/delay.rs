//! How long packets stand in a queue on the way.
//!
//! This sender has no pacer: a frame's packets leave together, and the later ones wait for the earlier ones at the narrowest link.
//! That is the frame's size, not congestion. What earlier frames left behind is seen by the packet that waited least: the
//! *standing* queue is the least delay of what arrived in the last tenth of a second (as in Copa, NSDI 2018, §2), over the least of
//! the last twelve seconds. A frame that takes longer than that to arrive is a queue by itself. Clocks need not agree, as only
//! differences count.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The time that the standing queue is the least delay of: three frames, so that jitter of one or two does not count.
const STANDING_MICROS: i64 = 100_000;

/// The least delay is kept for each of so many spans: a clock that drifts by 100 ppm moves by 1.2 ms in all of them.
const BASE_SPANS: usize = 6;
const BASE_SPAN: Duration = Duration::from_secs(2);

/// Packets that are sent within this time of the one before are one burst.
pub(super) const BURST_GAP: Duration = Duration::from_millis(1);

/// A standing queue longer than this is congestion, on a link without jitter.
const THRESHOLD: Duration = Duration::from_millis(25);

/// And however large the jitter, this is.
const MOST_THRESHOLD: Duration = Duration::from_millis(60);

/// A whole packet, and what is granted to it on a slow link at most.
const PACKET_BITS: f64 = 1250.0 * 8.0;
const MOST_OWN_TIME: Duration = Duration::from_millis(60);

/// What one step of the delay adds to the jitter at most: a queue that builds up is none.
const MOST_STEP: i64 = 30_000;

/// The delays of one connection's packets, in microseconds over an offset that is unknown.
#[derive(Debug, Default)]
pub(super) struct Delays {
    spans: VecDeque<(Instant, i64)>,
    /// When packets arrived, by the other side's clock, and their delays: each longer than the one before.
    recent: VecDeque<(i64, i64)>,
    /// The mean step between the first packets of two bursts, as RFC 3550 §6.4.1 has it.
    jitter: f64,
    last_burst: Option<i64>,
    last_sent: Option<Instant>,
}

impl Delays {
    /// A packet sent at `sent` arrived and took `delay`. In the order of sending.
    pub(super) fn put(&mut self, sent: Instant, arrived: i64, delay: i64) {
        let begins = self.last_sent.is_none_or(|last| sent.saturating_duration_since(last) > BURST_GAP);
        self.last_sent = Some(sent);
        if begins {
            if let Some(last) = self.last_burst {
                let step = delay.saturating_sub(last).saturating_abs().min(MOST_STEP);
                self.jitter += (step as f64 - self.jitter) / 16.0;
            }
            self.last_burst = Some(delay);
        }
        match self.spans.back_mut() {
            Some((began, least)) if sent.saturating_duration_since(*began) < BASE_SPAN => *least = delay.min(*least),
            _ => {
                if self.spans.len() == BASE_SPANS {
                    self.spans.pop_front();
                }
                self.spans.push_back((sent, delay));
            }
        }
        let is_past = |(at, _): &(i64, i64)| arrived.saturating_sub(*at) > STANDING_MICROS;
        while self.recent.front().is_some_and(is_past) {
            self.recent.pop_front();
        }
        // What waited longer, and is older, will never be the least.
        while self.recent.back().is_some_and(|(_, older)| *older >= delay) {
            self.recent.pop_back();
        }
        self.recent.push_back((arrived, delay));
    }

    /// The delay of an empty way.
    fn base(&self) -> Option<i64> {
        self.spans.iter().map(|(_, least)| *least).min()
    }

    /// How long this packet waited.
    pub(super) fn waited(&self, delay: i64) -> Duration {
        let over = self.base().map_or(0, |base| delay.saturating_sub(base));
        Duration::from_micros(u64::try_from(over).unwrap_or(0))
    }

    /// The standing queue.
    pub(super) fn standing(&self) -> Duration {
        self.recent.front().map_or(Duration::ZERO, |(_, least)| self.waited(*least))
    }

    /// From where on a standing queue is congestion, where `bps` bits a second are sent.
    pub(super) fn threshold(&self, bps: Option<f64>) -> Duration {
        (THRESHOLD + Duration::from_micros(self.jitter() * 3 / 2)).min(MOST_THRESHOLD) + own_time(bps)
    }

    /// What a packet waits that meets no queue, at most.
    pub(super) fn free(&self, bps: Option<f64>) -> Duration {
        Duration::from_micros(5000 + self.jitter()) + own_time(bps)
    }

    fn jitter(&self) -> u64 {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // 0 to 30000
        let micros = self.jitter as u64;
        micros
    }

    /// The way has become longer: what stands now is the delay of an empty one.
    pub(super) fn accept(&mut self) {
        let Some(&(_, least)) = self.recent.front() else { return };
        self.spans.iter_mut().for_each(|(_, base)| *base = (*base).max(least));
    }
}

/// By how much longer a whole packet takes than a small one on a link of so many bits a second: 33 ms at 300 kbit/s. The least
/// delay is that of a small one, and this is no queue.
fn own_time(bps: Option<f64>) -> Duration {
    let time = bps.map_or(Duration::ZERO, |bps| Duration::from_secs_f64(PACKET_BITS / bps.max(1.0)));
    time.min(MOST_OWN_TIME)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FRAME: f64 = 33.0;
    const OFFSET: i64 = -987_654_321;

    /// A packet that is sent `at` ms after `start` and takes so many.
    fn put(delays: &mut Delays, start: Instant, at: f64, took: i64) {
        let sent = start + Duration::from_micros((at * 1000.0) as u64);
        delays.put(sent, (at * 1000.0) as i64 + OFFSET + took * 1000, OFFSET + took * 1000);
    }

    #[test]
    fn a_large_frame_is_no_standing_queue_and_what_it_leaves_behind_is() {
        let (mut delays, start) = (Delays::default(), Instant::now());
        for n in 0..30 {
            // Twenty packets, each of which waits a millisecond for the one before.
            (0..20).for_each(|packet| put(&mut delays, start, FRAME * f64::from(n), 10 + packet));
            assert_eq!(delays.standing(), Duration::ZERO);
        }
        for n in 30..36 {
            put(&mut delays, start, FRAME * f64::from(n), 10 + 50);
        }
        assert_eq!(delays.standing(), Duration::from_millis(50));
        assert!(delays.standing() > delays.threshold(None));
    }

    #[test]
    fn jitter_is_no_congestion() {
        let (mut delays, start) = (Delays::default(), Instant::now());
        for n in 0..3000u32 {
            // Anything from 0 to 20 ms, by no pattern.
            let jitter = i64::from(n.wrapping_mul(2_654_435_761) >> 16) * 20 / 65_536;
            put(&mut delays, start, FRAME * f64::from(n), 30 + jitter);
            assert!(n < 30 || delays.standing() <= delays.threshold(None), "frame {n}: {:?}", delays.standing());
        }
    }

    #[test]
    fn a_longer_way_is_accepted_in_twelve_seconds_by_itself_and_at_once_on_request() {
        let (mut delays, start) = (Delays::default(), Instant::now());
        put(&mut delays, start, 0.0, 10);
        (1..20).for_each(|n| put(&mut delays, start, FRAME * f64::from(n), 110));
        assert_eq!(delays.standing(), Duration::from_millis(100));
        delays.accept();
        assert_eq!(delays.standing(), Duration::ZERO);
        (20..400).for_each(|n| put(&mut delays, start, FRAME * f64::from(n), 210));
        assert_eq!(delays.standing(), Duration::ZERO, "twelve seconds");
    }

    proptest! {
        #[test]
        fn whatever_the_clocks_say_the_queue_is_that_of_the_same_delays(offset in any::<i64>(), steps in prop::collection::vec((0u64..100, 0i64..1_000_000), 1..200)) {
            let (mut one, mut other, start) = (Delays::default(), Delays::default(), Instant::now());
            let (offset, mut after) = (offset / 4, 0);
            for (step, delay) in steps {
                after += step;
                let (sent, arrived) = (start + Duration::from_millis(after), after as i64 * 1000 + delay);
                one.put(sent, arrived, delay);
                other.put(sent, offset + arrived, offset + delay);
                prop_assert_eq!(one.standing(), other.standing());
                prop_assert_eq!(one.threshold(None), other.threshold(None));
            }
        }
    }
}
