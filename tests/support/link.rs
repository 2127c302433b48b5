//! A link as a model: a rate with a queue that overflows, delay, jitter, loss and reordering. The time is an argument, and the
//! same seed loses the same datagrams.

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// What IPv4 and UDP add to a datagram.
pub const HEADERS: usize = 28;
/// By how much a datagram comes late that others overtake.
const OVERTAKEN_BY: Duration = Duration::from_millis(10);

/// How a link is, in one direction.
#[derive(Clone, Copy, Debug)]
pub struct Conditions {
    pub seed: u64,
    /// Bits in a second, IP and UDP headers included; `None`: no limit.
    pub rate: Option<u64>,
    /// Bytes that may wait for the rate; what comes on top is dropped.
    pub queue: usize,
    pub delay: Duration,
    /// Added to the delay, uniformly from 0. The order stays.
    pub jitter: Duration,
    /// The share of datagrams that are lost.
    pub loss: f64,
    /// The share of datagrams that others overtake.
    pub reorder: f64,
}

impl Conditions {
    /// A link that does nothing to what it carries.
    pub fn clean(seed: u64) -> Self {
        let delay = Duration::ZERO;
        Self { seed, rate: None, queue: usize::MAX, delay, jitter: Duration::ZERO, loss: 0.0, reorder: 0.0 }
    }
}

/// One direction of a link.
pub struct Link {
    conditions: Conditions,
    random: StdRng,
    /// Until when what waits is being sent.
    busy_until: Option<Instant>,
    /// When the newest in order arrives.
    newest: Option<Instant>,
}

impl Link {
    pub fn new(conditions: Conditions) -> Self {
        Self { conditions, random: StdRng::seed_from_u64(conditions.seed), busy_until: None, newest: None }
    }

    /// From now on the link is like this. What waits is sent at the rate of before.
    #[allow(dead_code)] // most links stay as they are
    pub fn set(&mut self, conditions: Conditions) {
        self.conditions = conditions;
    }

    /// How long what is sent now waits for what was sent before.
    #[allow(dead_code)] // most look at what arrives
    pub fn queue(&self, now: Instant) -> Duration {
        self.busy_until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now))
    }

    /// When a datagram of so many bytes arrives that is sent now; `None` if it never does.
    pub fn carry(&mut self, bytes: usize, now: Instant) -> Option<Instant> {
        let Conditions { rate, queue, delay, jitter, loss, reorder, .. } = self.conditions;
        // As many draws for each, so that what happens to one does not depend on what happened to those before.
        let lost = self.random.random_bool(loss);
        let overtaken = self.random.random_bool(reorder);
        let jitter = jitter.mul_f64(self.random.random());
        let mut sent = now;
        if let Some(rate) = rate {
            let took = |bytes: usize| Duration::from_secs_f64(bytes as f64 * 8.0 / rate as f64);
            let free = self.busy_until.map_or(now, |until| until.max(now));
            if free - now + took(bytes + HEADERS) > took(queue) {
                return None;
            }
            sent = free + took(bytes + HEADERS);
            self.busy_until = Some(sent);
        }
        if lost {
            return None;
        }
        let arrives = (sent + delay + jitter).max(self.newest.unwrap_or(now));
        if overtaken {
            return Some(arrives + OVERTAKEN_BY);
        }
        self.newest = Some(arrives);
        Some(arrives)
    }
}
