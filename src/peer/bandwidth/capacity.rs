//! What the narrowest link on the way carries, read from when packets arrive.
//!
//! While a queue stands at it, packets leave the link at its own rate. And each frame is a burst: its packets arrive as far apart
//! as the link needs for each. So ordinary video tells what the link could carry, and nothing has to be sent for that alone.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::delay::BURST_GAP;

/// The time over which what arrives is counted.
const WINDOW_MICROS: i64 = 500_000;

/// And while the link is busy: what it carried before it became narrower should not count for long.
const BUSY_WINDOW_MICROS: i64 = 250_000;

/// Less than this says little of a rate that comes in bursts.
const LEAST_MICROS: i64 = 150_000;

/// A busy link is measured over at least this time; feedback tells arrivals by 0.25 ms.
const LEAST_BUSY_MICROS: i64 = 20_000;

/// The most arrivals that are kept, whatever the other side's clock says: half a second of 80 Mbit/s.
const MOST_ARRIVALS: usize = 4096;

/// A burst is measured if so many bytes stood behind its first packet.
const LEAST_BURST_BYTES: usize = 500;

/// Fewer bursts than this say nothing.
const LEAST_BURSTS: usize = 3;

/// Bursts that are held up by less than this on average name no limit: feedback tells arrivals by 0.25 ms.
const LEAST_BURST_MICROS: i64 = 500;

/// How long a burst counts.
const BURST_AGE: Duration = Duration::from_secs(1);

/// The bursts that are kept.
const MOST_BURSTS: usize = 64;

/// A packet that arrived, in microseconds of the other side's clock.
#[derive(Clone, Copy, Debug)]
struct Arrival {
    at: i64,
    bytes: usize,
}

/// The last arrivals.
#[derive(Debug)]
struct Window {
    length: i64,
    arrivals: VecDeque<Arrival>,
    bytes: usize,
}

impl Window {
    fn new(length: i64) -> Self {
        Self { length, arrivals: VecDeque::new(), bytes: 0 }
    }

    fn put(&mut self, arrival: Arrival) {
        self.arrivals.push_back(arrival);
        self.bytes += arrival.bytes;
        while let Some(front) = self.arrivals.front()
            && (arrival.at.saturating_sub(front.at) > self.length || self.arrivals.len() > MOST_ARRIVALS)
        {
            self.bytes -= front.bytes;
            self.arrivals.pop_front();
        }
    }

    fn clear(&mut self) {
        self.arrivals.clear();
        self.bytes = 0;
    }

    fn span(&self) -> i64 {
        let (Some(first), Some(last)) = (self.arrivals.front(), self.arrivals.back()) else { return 0 };
        last.at.saturating_sub(first.at)
    }
}

/// Bits a second.
fn rate(bytes: usize, micros: i64) -> f64 {
    bytes as f64 * 8_000_000.0 / micros as f64
}

/// The packets of one burst.
#[derive(Debug)]
struct Burst {
    sent: (Instant, Instant),
    arrived: (i64, i64),
    /// All but the first packet's, whose own time on the link is not seen.
    bytes: usize,
}

/// The rates of one connection's way.
#[derive(Debug)]
pub(super) struct Capacity {
    arrived: Window,
    /// Arrivals since the link was idle last.
    busy: Window,
    burst: Option<Burst>,
    /// When each was sent, the bytes behind its first packet, and how long they took.
    bursts: VecDeque<(Instant, usize, i64)>,
}

impl Default for Capacity {
    fn default() -> Self {
        let (arrived, busy) = (Window::new(WINDOW_MICROS), Window::new(BUSY_WINDOW_MICROS));
        Self { arrived, busy, burst: None, bursts: VecDeque::new() }
    }
}

impl Capacity {
    /// A packet arrived; `waited`: it met a queue. In the order of sending.
    pub(super) fn put(&mut self, sent: Instant, arrived: i64, bytes: usize, waited: bool) {
        let arrival = Arrival { at: arrived, bytes };
        self.arrived.put(arrival);
        if waited {
            self.busy.put(arrival);
        } else {
            self.busy.clear();
        }
        match &mut self.burst {
            Some(burst) if sent.saturating_duration_since(burst.sent.1) <= BURST_GAP => {
                burst.sent.1 = sent;
                burst.arrived.1 = burst.arrived.1.max(arrived);
                burst.bytes += bytes;
            }
            _ => {
                self.end_burst();
                self.burst = Some(Burst { sent: (sent, sent), arrived: (arrived, arrived), bytes: 0 });
            }
        }
    }

    /// The feedback is at its end: the last burst is whole, or as good as.
    pub(super) fn end_burst(&mut self) {
        let Some(burst) = self.burst.take().filter(|burst| burst.bytes >= LEAST_BURST_BYTES) else { return };
        let took = burst.arrived.1.saturating_sub(burst.arrived.0).max(0);
        let sending = i64::try_from(burst.sent.1.saturating_duration_since(burst.sent.0).as_micros());
        // Who sends no faster than the link carries sees itself.
        if sending.is_ok_and(|sending| sending > LEAST_BURST_MICROS && sending * 3 / 2 > took) {
            return;
        }
        if self.bursts.len() == MOST_BURSTS {
            self.bursts.pop_front();
        }
        self.bursts.push_back((burst.sent.1, burst.bytes, took));
    }

    /// What arrives, in bits a second.
    pub(super) fn arriving(&self) -> Option<f64> {
        let span = self.arrived.span();
        // Bursts come at the window's edges: the time between them belongs to it.
        (span >= LEAST_MICROS).then(|| rate(self.arrived.bytes, span.clamp(LEAST_MICROS, WINDOW_MICROS)))
    }

    /// What the link carries, while a queue stands at it.
    pub(super) fn carried(&self) -> Option<f64> {
        let (span, first) = (self.busy.span(), self.busy.arrivals.front()?);
        (span >= LEAST_BUSY_MICROS).then(|| rate(self.busy.bytes - first.bytes, span))
    }

    /// What the bursts of the last second say that the link could carry. Jitter that keeps the order makes a burst longer, never
    /// shorter on average, so it is rather too little than too much. `None` where they were not held up, or there were too few:
    /// nothing says that there is a limit.
    pub(super) fn of_bursts(&self, now: Instant) -> Option<f64> {
        let young = self.bursts.iter().filter(|(at, ..)| now.saturating_duration_since(*at) <= BURST_AGE);
        let (count, bytes, micros) = young.fold((0, 0, 0i64), |(count, bytes, micros), (_, more, took)| {
            (count + 1, bytes + more, micros.saturating_add(*took))
        });
        let held_up = i64::try_from(count).is_ok_and(|count| micros > LEAST_BURST_MICROS * count);
        (count >= LEAST_BURSTS && held_up).then(|| rate(bytes, micros))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Frames of `packets` through a link of `bps`; the delay of the last packet.
    fn play(capacity: &mut Capacity, bps: f64, packets: usize, frames: u32, start: Instant) -> i64 {
        let mut free = 0;
        let mut delay = 0;
        for n in 0..frames {
            let sent = i64::from(n) * 33_333;
            for _ in 0..packets {
                let begins = free.max(sent);
                free = begins + (1200.0 * 8e6 / bps) as i64;
                delay = free - sent;
                let waited = begins - sent > 5000;
                capacity.put(start + Duration::from_micros(sent as u64), free + 77, 1200, waited);
            }
        }
        capacity.end_burst();
        delay
    }

    #[test]
    fn a_burst_tells_what_an_idle_link_could_carry() {
        let (mut capacity, start) = (Capacity::default(), Instant::now());
        // A sixth of the link is used.
        play(&mut capacity, 6e6, 4, 30, start);
        let now = start + Duration::from_secs(1);
        let seen = capacity.of_bursts(now).unwrap();
        assert!((5.5e6..6.5e6).contains(&seen), "{seen}");
        let arriving = capacity.arriving().unwrap();
        assert!((1.0e6..1.4e6).contains(&arriving), "{arriving}");
        assert_eq!(capacity.of_bursts(now + Duration::from_secs(3)), None, "that is long ago");
    }

    #[test]
    fn a_busy_link_tells_its_rate_within_a_tenth() {
        let (mut capacity, start) = (Capacity::default(), Instant::now());
        let delay = play(&mut capacity, 300e3, 3, 15, start);
        assert!(delay > 400_000);
        let carried = capacity.carried().unwrap();
        assert!((270e3..330e3).contains(&carried), "{carried}");
    }

    #[test]
    fn single_packets_and_a_fast_link_name_no_limit() {
        let (mut capacity, start) = (Capacity::default(), Instant::now());
        play(&mut capacity, 1e9, 10, 30, start);
        play(&mut capacity, 3e6, 1, 30, start + Duration::from_secs(1));
        assert_eq!(capacity.of_bursts(start + Duration::from_secs(2)), None);
        assert_eq!(capacity.carried(), None);
    }

    proptest! {
        #[test]
        fn rates_are_positive_and_finite_whatever_arrives(packets in prop::collection::vec((0u64..50_000, any::<i64>(), 0usize..2000, any::<bool>()), 0..300)) {
            let (mut capacity, start) = (Capacity::default(), Instant::now());
            let mut at = start;
            for (step, arrived, bytes, waited) in packets {
                at += Duration::from_micros(step);
                capacity.put(at, arrived, bytes, waited);
                capacity.end_burst();
                for rate in [capacity.arriving(), capacity.carried(), capacity.of_bursts(at)].into_iter().flatten() {
                    prop_assert!(rate.is_finite() && rate >= 0.0);
                }
            }
        }
    }
}
