//! The streams of a server by name: who feeds each, who watches it, and when it is over.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock};

use serde::Serialize;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::options::{Mode, PipelineError};
use super::parts::Signal;
use super::published::Published;
use super::stream::Stream;
use super::video::lock;
use crate::media::{AccessUnit, AudioPacket, KeyframeRequest};

/// Where a stream's pictures come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StreamKind {
    /// One session that publishes and watches at once.
    Offer,
    /// A WHIP publisher (RFC 9725).
    Whip,
    /// A camera of the configuration.
    Camera,
}

/// A stream under its name, with whoever feeds and watches it. It outlives a publisher, and a viewer outlives neither.
pub(super) struct Place {
    pub(super) stream: Arc<Stream>,
    pub(super) kind: StreamKind,
    /// What a viewer sees that does not choose.
    mode: Mutex<Mode>,
    feed: Mutex<Feed>,
    keyframes: Upstream,
    viewers: watch::Sender<usize>,
    over: CancellationToken,
    why: OnceLock<String>,
    pub(super) published: Published,
}

/// Who feeds a stream. Each feeder has a number, so that one that was displaced and does not know it yet changes nothing.
#[derive(Debug, Default)]
struct Feed {
    number: u64,
    /// The session that publishes now.
    session: Option<String>,
    /// Whether the feeder's pictures have begun.
    began: bool,
}

/// A publisher's right to feed a stream.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) number: u64,
    /// The session that published before, and should be told so.
    pub(super) displaced: Option<String>,
}

impl Place {
    pub(super) fn new(stream: Arc<Stream>, kind: StreamKind, mode: Mode, keyframes: Upstream) -> Arc<Self> {
        Arc::new(Self {
            stream,
            kind,
            mode: Mutex::new(mode),
            feed: Mutex::default(),
            keyframes,
            viewers: watch::Sender::new(0),
            over: CancellationToken::new(),
            why: OnceLock::new(),
            published: Published::default(),
        })
    }

    pub(super) fn name(&self) -> &Arc<str> {
        self.stream.name()
    }

    pub(super) fn mode(&self) -> Mode {
        *lock(&self.mode)
    }

    pub(super) fn set_mode(&self, mode: Mode) {
        *lock(&self.mode) = mode;
    }

    /// A new feeder, where nobody feeds the stream or `takeover` is meant.
    fn claim(&self, session: &str, takeover: bool) -> Result<Claim, PipelineError> {
        let mut feed = lock(&self.feed);
        if feed.session.is_some() && !takeover {
            return Err(PipelineError::NameTaken(self.name().to_string()));
        }
        feed.number += 1;
        feed.began = false;
        let displaced = feed.session.replace(session.to_owned());
        Ok(Claim { number: feed.number, displaced })
    }

    /// Whether somebody publishes.
    pub(super) fn published(&self) -> bool {
        lock(&self.feed).session.is_some()
    }

    /// The feeder's track is there: `keyframes` reaches it, and a new epoch begins.
    pub(super) fn begin(&self, feeder: u64, keyframes: KeyframeRequest) {
        let mut feed = lock(&self.feed);
        if feed.number == feeder {
            // The viewers of an offer's stream come after its first picture, those of others may have seen a banner.
            if self.kind != StreamKind::Offer && !feed.began {
                self.stream.begin_epoch();
            }
            feed.began = true;
            self.keyframes.set(Some(keyframes));
        }
    }

    /// Takes an access unit from the feeder, unless it is no longer the one.
    pub(super) fn push(&self, feeder: u64, unit: AccessUnit) {
        // Under the lock, so that nothing of a displaced feeder comes after the new one's epoch began. Never waits.
        let feed = lock(&self.feed);
        if feed.number == feeder {
            self.stream.push(unit);
        }
    }

    /// Takes audio from the feeder, unless it is no longer the one.
    pub(super) fn push_audio(&self, feeder: u64, packet: AudioPacket) {
        let feed = lock(&self.feed);
        if feed.number == feeder {
            self.stream.push_audio(packet);
        }
    }

    /// The feeder has gone; `false` if another had taken its place. The viewers see `signal`.
    pub(super) fn release(&self, feeder: u64, signal: Signal) -> bool {
        let mut feed = lock(&self.feed);
        let current = feed.number == feeder;
        if current {
            feed.session = None;
            self.keyframes.set(None);
            self.stream.set_signal(signal);
        }
        current
    }

    /// Counts a viewer for as long as the guard lives.
    pub(super) fn viewer(self: &Arc<Self>) -> Viewing {
        self.viewers.send_modify(|count| *count += 1);
        Viewing(Arc::clone(self))
    }

    /// How many watch, and when that changes.
    pub(super) fn viewers(&self) -> watch::Receiver<usize> {
        self.viewers.subscribe()
    }

    /// Ends the stream: its viewers leave, told `why`. The first reason stays.
    pub(super) fn end(&self, why: &str) {
        let _ = self.why.set(why.to_owned());
        self.over.cancel();
    }

    /// Resolves when the stream is over.
    pub(super) fn over(&self) -> &CancellationToken {
        &self.over
    }

    /// Why it is over.
    pub(super) fn why(&self) -> &str {
        self.why.get().map_or("the stream ended", String::as_str)
    }
}

/// As long as it lives, somebody watches.
pub(super) struct Viewing(Arc<Place>);

impl Drop for Viewing {
    fn drop(&mut self) {
        self.0.viewers.send_modify(|count| *count -= 1);
    }
}

/// Where a stream's keyframe requests go: to the feeder of the moment, if it has one that can be asked.
#[derive(Clone, Default)]
pub(super) struct Upstream(Arc<Mutex<Option<KeyframeRequest>>>);

impl Upstream {
    pub(super) fn keyframe_request(&self) -> KeyframeRequest {
        let upstream = self.clone();
        KeyframeRequest::new(move || {
            let request = lock(&upstream.0).clone();
            if let Some(request) = request {
                request.request();
            }
        })
    }

    fn set(&self, request: Option<KeyframeRequest>) {
        *lock(&self.0) = request;
    }
}

/// All streams by name.
#[derive(Default)]
pub(super) struct Streams(Mutex<BTreeMap<Arc<str>, Arc<Place>>>);

impl Streams {
    pub(super) fn get(&self, name: &str) -> Option<Arc<Place>> {
        lock(&self.0).get(name).cloned()
    }

    pub(super) fn all(&self) -> Vec<Arc<Place>> {
        lock(&self.0).values().cloned().collect()
    }

    /// Puts a stream under its name, with `session` as its first feeder if there is one.
    pub(super) fn insert(&self, place: &Arc<Place>, session: Option<&str>) -> Result<u64, PipelineError> {
        let mut places = lock(&self.0);
        if places.contains_key(place.name()) {
            return Err(PipelineError::NameTaken(place.name().to_string()));
        }
        let feeder = match session {
            Some(session) => place.claim(session, false)?.number,
            None => 0,
        };
        places.insert(Arc::clone(place.name()), Arc::clone(place));
        Ok(feeder)
    }

    /// The WHIP stream of this name, which `session` feeds from now on; `None` when there is no stream of this name.
    pub(super) fn claim(
        &self,
        name: &str,
        session: &str,
        takeover: bool,
    ) -> Result<Option<(Arc<Place>, Claim)>, PipelineError> {
        // Under the map's lock: a stream whose time is up is not given out.
        let places = lock(&self.0);
        match places.get(name) {
            None => Ok(None),
            Some(place) if place.kind == StreamKind::Whip => {
                Ok(Some((Arc::clone(place), place.claim(session, takeover)?)))
            }
            Some(_) => Err(PipelineError::NameTaken(name.to_owned())),
        }
    }

    /// Takes this very stream out and ends it.
    pub(super) fn remove(&self, place: &Arc<Place>, why: &str) -> bool {
        self.remove_if(place, why, |_| true)
    }

    /// Takes the stream out and ends it if nobody has fed it since `feeder` left.
    pub(super) fn remove_unless_fed(&self, place: &Arc<Place>, feeder: u64, why: &str) -> bool {
        self.remove_if(place, why, |feed| feed.number == feeder && feed.session.is_none())
    }

    fn remove_if(&self, place: &Arc<Place>, why: &str, condition: impl FnOnce(&Feed) -> bool) -> bool {
        let mut places = lock(&self.0);
        let present = places.get(place.name()).is_some_and(|known| Arc::ptr_eq(known, place));
        if !present || !condition(&lock(&place.feed)) {
            return false;
        }
        places.remove(place.name());
        place.end(why);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keyframe_request_waits_for_its_publisher() {
        let upstream = Upstream::default();
        let request = upstream.keyframe_request();
        request.request();
        let (asked, seen) = std::sync::mpsc::channel();
        upstream.set(Some(KeyframeRequest::new(move || asked.send(()).unwrap())));
        request.request();
        assert!(seen.try_recv().is_ok());
    }
}
