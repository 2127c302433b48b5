//! Which lost packets are sent once more.
//!
//! A receiver asks again every 20 ms or so. What was sent once more is on its way for a round trip, and behind a full queue for longer:
//! to send it at each request fills the link with copies, and what is lost then is asked for too. So a packet is repeated once in the
//! time that it needs to arrive, and all repetitions together have a share of the rate. What is not repeated the receiver gives up,
//! and asks for an IDR.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The share of the rate that repetitions may take; a link that loses more is better off with an IDR.
const SHARE: f64 = 0.25;

/// What was not used of it is kept for this long.
const KEPT: Duration = Duration::from_millis(500);

/// A repeated packet is reckoned to be so large, in bits.
const PACKET_BITS: f64 = 1250.0 * 8.0;

/// Two requests within this time are one, however short the round trip.
const LEAST_INTERVAL: Duration = Duration::from_millis(30);

/// The round trip before one was measured.
const ROUND_TRIP: Duration = Duration::from_millis(100);

/// The repetitions that are remembered.
const MOST: usize = 512;

/// What has been sent once more.
#[derive(Debug, Default)]
pub(super) struct Repairs {
    sent: VecDeque<(u16, Instant)>,
    /// Bits that may be used at this moment.
    budget: Option<(f64, Instant)>,
}

impl Repairs {
    /// Whether the packet of this sequence number is sent once more. `queue`: what stands on the way; `bps`: the rate, once known.
    pub(super) fn admit(
        &mut self,
        sequence_number: u16,
        now: Instant,
        round_trip: Option<Duration>,
        queue: Duration,
        bps: Option<f64>,
    ) -> bool {
        let way = round_trip.unwrap_or(ROUND_TRIP).max(queue).max(LEAST_INTERVAL);
        while self.sent.len() >= MOST {
            self.sent.pop_front();
        }
        let is_on_its_way =
            |(number, at): &(u16, Instant)| *number == sequence_number && now.saturating_duration_since(*at) < way;
        if self.sent.iter().any(is_on_its_way) {
            return false;
        }
        if let Some(bps) = bps {
            let most = (bps * SHARE * KEPT.as_secs_f64()).max(PACKET_BITS);
            let (left, at) = self.budget.unwrap_or((most, now));
            let earned = bps * SHARE * now.saturating_duration_since(at).as_secs_f64();
            let left = (left + earned).min(most);
            let affordable = left >= PACKET_BITS;
            self.budget = Some((if affordable { left - PACKET_BITS } else { left }, now));
            if !affordable {
                return false;
            }
        }
        self.sent.push_back((sequence_number, now));
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_packet_is_repeated_once_in_a_round_trip() {
        let (mut repairs, start) = (Repairs::default(), Instant::now());
        let mut ask = |number, ms, queue| {
            let now = start + Duration::from_millis(ms);
            repairs.admit(number, now, Some(Duration::from_millis(50)), Duration::from_millis(queue), None)
        };
        let asked = [(7, 0, 0), (7, 20, 0), (8, 20, 0), (7, 40, 0), (7, 60, 0), (7, 120, 300), (7, 400, 300)];
        assert_eq!(asked.map(|(n, ms, queue)| ask(n, ms, queue)), [true, false, true, false, true, false, true]);
    }

    #[test]
    fn repetitions_have_a_share_of_the_rate() {
        let (mut repairs, start) = (Repairs::default(), Instant::now());
        let mut sent = 0;
        for n in 0..10_000u32 {
            let now = start + Duration::from_millis(u64::from(n));
            sent += u32::from(repairs.admit(n as u16, now, None, Duration::ZERO, Some(300e3)));
        }
        // A quarter of 300 kbit/s for ten seconds is 75 packets, and what was kept at first three.
        assert!((70..80).contains(&sent), "{sent}");
    }

    proptest! {
        #[test]
        fn whatever_is_asked_the_share_holds(asked in prop::collection::vec((any::<u16>(), 0u64..50), 1..500), bps in 1e4..1e7f64) {
            let (mut repairs, start) = (Repairs::default(), Instant::now());
            let (mut after, mut sent) = (0, 0.0);
            for (number, step) in asked {
                after += step;
                let now = start + Duration::from_millis(after);
                sent += f64::from(u8::from(repairs.admit(number, now, None, Duration::ZERO, Some(bps))));
            }
            let seconds = after as f64 / 1000.0 + KEPT.as_secs_f64();
            prop_assert!(sent * PACKET_BITS <= bps * SHARE * seconds + 2.0 * PACKET_BITS);
        }
    }
}
