//! One encode, many viewers: payloads are shared, and whoever lags loses its own frames up to the next IDR.

use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::feed::{Handed, ViewerFeed};
use super::frame::{Bitstream, EncodedFrame, VideoChoice};
use super::gop::Gop;
use super::place::{Place, Route, Verdict};
use crate::media::{IDR_INTERVAL, KeyframeGate, KeyframeRequest};

/// Frames that may wait for one viewer: half a second at 30 frames a second. More, and it is better off with an IDR.
const WAITING_FRAMES: usize = 16;

/// What an asked source takes to answer with an IDR, roughly: the way there and back, and its encoder.
const ANSWER_TIME: Duration = Duration::from_millis(150);

/// What a bridge takes beyond the next picture, roughly: to begin, decode and encode.
const BRIDGE_TIME: Duration = Duration::from_millis(30);

/// A viewer that asks for an IDR this soon after its first frame has seen none: its first packets came before it could decrypt
/// them. Who lost a later packet waits for its repetition first.
const BEGINNING: Duration = Duration::from_millis(250);

/// Between two beginnings of one viewer: what was sent is on its way.
const BEGIN_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// How often one viewer may begin again.
const BEGINNINGS: u8 = 4;

/// No viewer's way is known to be narrow.
const NO_LIMIT: u32 = u32::MAX;

/// Who is asked for an IDR of what.
#[derive(Clone, Debug)]
pub struct KeyframeRequests {
    /// The encode of the pictures with boxes.
    pub annotated: KeyframeRequest,
    /// The encode of the pictures as they are.
    pub plain: KeyframeRequest,
    /// The source; `None` when it cannot be asked.
    pub source: Option<KeyframeRequest>,
}

/// Which encodes are needed now, and by how many viewers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Demand {
    /// Who gets the pictures with boxes.
    pub annotated: usize,
    /// Who gets an encode of the pictures as they are.
    pub plain: usize,
}

/// The frames of one stream, on their way to each viewer.
#[derive(Debug)]
pub struct Fanout(Arc<Shared>);

/// What the fan-out's two ends share.
#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    requests: KeyframeRequests,
    viewers: AtomicUsize,
    annotated: AtomicUsize,
    plain: AtomicUsize,
    /// What the narrowest way to a viewer of each encode carries, in bits a second.
    narrowest: [AtomicU32; 2],
    lost: AtomicU64,
}

#[derive(Debug)]
struct State {
    entries: Vec<Entry>,
    next_id: u64,
    route: Route,
    source: Gop,
    annotated: Gop,
    plain: Gop,
    /// Keeps the requests to the source apart.
    asked: KeyframeGate,
    /// When the source's last frame came, and the time between two.
    pace: Option<(Instant, Duration)>,
}

#[derive(Debug)]
struct Entry {
    id: u64,
    place: Place,
    frames: mpsc::Sender<Handed>,
    bridged: bool,
    /// When it was given its first frame, the last time.
    began: Option<Instant>,
    beginnings: u8,
    /// What the way to it carries, in bits of video a second.
    bandwidth: Option<f64>,
}

/// Whom to ask once the lock is free.
#[derive(Clone, Copy, Debug, Default)]
struct Asks {
    annotated: bool,
    plain: bool,
    source: bool,
}

impl Fanout {
    /// A fan-out without viewers, of a source whose access units may go out as they are.
    #[must_use]
    pub fn new(requests: KeyframeRequests) -> Self {
        let route = Route { forwards: true, can_be_asked: requests.source.is_some(), lost: false };
        let state = State {
            entries: Vec::new(),
            next_id: 0,
            route,
            source: Gop::default(),
            annotated: Gop::default(),
            plain: Gop::default(),
            asked: KeyframeGate::default(),
            pace: None,
        };
        Self(Arc::new(Shared {
            state: Mutex::new(state),
            requests,
            viewers: AtomicUsize::new(0),
            annotated: AtomicUsize::new(0),
            plain: AtomicUsize::new(0),
            narrowest: [NO_LIMIT, NO_LIMIT].map(AtomicU32::new),
            lost: AtomicU64::new(0),
        }))
    }

    /// A new viewer. Its first frame is an IDR: the next one, which is asked for now, or the last one with all that followed
    /// where that shows the present sooner.
    #[must_use]
    pub fn subscribe(&self, choice: VideoChoice) -> ViewerFeed {
        self.subscribe_at(choice, Instant::now())
    }

    fn subscribe_at(&self, choice: VideoChoice, now: Instant) -> ViewerFeed {
        let (sender, frames) = mpsc::channel(WAITING_FRAMES);
        let mut feed = ViewerFeed::new(frames, Arc::downgrade(&self.0));
        self.0.change(now, |state, asks, _| {
            let mut place = Place::new(choice, now);
            feed.id = state.next_id;
            state.next_id += 1;
            if let Some(gop) = state.cached_for(&place, now) {
                feed.cached.extend(gop.frames().iter().cloned());
                gop.frames().iter().for_each(|frame| place.sent(frame));
                feed.cached_until = gop.frames().last().map(|frame| frame.frame_id);
            }
            asks.annotated |= choice == VideoChoice::Annotated && place.needs_idr();
            let began = (!place.needs_idr()).then_some(now);
            state.entries.push(Entry {
                id: feed.id,
                place,
                frames: sender,
                bridged: false,
                began,
                beginnings: 1,
                bandwidth: None,
            });
        });
        feed
    }

    /// Gives a frame to every viewer that has a use for it, and says whether there was one. Never waits.
    #[allow(clippy::must_use_candidate)] // who sends may not care
    pub fn send(&self, frame: &Arc<EncodedFrame>) -> bool {
        self.send_at(frame, Instant::now())
    }

    fn send_at(&self, frame: &Arc<EncodedFrame>, now: Instant) -> bool {
        self.0.change(now, |state, asks, lost| state.send(frame, now, asks, lost))
    }

    /// Says whether the source's access units may go to viewers as they are.
    pub fn set_forwards(&self, forwards: bool) {
        let now = Instant::now();
        self.0.change(now, |state, _, _| {
            if state.route.forwards != forwards {
                state.route.forwards = forwards;
                state.leave_source(now);
            }
        });
    }

    /// Forgets the encodes that are kept for new viewers: they show what nobody may see any more.
    pub fn forget_encodes(&self) {
        self.0.change(Instant::now(), |state, _, _| {
            state.annotated.clear();
            state.plain.clear();
        });
    }

    /// Says that nothing comes from the source, or that it may again.
    pub fn set_lost(&self, lost: bool) {
        let now = Instant::now();
        self.0.change(now, |state, _, _| {
            state.route.lost = lost;
            if lost {
                state.leave_source(now);
            }
        });
    }

    /// The source begins anew, or one of its units is missing: nobody has what its next frame refers to, unless it is an IDR.
    pub fn break_source(&self) {
        let now = Instant::now();
        self.0.change(now, |state, _, _| {
            state.source.clear();
            state.pace = None;
            state.entries.iter_mut().for_each(|entry| entry.place.source_ended(now));
        });
    }

    /// How many watch.
    #[must_use]
    pub fn viewers(&self) -> usize {
        self.0.viewers.load(Ordering::Relaxed)
    }

    /// Which encodes are needed now.
    #[must_use]
    pub fn demand(&self) -> Demand {
        Demand { annotated: self.0.annotated.load(Ordering::Relaxed), plain: self.0.plain.load(Ordering::Relaxed) }
    }

    /// What the slowest viewer of an encode takes, in bits of video a second; `None` while that is not known of any.
    #[must_use]
    pub fn narrowest(&self, bitstream: Bitstream) -> Option<u32> {
        let at = usize::from(bitstream == Bitstream::Plain);
        let bps = self.0.narrowest.get(at)?.load(Ordering::Relaxed);
        (bitstream != Bitstream::Source && bps != NO_LIMIT).then_some(bps)
    }

    /// Whether somebody who is bridged has not seen the picture of this output timestamp yet, or a later one. To encode it for
    /// nobody would be to lose the IDR that it may become.
    #[must_use]
    pub fn wants_plain(&self, output: u32) -> bool {
        self.0.lock().entries.iter().any(|entry| entry.bridged && entry.place.lacks(output))
    }

    /// Frames that viewers lost because they were too slow, or waited for an IDR.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.0.lost.load(Ordering::Relaxed)
    }
}

impl Shared {
    /// A viewer has left.
    pub(super) fn leave(&self, id: u64) {
        self.change(Instant::now(), |state, _, _| state.entries.retain(|entry| entry.id != id));
    }

    /// Changes the state, brings what follows from it up to date, and asks whom it takes.
    fn change<T>(&self, now: Instant, change: impl FnOnce(&mut State, &mut Asks, &AtomicU64) -> T) -> T {
        let mut asks = Asks::default();
        let mut state = self.lock();
        let changed = change(&mut state, &mut asks, &self.lost);
        let demand = state.settle(now, &mut asks);
        self.viewers.store(state.entries.len(), Ordering::Relaxed);
        self.annotated.store(demand.annotated, Ordering::Relaxed);
        self.plain.store(demand.plain, Ordering::Relaxed);
        for (shared, narrowest) in self.narrowest.iter().zip(state.narrowest()) {
            shared.store(narrowest, Ordering::Relaxed);
        }
        drop(state);
        if asks.annotated {
            self.requests.annotated.request();
        }
        if asks.plain {
            self.requests.plain.request();
        }
        if let Some(source) = self.requests.source.as_ref().filter(|_| asks.source) {
            source.request();
        }
        changed
    }

    /// The way to a viewer carries so many bits of video a second, or nobody knows.
    pub(super) fn set_bandwidth(&self, id: u64, bps: Option<f64>) {
        self.change(Instant::now(), |state, _, _| {
            if let Some(entry) = state.entries.iter_mut().find(|entry| entry.id == id) {
                entry.bandwidth = bps;
            }
        });
    }

    /// A viewer asks for an IDR.
    pub(super) fn complain(&self, id: u64, now: Instant) {
        self.change(now, |state, asks, _| {
            if state.begin_again(id, now) {
                return;
            }
            let route = state.route;
            let Some(entry) = state.entries.iter_mut().find(|entry| entry.id == id) else { return };
            asks.annotated = entry.place.choice() == VideoChoice::Annotated;
            asks.plain = entry.place.is_bridged(route, now);
            entry.place.complained(route, now);
        });
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn send(&mut self, frame: &Arc<EncodedFrame>, now: Instant, asks: &mut Asks, lost: &AtomicU64) -> bool {
        self.keep(frame, now);
        if frame.bitstream == Bitstream::Source && !frame.idr {
            self.leave_source(now);
        }
        let route = self.route;
        let mut given = false;
        self.entries.retain_mut(|Entry { place, frames, began, .. }| {
            match place.judge(frame, route, now) {
                Verdict::Send => match frames.try_send(Handed::Frame(Arc::clone(frame))) {
                    Ok(()) => {
                        place.sent(frame);
                        began.get_or_insert(now);
                        given = true;
                        return true;
                    }
                    Err(mpsc::error::TrySendError::Closed(_)) => return false,
                    Err(mpsc::error::TrySendError::Full(_)) => {}
                },
                Verdict::Pass => return !frames.is_closed(),
                Verdict::Miss => {}
            }
            lost.fetch_add(1, Ordering::Relaxed);
            place.broke(now);
            asks.annotated |= frame.bitstream == Bitstream::Annotated;
            asks.plain |= frame.bitstream == Bitstream::Plain;
            !frames.is_closed()
        });
        given
    }

    fn keep(&mut self, frame: &Arc<EncodedFrame>, now: Instant) {
        match frame.bitstream {
            Bitstream::Annotated => self.annotated.put(frame, now),
            Bitstream::Plain => self.plain.put(frame, now),
            Bitstream::Source => {
                self.source.put(frame, now);
                if frame.idr {
                    self.route.lost = false;
                    self.asked.on_keyframe(now);
                }
                let interval = self.pace.map(|(last, _)| now.saturating_duration_since(last));
                self.pace = Some((now, interval.unwrap_or_default()));
            }
        }
    }

    fn leave_source(&mut self, now: Instant) {
        let route = self.route;
        if route.lost || !route.forwards {
            self.source.clear();
        }
        self.entries.iter_mut().for_each(|entry| entry.place.leave_source(route, now));
    }

    /// What shows a new viewer the present sooner than the next IDR would.
    fn cached_for(&self, place: &Place, now: Instant) -> Option<&Gop> {
        // An IDR of an encode comes with the next picture, unless the last is too near.
        let near = |gop: &Gop| gop.began().is_some_and(|began| now.saturating_duration_since(began) < IDR_INTERVAL);
        let is_of_use = |gop: &&Gop| near(gop) && !gop.frames().is_empty();
        if place.choice() == VideoChoice::Annotated {
            return Some(&self.annotated).filter(is_of_use);
        }
        let alternative = if self.route.can_be_asked { ANSWER_TIME } else { self.next_picture(now) + BRIDGE_TIME };
        if self.route.forwards && self.source.catching_up().is_some_and(|time| time <= alternative) {
            return Some(&self.source);
        }
        Some(&self.plain).filter(|gop| place.is_bridged(self.route, now) && is_of_use(gop))
    }

    /// Gives a viewer that has seen nothing yet what it was given, once more: the next IDR may be half a second away. False where
    /// that is not so, or nothing fit is kept.
    fn begin_again(&mut self, id: u64, now: Instant) -> bool {
        let Some(at) = self.entries.iter().position(|entry| entry.id == id) else { return false };
        let Some(Entry { place, began: Some(began), beginnings, .. }) = self.entries.get(at) else { return false };
        let since = now.saturating_duration_since(*began);
        if since >= BEGINNING {
            return false;
        }
        if *beginnings > 1 && since < BEGIN_AGAIN_AFTER {
            return true;
        }
        let Some(gop) = self.cached_for(place, now).filter(|_| *beginnings < BEGINNINGS) else { return false };
        let frames = gop.frames().to_vec();
        let Some(entry) = self.entries.get_mut(at) else { return false };
        if entry.frames.try_send(Handed::Again(frames.clone())).is_err() {
            return false;
        }
        frames.iter().for_each(|frame| entry.place.sent(frame));
        entry.began = Some(now);
        entry.beginnings += 1;
        true
    }

    /// How long until the source's next picture, by the pace of its last.
    fn next_picture(&self, now: Instant) -> Duration {
        self.pace.map_or(Duration::ZERO, |(last, interval)| (last + interval).saturating_duration_since(now))
    }

    /// What the slowest viewer of each encode takes.
    fn narrowest(&self) -> [u32; 2] {
        let mut narrowest = [NO_LIMIT; 2];
        let [annotated, plain] = &mut narrowest;
        for Entry { place, bridged, bandwidth, .. } in &self.entries {
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // the cast saturates
            let bps = bandwidth.map_or(NO_LIMIT, |bps| bps as u32);
            if place.choice() == VideoChoice::Annotated {
                *annotated = bps.min(*annotated);
            } else if *bridged {
                *plain = bps.min(*plain);
            }
        }
        narrowest
    }

    /// Counts who needs what, and asks for what somebody waits for since the last look.
    fn settle(&mut self, now: Instant, asks: &mut Asks) -> Demand {
        let route = self.route;
        let mut demand = Demand::default();
        let mut wants_source = false;
        for Entry { place, bridged, .. } in &mut self.entries {
            demand.annotated += usize::from(place.choice() == VideoChoice::Annotated);
            let was_bridged = std::mem::replace(bridged, place.is_bridged(route, now));
            demand.plain += usize::from(*bridged);
            asks.plain |= *bridged && !was_bridged && place.needs_idr();
            wants_source |= place.wants_source();
        }
        if wants_source && route.can_be_asked && route.forwards {
            self.asked.ask();
            asks.source = self.asked.take(now);
        }
        demand
    }
}

#[cfg(test)]
#[path = "fanout_tests.rs"]
mod tests;
