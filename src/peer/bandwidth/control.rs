//! From what is seen of the way to the rate that is aimed at.
//!
//! As in draft-ietf-rmcat-gcc-02 §5.5 the rate falls to a share of what the link carries when a queue stands, and rises otherwise:
//! fast while nothing says that a limit is near, and near the last limit ever faster the longer nothing happens (as CUBIC does,
//! RFC 9438 §4), so that a link that has become wider is found. Unlike there, the share is the smaller the longer the queue is:
//! what stands has to go first.

use std::time::{Duration, Instant};

/// The least rate that is aimed at, in bits a second: a small picture now and then.
pub(super) const LEAST: f64 = 50_000.0;

/// The most.
pub(super) const MOST: f64 = 50_000_000.0;

/// Where the rate begins if the first feedback names no limit.
const START: f64 = 3_000_000.0;

/// The share of what the link carries that is sent into a queue that is hardly there, and by how much it is less for each second
/// of queue: with half a second, 15 % are left.
const SHARE: f64 = 0.9;
const LESS_A_SECOND: f64 = 1.5;

/// However long the queue, the picture does not stop.
const LEAST_SHARE: f64 = 0.15;

/// The share that is sent once the queue has gone.
const SHARE_AFTER: f64 = 0.92;

/// By how much the logarithm of the rate rises in a second while nothing speaks against it: by half in 0.3 s.
const FAST: f64 = 1.35;

/// The same near a limit, at first and for each second after.
const SLOW: f64 = 0.02;
const SLOW_MORE: f64 = 0.06;

/// What is sent has to be so near to the rate, or a higher one would not be tried by it.
const USED: f64 = 1.5;

/// The losses from which on the rate is held, and from which on it falls (draft-ietf-rmcat-gcc-02 §6, where it is held from
/// 2 % on: this sender repeats what is lost, and a wireless link loses more than that without being full).
const LOSS_HOLDS: f64 = 0.08;
const LOSS_CUTS: f64 = 0.10;

/// A cut for loss leaves this share of what arrives.
const ARRIVES: f64 = 0.85;

/// Between two cuts for loss; it has to be seen what one did.
const CUT_INTERVAL: Duration = Duration::from_millis(300);

/// A queue that does not become shorter in this time, whatever is done, is not ours: the way has become longer, or somebody
/// else fills it, and to give way further would be to starve.
const PATIENCE: Duration = Duration::from_secs(2);

/// Bursts that named far more than the link turned out to carry are not believed for this long.
const DOUBT: Duration = Duration::from_secs(30);

/// What is seen at one moment. Rates in bits a second.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Signals {
    /// The standing queue, and from where on that is congestion.
    pub(super) standing: Duration,
    pub(super) threshold: Duration,
    /// What arrives.
    pub(super) arriving: Option<f64>,
    /// What the link carries while a queue stands.
    pub(super) carried: Option<f64>,
    /// What bursts say that it could.
    pub(super) bursts: Option<f64>,
    /// The share of packets that are lost, where enough were sent.
    pub(super) loss: Option<f64>,
}

/// A queue is being emptied.
#[derive(Clone, Copy, Debug)]
struct Drain {
    /// The rate before.
    from: f64,
    /// The queue as it was last looked at, and when.
    checked: (Instant, Duration),
}

/// The rate of one connection.
#[derive(Debug, Default)]
pub(super) struct Control {
    target: Option<f64>,
    updated: Option<Instant>,
    drain: Option<Drain>,
    /// What the link carried when it was full last.
    limit: Option<f64>,
    /// Since when the rate may rise.
    rising: Option<Instant>,
    cut: Option<Instant>,
    doubted_until: Option<Instant>,
}

/// What else follows from what was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    Nothing,
    /// The way has become longer.
    LongerWay,
    /// The rate was cut for loss.
    Cut,
}

impl Control {
    /// The rate aimed at; `None` before anything was heard.
    pub(super) fn target(&self) -> Option<f64> {
        self.target
    }

    /// Whether the link was found full, and has not been found wider since.
    pub(super) fn is_limited(&self) -> bool {
        self.limit.is_some()
    }

    /// Takes what is seen now.
    pub(super) fn update(&mut self, now: Instant, signals: &Signals) -> Finding {
        let since = self.updated.map_or(Duration::ZERO, |last| now.saturating_duration_since(last));
        self.updated = Some(now);
        let before = *self.target.get_or_insert_with(|| {
            let named = signals.bursts.or(signals.carried).map_or(START, |bps| bps * SHARE);
            named.clamp(LEAST, MOST)
        });
        let mut finding = if signals.standing > signals.threshold {
            self.give_way(now, before, signals)
        } else if self.drain.is_some() && signals.standing > signals.threshold / 2 {
            Finding::Nothing
        } else {
            if self.drain.take().is_some() {
                self.rising = Some(now);
                self.target = self.limit.map(|limit| limit * SHARE_AFTER).or(self.target);
            }
            if signals.standing <= signals.threshold / 2 {
                self.rise(now, since.min(Duration::from_millis(300)), signals);
            }
            Finding::Nothing
        };
        if let Some(loss) = signals.loss.filter(|loss| *loss > LOSS_CUTS)
            && self.cut.is_none_or(|cut| now.saturating_duration_since(cut) >= CUT_INTERVAL)
        {
            self.cut = Some(now);
            // What arrives is carried, whatever is lost beside it.
            let arrives = signals.arriving.map_or(0.0, |arriving| arriving * ARRIVES);
            self.target = self.target.map(|target| target.min((before * (1.0 - loss / 2.0)).max(arrives)));
            finding = Finding::Cut;
        }
        self.target = self.target.map(|target| target.clamp(LEAST, MOST));
        finding
    }

    fn give_way(&mut self, now: Instant, before: f64, signals: &Signals) -> Finding {
        // While the queue is emptied, what arrives is what is sent, and says nothing of the link. Without any of these nothing
        // arrives at all, and silence is looked after elsewhere.
        let known = if self.drain.is_some() { self.limit } else { signals.arriving };
        let Some(carried) = signals.carried.or(known) else { return Finding::Nothing };
        if signals.bursts.is_some_and(|bursts| bursts > carried * 1.5) {
            self.doubted_until = Some(now + DOUBT);
        }
        self.limit = Some(carried);
        let drain = self.drain.get_or_insert(Drain { from: before, checked: (now, signals.standing) });
        let share = (SHARE - LESS_A_SECOND * signals.standing.as_secs_f64()).max(LEAST_SHARE);
        self.target = Some((carried * share).min(drain.from));
        let (checked, stood) = drain.checked;
        if now.saturating_duration_since(checked) < PATIENCE {
            return Finding::Nothing;
        }
        drain.checked = (now, signals.standing);
        if signals.standing > stood.mul_f64(0.8) { Finding::LongerWay } else { Finding::Nothing }
    }

    fn rise(&mut self, now: Instant, since: Duration, signals: &Signals) {
        let Some(target) = self.target else { return };
        if signals.loss.is_some_and(|loss| loss > LOSS_HOLDS) {
            return;
        }
        let unused = signals.arriving.is_none_or(|arriving| target > arriving * USED);
        if unused {
            return;
        }
        let doubted = self.doubted_until.is_some_and(|until| now < until);
        let bursts = signals.bursts.filter(|_| !doubted);
        if let Some(limit) = self.limit
            && (target > limit * 1.15 || bursts.is_some_and(|bursts| bursts > limit * 1.5))
        {
            self.limit = None;
        }
        let near_limit = self.limit.is_some_and(|limit| target > limit * 0.8);
        let near_bursts = bursts.is_some_and(|bursts| target > bursts * 0.8);
        let speed = if near_limit || near_bursts {
            let rising = *self.rising.get_or_insert(now);
            SLOW + SLOW_MORE * now.saturating_duration_since(rising).as_secs_f64().min(5.0)
        } else {
            self.rising = None;
            FAST
        };
        self.target = Some(target * (speed * since.as_secs_f64()).exp());
    }

    /// Nothing is heard of what was sent.
    pub(super) fn unheard(&mut self) {
        self.target = self.target.map(|target| (target * 0.7).max(LEAST));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STEP: Duration = Duration::from_millis(100);

    fn quiet(arriving: f64) -> Signals {
        Signals { threshold: Duration::from_millis(25), arriving: Some(arriving), ..Signals::default() }
    }

    fn full(carried: f64, standing: u64) -> Signals {
        Signals { carried: Some(carried), standing: Duration::from_millis(standing), ..quiet(carried) }
    }

    #[test]
    fn a_queue_brings_the_rate_below_what_the_link_carries_the_more_the_longer_it_is() {
        let now = Instant::now();
        for (standing, share) in [(50, 0.825), (400, 0.3), (3000, 0.15)] {
            let mut control = Control::default();
            control.update(now, &quiet(3e6));
            control.update(now + STEP, &full(1e6, standing));
            let target = control.target().unwrap();
            assert!((target - share * 1e6).abs() < 1.0, "{standing} ms: {target}");
        }
    }

    #[test]
    fn a_quiet_link_is_tried_fast_and_near_its_limit_slowly() {
        let (mut control, start) = (Control::default(), Instant::now());
        let mut at = start;
        control.update(at, &full(300e3, 60));
        let mut climb = |control: &mut Control, steps: u32, carries: f64| {
            for _ in 0..steps {
                at += STEP;
                let arriving = control.target().unwrap().min(carries);
                control.update(at, &quiet(arriving));
            }
            control.target().unwrap()
        };
        let near = climb(&mut control, 5, 1e9);
        assert!((250e3..300e3).contains(&near), "{near}");
        let found = climb(&mut control, 45, 1e9);
        assert!(found > 2.7e6, "a tenfold link is found in five seconds: {found}");
    }

    #[test]
    fn what_is_not_used_is_not_tried() {
        let (mut control, mut at) = (Control::default(), Instant::now());
        for _ in 0..100 {
            control.update(at, &quiet(500e3));
            at += STEP;
        }
        assert!((control.target().unwrap() - START).abs() < 1.0);
    }

    #[test]
    fn a_queue_that_stays_whatever_is_done_is_a_longer_way() {
        let (mut control, mut at) = (Control::default(), Instant::now());
        let mut findings = Vec::new();
        for _ in 0..30 {
            findings.push(control.update(at, &full(1e6, 100)));
            at += STEP;
        }
        assert_eq!(findings.iter().filter(|finding| **finding == Finding::LongerWay).count(), 1);
    }

    #[test]
    fn little_loss_is_borne_and_much_is_not() {
        for (loss, falls) in [(0.05, false), (0.3, true)] {
            let (mut control, mut at) = (Control::default(), Instant::now());
            control.update(at, &quiet(3e6));
            for _ in 0..20 {
                at += STEP;
                let arriving = control.target().unwrap() * (1.0 - loss);
                control.update(at, &Signals { loss: Some(loss), ..quiet(arriving) });
            }
            assert_eq!(control.target().unwrap() < START * 0.7, falls, "{loss}");
        }
    }

    proptest! {
        #[test]
        fn the_rate_stays_within_its_bounds(steps in prop::collection::vec((0u64..2000, 0u64..5000, prop::option::of(0.0..1e9f64), prop::option::of(0.0..1e9f64), prop::option::of(0.0..1e9f64), prop::option::of(0.0..=1.0f64)), 1..200)) {
            let (mut control, mut at) = (Control::default(), Instant::now());
            for (after, standing, arriving, carried, bursts, loss) in steps {
                at += Duration::from_millis(after);
                let standing = Duration::from_millis(standing);
                let threshold = Duration::from_millis(25);
                control.update(at, &Signals { standing, threshold, arriving, carried, bursts, loss });
                let target = control.target().unwrap();
                prop_assert!((LEAST..=MOST).contains(&target), "{}", target);
            }
        }
    }
}
