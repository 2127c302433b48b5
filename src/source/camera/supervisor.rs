//! When to connect, when to give up, when to try again: decisions only, no input and output, the time is an argument.
//!
//! The driver asks [`Supervisor::poll`] what to do until it says [`Step::Wait`], and reports what happened by the `on_…`
//! methods.

use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::{CameraState, Demand};
use crate::source::SourceError;

/// The shortest wait between two attempts, while nobody watches.
pub(super) const SHORTEST_WAIT: Duration = Duration::from_secs(1);
/// The longest.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// Between two probes while somebody watches, end to begin.
pub(super) const PROBE_INTERVAL: Duration = Duration::from_millis(500);
/// A connection without a picture for this long is given up.
pub(super) const SILENCE: Duration = Duration::from_secs(3);
/// The same for the first picture, which may have to wait for the camera's encoder to start.
pub(super) const FIRST_PICTURE: Duration = Duration::from_secs(10);
/// A connection that held this long was a good one: the next failure is the first again.
const GOOD_CONNECTION: Duration = Duration::from_secs(5);

/// Why an attempt or a connection ended, by consequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// Try again, with growing waits.
    Failed,
    /// The other side was there and gave no answer in time: the same, and it counts as stalled if it was before.
    Silent,
    /// Wrong password: try again seldom, whoever watches; cameras lock out who insists.
    Unauthorized,
    /// Nothing that can be used: try again seldom.
    Unsupported,
}

impl From<&SourceError> for Failure {
    fn from(error: &SourceError) -> Self {
        match error {
            SourceError::Unauthorized(_) => Self::Unauthorized,
            SourceError::UnsupportedCamera(_) | SourceError::Unsupported { .. } => Self::Unsupported,
            SourceError::Silent(_) => Self::Silent,
            _ => Self::Failed,
        }
    }
}

/// What the driver is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing until something happens, or until this instant.
    Wait(Option<Instant>),
    /// Try a TCP connection, and tell [`Supervisor::on_probe`].
    Probe,
    /// Connect, and tell [`Supervisor::on_opened`] or [`Supervisor::on_failed`].
    Connect,
    /// Drop the attempt or the connection.
    Close {
        /// For want of pictures: none came for so long.
        silent: Option<Duration>,
    },
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    /// Nobody needs the camera.
    Closed,
    /// Until the next attempt; `probe` at once or in the probe's interval if somebody watches.
    Waiting {
        since: Instant,
        retry_at: Instant,
        probed: Option<Instant>,
        seldom: bool,
    },
    Probing {
        since: Instant,
        retry_at: Instant,
    },
    Connecting,
    /// The connection stands.
    Open {
        since: Instant,
        last_frame: Option<Instant>,
    },
}

/// See the module.
#[derive(Debug)]
pub(super) struct Supervisor {
    demand: Demand,
    phase: Phase,
    state: CameraState,
    /// Attempts in a row that came to nothing.
    failures: u32,
    restarts: u64,
    was_live: bool,
    close: bool,
    jitter: SmallRng,
}

impl Supervisor {
    /// Of a camera that has not been tried yet; `seed` is for the jitter.
    pub(super) fn new(demand: Demand, seed: u64, now: Instant) -> Self {
        let mut supervisor = Self {
            demand: Demand { open: false, ..demand },
            phase: Phase::Closed,
            state: CameraState::Idle,
            failures: 0,
            restarts: 0,
            was_live: false,
            close: false,
            jitter: SmallRng::seed_from_u64(seed),
        };
        supervisor.on_demand(demand, now);
        supervisor
    }

    pub(super) fn state(&self) -> CameraState {
        self.state
    }

    /// How often pictures came again after they had been lost.
    pub(super) fn restarts(&self) -> u64 {
        self.restarts
    }

    /// When the address is tried again, by an attempt or by a probe, while waiting for that; a time that is over during a
    /// probe.
    pub(super) fn retry_at(&self) -> Option<Instant> {
        match self.phase {
            Phase::Waiting { retry_at, .. } => {
                Some(self.probe_at().map_or(retry_at, |probe_at| probe_at.min(retry_at)))
            }
            Phase::Probing { since, .. } => Some(since),
            _ => None,
        }
    }

    /// When the next probe is due, where it is probed.
    fn probe_at(&self) -> Option<Instant> {
        match self.phase {
            Phase::Waiting { since, probed, seldom: false, .. } if self.demand.watched => {
                Some(probed.unwrap_or(since) + PROBE_INTERVAL)
            }
            _ => None,
        }
    }

    pub(super) fn on_demand(&mut self, demand: Demand, now: Instant) {
        let before = std::mem::replace(&mut self.demand, demand);
        if before.open && !demand.open {
            self.close |= matches!(self.phase, Phase::Probing { .. } | Phase::Connecting | Phase::Open { .. });
            self.phase = Phase::Closed;
            self.state = CameraState::Idle;
        } else if demand.open && !before.open {
            self.failures = 0;
            self.state = CameraState::Connecting;
            self.phase = Phase::Waiting { since: now, retry_at: now, probed: None, seldom: false };
        }
    }

    /// The probe's connection stood, or did not.
    pub(super) fn on_probe(&mut self, reached: bool, now: Instant) {
        if let Phase::Probing { retry_at, .. } = self.phase {
            let retry_at = if reached { now } else { retry_at };
            self.phase = Phase::Waiting { since: now, retry_at, probed: Some(now), seldom: false };
        }
    }

    pub(super) fn on_opened(&mut self, now: Instant) {
        if let Phase::Connecting = self.phase {
            self.phase = Phase::Open { since: now, last_frame: None };
        }
    }

    pub(super) fn on_frame(&mut self, now: Instant) {
        let Phase::Open { since, last_frame } = &mut self.phase else { return };
        if last_frame.is_none() && self.was_live {
            self.restarts += 1;
        }
        *last_frame = Some(now);
        if now.saturating_duration_since(*since) >= GOOD_CONNECTION {
            self.failures = 0;
        }
        self.was_live = true;
        self.state = CameraState::Live;
    }

    /// An attempt or a connection ended.
    pub(super) fn on_failed(&mut self, failure: Failure, now: Instant) {
        let had_pictures = match self.phase {
            Phase::Connecting => false,
            Phase::Open { last_frame, .. } => last_frame.is_some(),
            Phase::Closed | Phase::Waiting { .. } | Phase::Probing { .. } => return,
        };
        let stalled = failure == Failure::Silent && (had_pictures || self.state == CameraState::Stalled);
        self.state = match failure {
            Failure::Unauthorized => CameraState::Unauthorized,
            Failure::Unsupported => CameraState::Unsupported,
            _ if stalled => CameraState::Stalled,
            _ => CameraState::Backoff,
        };
        let seldom = matches!(failure, Failure::Unauthorized | Failure::Unsupported);
        let wait = if seldom { LONGEST_WAIT } else { self.next_wait() };
        self.phase = Phase::Waiting { since: now, retry_at: now + wait, probed: None, seldom };
    }

    /// The pipeline cannot use what comes. True if there was a connection to be closed for that.
    pub(super) fn on_refused(&mut self, now: Instant) -> bool {
        let open = matches!(self.phase, Phase::Open { .. });
        if open {
            self.on_failed(Failure::Unsupported, now);
            self.close = true;
        }
        open
    }

    /// What is to be done now. To be asked again after each step but [`Step::Wait`].
    pub(super) fn poll(&mut self, now: Instant) -> Step {
        if std::mem::take(&mut self.close) {
            return Step::Close { silent: None };
        }
        match self.phase {
            Phase::Closed | Phase::Probing { .. } | Phase::Connecting => Step::Wait(None),
            Phase::Waiting { retry_at, .. } if retry_at <= now => {
                self.phase = Phase::Connecting;
                // Who waits for a frozen camera, or for one that refused, sees that until it is over.
                if self.state == CameraState::Backoff {
                    self.state = CameraState::Connecting;
                }
                Step::Connect
            }
            Phase::Waiting { retry_at, .. } => {
                if self.probe_at().is_some_and(|probe_at| probe_at <= now) {
                    self.phase = Phase::Probing { since: now, retry_at };
                    return Step::Probe;
                }
                Step::Wait(self.retry_at())
            }
            Phase::Open { since, last_frame } => {
                let (begin, limit) = last_frame.map_or((since, FIRST_PICTURE), |last| (last, SILENCE));
                let deadline = begin + limit;
                if deadline <= now {
                    self.on_failed(Failure::Silent, now);
                    return Step::Close { silent: Some(limit) };
                }
                Step::Wait(Some(deadline))
            }
        }
    }

    /// Doubles from failure to failure; the jitter of a quarter keeps cameras that went away together from being asked
    /// together.
    fn next_wait(&mut self) -> Duration {
        let base = SHORTEST_WAIT * 2u32.pow(self.failures.min(5));
        self.failures = self.failures.saturating_add(1);
        let factor = self.jitter.random_range(0.75..=1.25);
        base.mul_f64(factor).clamp(SHORTEST_WAIT, LONGEST_WAIT)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn demand(open: bool, watched: bool) -> Demand {
        Demand { open, watched }
    }

    /// Polls until the supervisor waits; the steps before that, and until when.
    fn steps(supervisor: &mut Supervisor, now: Instant) -> (Vec<Step>, Option<Instant>) {
        let mut steps = Vec::new();
        loop {
            match supervisor.poll(now) {
                Step::Wait(until) => return (steps, until),
                step => steps.push(step),
            }
            assert!(steps.len() < 5, "it does not come to rest: {steps:?}");
        }
    }

    /// A supervisor with a connection that has just given a picture.
    fn live(watched: bool, now: Instant) -> Supervisor {
        let mut supervisor = Supervisor::new(demand(true, watched), 1, now);
        assert_eq!(steps(&mut supervisor, now).0, [Step::Connect]);
        supervisor.on_opened(now);
        supervisor.on_frame(now);
        assert_eq!(supervisor.state(), CameraState::Live);
        supervisor
    }

    #[test]
    fn the_first_attempt_is_made_at_once_and_repeated_with_growing_waits() {
        let mut now = Instant::now();
        let mut supervisor = Supervisor::new(demand(true, false), 7, now);
        let mut waits = Vec::new();
        for _ in 0..9 {
            assert_eq!(steps(&mut supervisor, now).0, [Step::Connect]);
            assert_eq!(supervisor.state(), CameraState::Connecting);
            supervisor.on_failed(Failure::Failed, now);
            assert_eq!(supervisor.state(), CameraState::Backoff);
            let retry_at = steps(&mut supervisor, now).1.unwrap();
            assert_eq!(supervisor.retry_at(), Some(retry_at));
            waits.push((retry_at - now).as_secs_f64());
            now = retry_at;
        }
        for (n, wait) in waits.iter().enumerate() {
            let base = 2f64.powi(i32::try_from(n).unwrap()).min(32.0);
            let least = (base * 0.75).clamp(1.0, 30.0);
            assert!((least..=(base * 1.25).min(30.0)).contains(wait), "wait {n} is {wait} s");
        }
    }

    #[test]
    fn silence_closes_the_connection_after_three_seconds_and_is_seen_until_pictures_come_again() {
        let mut now = Instant::now();
        let mut supervisor = live(true, now);
        now += SILENCE - MS;
        assert_eq!(steps(&mut supervisor, now), (vec![], Some(now + MS)));
        now += MS;
        assert_eq!(steps(&mut supervisor, now).0, [Step::Close { silent: Some(SILENCE) }]);
        assert_eq!(supervisor.state(), CameraState::Stalled);
        for _ in 0..3 {
            // A frozen camera's system takes connections, and the camera never answers.
            now = steps(&mut supervisor, now).1.unwrap();
            assert_eq!(steps(&mut supervisor, now).0, [Step::Probe]);
            supervisor.on_probe(true, now);
            assert_eq!(steps(&mut supervisor, now).0, [Step::Connect]);
            assert_eq!(supervisor.state(), CameraState::Stalled);
            now += MS * 5000;
            supervisor.on_failed(Failure::Silent, now);
            assert_eq!(supervisor.state(), CameraState::Stalled);
        }
        now = steps(&mut supervisor, now).1.unwrap();
        assert_eq!(steps(&mut supervisor, now).0, [Step::Probe]);
        supervisor.on_probe(true, now);
        steps(&mut supervisor, now);
        supervisor.on_opened(now);
        supervisor.on_frame(now);
        assert_eq!((supervisor.state(), supervisor.restarts()), (CameraState::Live, 1));
    }

    #[test]
    fn the_first_picture_may_take_longer_than_the_next() {
        let mut now = Instant::now();
        let mut supervisor = Supervisor::new(demand(true, true), 1, now);
        steps(&mut supervisor, now);
        supervisor.on_opened(now);
        now += FIRST_PICTURE - MS;
        assert_eq!(steps(&mut supervisor, now).0, []);
        now += MS;
        assert_eq!(steps(&mut supervisor, now).0, [Step::Close { silent: Some(FIRST_PICTURE) }]);
        assert_eq!(supervisor.state(), CameraState::Backoff, "it never was live");
    }

    #[test]
    fn a_watched_camera_is_probed_twice_a_second_however_long_the_wait() {
        let mut now = Instant::now();
        let mut supervisor = Supervisor::new(demand(true, false), 1, now);
        for _ in 0..8 {
            now = supervisor.retry_at().unwrap();
            steps(&mut supervisor, now);
            supervisor.on_failed(Failure::Failed, now);
        }
        now += MS * 10_000;
        assert!(steps(&mut supervisor, now).1.unwrap() - now > MS * 10_000);
        assert!(supervisor.retry_at().unwrap() - now > MS * 10_000);
        supervisor.on_demand(demand(true, true), now);
        for _ in 0..10 {
            assert_eq!(steps(&mut supervisor, now).0, [Step::Probe]);
            assert_eq!(supervisor.retry_at(), Some(now), "what is told is what happens");
            now += MS * 3;
            supervisor.on_probe(false, now);
            let (none, until) = steps(&mut supervisor, now);
            assert_eq!((none, until), (vec![], Some(now + PROBE_INTERVAL)));
            assert_eq!(supervisor.retry_at(), until);
            now = until.unwrap();
        }
        steps(&mut supervisor, now);
        supervisor.on_probe(true, now);
        assert_eq!(steps(&mut supervisor, now).0, [Step::Connect], "who answers is asked at once");
    }

    #[test]
    fn a_refused_password_is_not_insisted_upon() {
        let now = Instant::now();
        for (failure, state) in
            [(Failure::Unauthorized, CameraState::Unauthorized), (Failure::Unsupported, CameraState::Unsupported)]
        {
            let mut supervisor = Supervisor::new(demand(true, true), 1, now);
            steps(&mut supervisor, now);
            supervisor.on_failed(failure, now);
            assert_eq!(supervisor.state(), state);
            assert_eq!(steps(&mut supervisor, now), (vec![], Some(now + LONGEST_WAIT)));
            steps(&mut supervisor, now + LONGEST_WAIT);
            assert_eq!(supervisor.state(), state, "seen until the camera says otherwise");
        }
    }

    #[test]
    fn demand_closes_and_opens_at_once() {
        let mut now = Instant::now();
        let mut supervisor = live(true, now);
        supervisor.on_demand(demand(false, false), now);
        assert_eq!(steps(&mut supervisor, now), (vec![Step::Close { silent: None }], None));
        assert_eq!(supervisor.state(), CameraState::Idle);
        now += MS * 60_000;
        assert_eq!(steps(&mut supervisor, now), (vec![], None));
        supervisor.on_demand(demand(true, true), now);
        assert_eq!(steps(&mut supervisor, now).0, [Step::Connect]);
        assert_eq!(supervisor.state(), CameraState::Connecting);
    }

    #[test]
    fn what_the_pipeline_refuses_is_closed_and_asked_for_again_seldom() {
        let now = Instant::now();
        let mut supervisor = live(true, now);
        assert!(supervisor.on_refused(now));
        assert_eq!(steps(&mut supervisor, now), (vec![Step::Close { silent: None }], Some(now + LONGEST_WAIT)));
        assert_eq!(supervisor.state(), CameraState::Unsupported);
        assert!(!supervisor.on_refused(now), "once");
    }

    #[test]
    fn a_connection_that_held_makes_the_next_wait_short_again() {
        let mut now = Instant::now();
        let mut supervisor = Supervisor::new(demand(true, false), 1, now);
        for held in [false, true] {
            for _ in 0..6 {
                steps(&mut supervisor, now);
                supervisor.on_failed(Failure::Failed, now);
                now = supervisor.retry_at().unwrap();
            }
            steps(&mut supervisor, now);
            supervisor.on_opened(now);
            for _ in 0..if held { 60 } else { 1 } {
                now += MS * 100;
                supervisor.on_frame(now);
            }
            supervisor.on_failed(Failure::Failed, now);
            let wait = supervisor.retry_at().unwrap() - now;
            assert_eq!(wait < MS * 2000, held, "waits {wait:?}");
            now += wait;
        }
    }

    #[derive(Clone, Debug)]
    enum Input {
        Demand(bool, bool),
        Probe(bool),
        Opened,
        Frame,
        Failed(Failure),
        Refused,
        Sleep(u64),
        Wake,
    }

    fn input() -> impl Strategy<Value = Input> {
        let failure =
            prop::sample::select(vec![Failure::Failed, Failure::Silent, Failure::Unauthorized, Failure::Unsupported]);
        prop_oneof![
            (any::<bool>(), any::<bool>()).prop_map(|(open, watched)| Input::Demand(open, watched)),
            any::<bool>().prop_map(Input::Probe),
            Just(Input::Opened),
            Just(Input::Frame),
            failure.prop_map(Input::Failed),
            Just(Input::Refused),
            (0u64..40_000).prop_map(Input::Sleep),
            Just(Input::Wake),
        ]
    }

    proptest! {
        /// A driver that does what it is told, whatever the camera and the pipeline do: at most one thing is under way, a
        /// wanted camera always has an end to its wait, waits keep their bounds, an unwanted one is left alone.
        #[test]
        fn whatever_happens_it_goes_on(inputs in prop::collection::vec(input(), 1..120), seed in any::<u64>()) {
            let mut now = Instant::now();
            let (mut wanted, mut least) = (true, SHORTEST_WAIT);
            let mut supervisor = Supervisor::new(demand(true, false), seed, now);
            #[derive(Clone, Copy, Debug, PartialEq)]
            enum Link { None, Probing, Connecting, Open }
            let mut link = Link::None;
            let mut until = None;
            for input in [Input::Wake].into_iter().chain(inputs) {
                match input {
                    Input::Demand(open, watched) => {
                        wanted = open;
                        // While somebody watches, a probe comes before the attempt.
                        least = if watched { PROBE_INTERVAL } else { SHORTEST_WAIT };
                        supervisor.on_demand(demand(open, watched), now);
                    }
                    Input::Probe(reached) if link == Link::Probing => {
                        link = Link::None;
                        supervisor.on_probe(reached, now);
                    }
                    Input::Opened if link == Link::Connecting => {
                        link = Link::Open;
                        supervisor.on_opened(now);
                    }
                    Input::Frame if link == Link::Open => supervisor.on_frame(now),
                    Input::Failed(failure) if matches!(link, Link::Connecting | Link::Open) => {
                        link = Link::None;
                        supervisor.on_failed(failure, now);
                        if wanted {
                            let wait = supervisor.retry_at().unwrap() - now;
                            prop_assert!(least <= wait && wait <= LONGEST_WAIT);
                        }
                    }
                    Input::Refused => { supervisor.on_refused(now); }
                    Input::Sleep(ms) => now += MS * u32::try_from(ms).unwrap(),
                    Input::Wake => now = until.unwrap_or(now).max(now),
                    _ => {}
                }
                let (steps, next) = steps(&mut supervisor, now);
                for step in steps {
                    match step {
                        Step::Close { .. } => {
                            prop_assert_ne!(link, Link::None);
                            link = Link::None;
                        }
                        Step::Connect | Step::Probe => {
                            prop_assert_eq!(link, Link::None);
                            prop_assert!(wanted);
                            link = if step == Step::Probe { Link::Probing } else { Link::Connecting };
                        }
                        Step::Wait(_) => unreachable!(),
                    }
                }
                until = next;
                prop_assert!(next.is_none_or(|next| next > now), "never a wait that is over");
                if wanted && matches!(link, Link::None | Link::Open) {
                    prop_assert!(next.is_some_and(|next| next <= now + LONGEST_WAIT));
                }
                if !wanted {
                    prop_assert_eq!((link, next), (Link::None, None));
                    prop_assert_eq!(supervisor.state(), CameraState::Idle);
                }
                prop_assert!(supervisor.state() != CameraState::Live || link == Link::Open, "live without a connection");
            }
        }
    }
}
