//! One encode, many viewers: payloads are shared, and whoever lags loses its own frames up to the next IDR.

mod begin;
mod sort;

use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::encodes::{Asks, Demand, Encodes, KeyframeRequests};
use super::feed::{Handed, ViewerFeed};
use super::frame::{Bitstream, EncodedFrame, VideoChoice};
use super::gop::Gop;
use super::place::{Place, Route, Sending, Verdict};
use super::tiers::Reach;
use crate::media::KeyframeGate;

/// Frames that may wait for one viewer: half a second at 30 frames a second. More, and it is better off with an IDR.
const WAITING_FRAMES: usize = 16;

/// No viewer's way is known to be narrow.
const NO_LIMIT: u32 = u32::MAX;

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
    /// How many watch each encode, and what the narrowest way to one of them carries, in bits a second.
    watched: Encodes<AtomicUsize>,
    narrowest: Encodes<AtomicU32>,
    /// What an encode takes at most.
    full: AtomicU32,
    lost: AtomicU64,
}

#[derive(Debug)]
struct State {
    entries: Vec<Entry>,
    next_id: u64,
    route: Route,
    source: Gop,
    encodes: Encodes<Gop>,
    /// The source's bytes since a moment, and its bits a second before that.
    weight: Option<(Instant, usize)>,
    source_bps: Option<f64>,
    /// When links were sorted last.
    sorted: Option<Instant>,
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
    /// The way to it.
    reach: Reach,
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
            encodes: Encodes::default(),
            weight: None,
            source_bps: None,
            sorted: None,
            asked: KeyframeGate::default(),
            pace: None,
        };
        Self(Arc::new(Shared {
            state: Mutex::new(state),
            requests,
            viewers: AtomicUsize::new(0),
            annotated: AtomicUsize::new(0),
            plain: AtomicUsize::new(0),
            watched: Encodes::default(),
            narrowest: Encodes::each(|| AtomicU32::new(NO_LIMIT)),
            full: AtomicU32::new(NO_LIMIT),
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
            if choice == VideoChoice::Annotated && place.needs_idr() {
                asks.ask(Bitstream::Annotated, place.tier());
            }
            let began = (!place.needs_idr()).then_some(now);
            state.entries.push(Entry {
                id: feed.id,
                place,
                frames: sender,
                bridged: false,
                began,
                beginnings: 1,
                reach: Reach::default(),
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
            state.encodes.all_mut().for_each(Gop::clear);
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

    /// How many watch an encode, or are about to.
    #[must_use]
    pub fn watched(&self, bitstream: Bitstream, tier: usize) -> usize {
        self.0.watched.get(bitstream, tier).map_or(0, |watched| watched.load(Ordering::Relaxed))
    }

    /// What the slowest viewer of an encode takes, in bits of video a second; `None` while that is not known of any.
    #[must_use]
    pub fn narrowest(&self, bitstream: Bitstream, tier: usize) -> Option<u32> {
        let bps = self.0.narrowest.get(bitstream, tier)?.load(Ordering::Relaxed);
        (bps != NO_LIMIT).then_some(bps)
    }

    /// Says what an encode of the pictures takes at most, in bits a second: links that carry more are alike.
    pub fn set_full(&self, bps: u32) {
        self.0.full.store(bps, Ordering::Relaxed);
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
        let demand = state.settle(now, f64::from(self.full.load(Ordering::Relaxed)), &mut asks);
        self.viewers.store(state.entries.len(), Ordering::Relaxed);
        self.annotated.store(demand.annotated, Ordering::Relaxed);
        self.plain.store(demand.plain, Ordering::Relaxed);
        let (watched, narrowest) = state.watched();
        self.watched.all().zip(watched.all()).for_each(|(shared, count)| shared.store(*count, Ordering::Relaxed));
        self.narrowest.all().zip(narrowest.all()).for_each(|(shared, bps)| shared.store(*bps, Ordering::Relaxed));
        drop(state);
        asks.send(&self.requests);
        changed
    }

    /// The way to a viewer carries so many bits of video a second, or nobody knows.
    pub(super) fn set_bandwidth(&self, id: u64, bps: Option<f64>) {
        self.set_bandwidth_at(id, bps, Instant::now());
    }

    fn set_bandwidth_at(&self, id: u64, bps: Option<f64>, now: Instant) {
        self.change(now, |state, _, _| {
            if let Some(entry) = state.entries.iter_mut().find(|entry| entry.id == id) {
                entry.reach.bps = bps;
            }
        });
    }

    /// What a viewer is sent.
    pub(super) fn sending(&self, id: u64) -> Option<Sending> {
        self.lock().entries.iter().find(|entry| entry.id == id)?.place.sending()
    }

    /// A viewer asks for an IDR.
    pub(super) fn complain(&self, id: u64, now: Instant) {
        self.change(now, |state, asks, _| {
            if state.begin_again(id, now) {
                return;
            }
            let route = state.route;
            let Some(entry) = state.entries.iter_mut().find(|entry| entry.id == id) else { return };
            if let Some(bitstream) = entry.encode(route, now) {
                let follows = entry.place.follows().filter(|(its, _)| *its == bitstream);
                asks.ask(bitstream, follows.map_or(entry.place.tier(), |(_, tier)| tier));
            }
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
                Verdict::Pass => {
                    if frame.idr && place.wants(frame) {
                        // It has this picture already by the encode that it leaves: at the next one.
                        asks.ask(frame.bitstream, frame.tier);
                    }
                    return !frames.is_closed();
                }
                Verdict::Miss => {}
            }
            lost.fetch_add(1, Ordering::Relaxed);
            place.broke(now);
            asks.ask(frame.bitstream, place.tier());
            !frames.is_closed()
        });
        given
    }

    fn keep(&mut self, frame: &Arc<EncodedFrame>, now: Instant) {
        match frame.bitstream {
            encode @ (Bitstream::Annotated | Bitstream::Plain) => {
                if let Some(gop) = self.encodes.get_mut(encode, frame.tier) {
                    gop.put(frame, now);
                }
            }
            Bitstream::Source => {
                self.source.put(frame, now);
                self.weigh(frame, now);
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

    /// Counts who needs what, and asks for what somebody waits for since the last look.
    fn settle(&mut self, now: Instant, full: f64, asks: &mut Asks) -> Demand {
        self.sort(now, full, asks);
        let route = self.route;
        let mut demand = Demand::default();
        let mut wants_source = false;
        for Entry { place, bridged, .. } in &mut self.entries {
            demand.annotated += usize::from(place.choice() == VideoChoice::Annotated);
            let was_bridged = std::mem::replace(bridged, place.is_bridged(route, now));
            demand.plain += usize::from(*bridged);
            if *bridged && !was_bridged && place.needs_idr() {
                asks.ask(Bitstream::Plain, place.tier());
            }
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
