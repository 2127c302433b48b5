//! What was sent, until the other side has said what became of it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Packets that are remembered: two seconds of 20 Mbit/s.
const MOST: usize = 4096;

/// A packet of which nothing was heard for this long is of no use any more.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(10);

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It has not come.
    Lost,
    /// It came, and nobody says when.
    Came,
    /// It came then, in microseconds of the other side's clock.
    CameAt(i64),
}

/// What the other side says of a packet, by its transport-wide number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fate {
    pub(super) number: u16,
    pub(super) outcome: Outcome,
}

/// A packet with what became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Report {
    /// When it was sent.
    pub(super) sent: Instant,
    /// Bytes on the wire.
    pub(super) bytes: usize,
    pub(super) outcome: Outcome,
    /// It had been said to be lost.
    pub(super) was_lost: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Nothing,
    Lost,
    Arrived,
}

#[derive(Debug)]
struct Sent {
    at: Instant,
    bytes: usize,
    known: Known,
}

/// The packets of the last seconds, in the order of their numbers.
#[derive(Debug, Default)]
pub(super) struct History {
    packets: VecDeque<Sent>,
    /// The number of the oldest.
    first: u16,
}

impl History {
    /// A packet was sent; `number` is one more than the last one's.
    pub(super) fn sent(&mut self, number: u16, bytes: usize, at: Instant) {
        #[allow(clippy::cast_possible_truncation)] // at most 4096
        let next = self.first.wrapping_add(self.packets.len() as u16);
        if number != next {
            // Somebody else numbers too, or begins anew: what was before cannot be told apart from what comes.
            self.packets.clear();
        }
        if self.packets.is_empty() {
            self.first = number;
        }
        let too_old = |front: &Sent| at.saturating_duration_since(front.at) > FORGOTTEN_AFTER;
        while self.packets.len() >= MOST || self.packets.front().is_some_and(too_old) {
            self.packets.pop_front();
            self.first = self.first.wrapping_add(1);
        }
        if self.packets.is_empty() {
            self.first = number;
        }
        self.packets.push_back(Sent { at, bytes, known: Known::Nothing });
    }

    /// What is new in a statement; `None` for a packet that was not sent, or of which as much was known.
    pub(super) fn resolve(&mut self, fate: Fate) -> Option<Report> {
        let at = usize::from(fate.number.wrapping_sub(self.first));
        let packet = self.packets.get_mut(at)?;
        let known = if fate.outcome == Outcome::Lost { Known::Lost } else { Known::Arrived };
        if packet.known == known || packet.known == Known::Arrived {
            return None;
        }
        let was_lost = packet.known == Known::Lost;
        packet.known = known;
        Some(Report { sent: packet.at, bytes: packet.bytes, outcome: fate.outcome, was_lost })
    }

    /// When the oldest packet was sent of which nothing is known, of those after `since`.
    pub(super) fn unheard(&self, since: Instant) -> Option<Instant> {
        let unheard = |packet: &&Sent| packet.known == Known::Nothing && packet.at > since;
        self.packets.iter().find(unheard).map(|packet| packet.at)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fate(number: u16, arrived: Option<i64>) -> Fate {
        Fate { number, outcome: arrived.map_or(Outcome::Lost, Outcome::CameAt) }
    }

    #[test]
    fn each_packet_is_reported_once_and_again_when_it_came_after_all() {
        let (mut history, now) = (History::default(), Instant::now());
        history.sent(65_535, 100, now);
        history.sent(0, 200, now);
        let report = history.resolve(fate(0, Some(7))).unwrap();
        assert_eq!((report.bytes, report.outcome, report.was_lost), (200, Outcome::CameAt(7), false));
        assert_eq!(history.resolve(fate(0, Some(7))), None);
        assert_eq!(history.resolve(fate(0, None)), None, "what came is not lost");
        assert_eq!(history.resolve(fate(65_535, None)).unwrap().outcome, Outcome::Lost);
        assert_eq!(history.resolve(fate(65_535, None)), None);
        assert!(history.resolve(fate(65_535, Some(9))).unwrap().was_lost);
        assert_eq!(history.resolve(fate(1, Some(9))), None, "never sent");
    }

    #[test]
    fn what_is_old_is_forgotten() {
        let (mut history, now) = (History::default(), Instant::now());
        history.sent(5, 100, now);
        let later = now + Duration::from_secs(11);
        history.sent(6, 100, later);
        assert_eq!(history.resolve(fate(5, Some(1))), None);
        assert_eq!(history.unheard(now), Some(later));
        assert!(history.resolve(fate(6, Some(1))).is_some());
        assert_eq!(history.unheard(now), None);
    }

    proptest! {
        #[test]
        fn a_resolved_packet_is_the_one_that_was_sent(first in any::<u16>(), count in 1usize..9000, asked in prop::collection::vec(any::<u16>(), 0..50)) {
            let (mut history, now) = (History::default(), Instant::now());
            let number = |n: usize| first.wrapping_add(n as u16);
            for n in 0..count {
                history.sent(number(n), n, now);
            }
            let kept = count.min(MOST);
            for asked in asked {
                let back = number(count - 1).wrapping_sub(asked) as usize;
                let report = history.resolve(fate(asked, Some(1)));
                if back >= kept {
                    prop_assert_eq!(report, None);
                } else if let Some(report) = report {
                    prop_assert_eq!(report.bytes, count - 1 - back);
                }
            }
        }
    }
}
