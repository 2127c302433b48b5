//! One encode, many viewers: payloads are shared, and whoever lags loses its own frames up to the next IDR.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::media::{Detection, Detections, FrameLedger, KeyframeRequest, RtpTimestamp};

/// Frames that may wait for one viewer: half a second at 30 frames a second. More, and it is better off with an IDR.
const WAITING_FRAMES: usize = 16;

/// What a viewer wants to see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VideoChoice {
    /// The pictures with the boxes in them.
    #[default]
    Annotated,
    /// The pictures as they come.
    Original,
}

/// An encoded frame with everything that is said about it.
#[derive(Debug)]
pub struct EncodedFrame {
    /// RTP payloads of the access unit, shared by all viewers.
    pub payloads: Vec<Bytes>,
    /// Decoding can start here.
    pub idr: bool,
    /// The frame's number in its stream.
    pub frame_id: u64,
    /// The frame's timestamps.
    pub rtp_timestamp: RtpTimestamp,
    /// When the sender captured it, by its own clock.
    pub captured: Option<SystemTime>,
    /// When it passed which door, up to the encoder.
    pub ledger: FrameLedger,
    /// The boxes as they are drawn.
    pub boxes: Vec<Detection>,
    /// Where the boxes come from.
    pub result: Option<Arc<Detections>>,
}

/// The frames of one encode, on their way to each viewer.
#[derive(Debug)]
pub struct Fanout {
    viewers: Mutex<Vec<Place>>,
    count: AtomicUsize,
    keyframes: KeyframeRequest,
    lost: AtomicU64,
}

#[derive(Debug)]
struct Place {
    frames: mpsc::Sender<Arc<EncodedFrame>>,
    /// Nothing goes to this viewer until an IDR comes: it is new, or it was too slow.
    waits_for_idr: bool,
}

/// A viewer's end. Dropping it ends the subscription.
#[derive(Debug)]
pub struct ViewerFeed {
    frames: mpsc::Receiver<Arc<EncodedFrame>>,
    keyframes: KeyframeRequest,
}

impl ViewerFeed {
    /// The next frame; `None` when the stream ended.
    pub async fn recv(&mut self) -> Option<Arc<EncodedFrame>> {
        self.frames.recv().await
    }

    /// A handle by which this viewer asks for an IDR.
    #[must_use]
    pub fn keyframe_request(&self) -> KeyframeRequest {
        self.keyframes.clone()
    }
}

impl Fanout {
    /// A fan-out that asks `keyframes` for an IDR whenever a viewer needs one.
    #[must_use]
    pub fn new(keyframes: KeyframeRequest) -> Self {
        Self { viewers: Mutex::default(), count: AtomicUsize::new(0), keyframes, lost: AtomicU64::new(0) }
    }

    /// A new viewer; its first frame is an IDR, which is asked for now.
    #[must_use]
    pub fn subscribe(&self, _choice: VideoChoice) -> ViewerFeed {
        let (sender, frames) = mpsc::channel(WAITING_FRAMES);
        let mut viewers = self.lock();
        viewers.push(Place { frames: sender, waits_for_idr: true });
        self.count.store(viewers.len(), Ordering::Relaxed);
        drop(viewers);
        self.keyframes.request();
        ViewerFeed { frames, keyframes: self.keyframes.clone() }
    }

    /// A handle to ask for an IDR of this encode.
    #[must_use]
    pub fn keyframe_request(&self) -> KeyframeRequest {
        self.keyframes.clone()
    }

    /// How many watch: with nobody, there is no need to encode.
    #[must_use]
    pub fn viewers(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Frames that viewers lost because they were too slow.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Gives a frame to every viewer. Never waits.
    pub fn send(&self, frame: &Arc<EncodedFrame>) {
        let mut needs_idr = false;
        let mut viewers = self.lock();
        viewers.retain_mut(|place| {
            if place.waits_for_idr && !frame.idr {
                self.lost.fetch_add(1, Ordering::Relaxed);
                needs_idr = true;
                return !place.frames.is_closed();
            }
            match place.frames.try_send(Arc::clone(frame)) {
                Ok(()) => place.waits_for_idr = false,
                Err(mpsc::error::TrySendError::Full(_)) => {
                    self.lost.fetch_add(1, Ordering::Relaxed);
                    place.waits_for_idr = true;
                    needs_idr = true;
                }
                Err(mpsc::error::TrySendError::Closed(_)) => return false,
            }
            true
        });
        self.count.store(viewers.len(), Ordering::Relaxed);
        drop(viewers);
        if needs_idr {
            self.keyframes.request();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Place>> {
        self.viewers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(frame_id: u64, idr: bool) -> Arc<EncodedFrame> {
        Arc::new(EncodedFrame {
            payloads: vec![Bytes::from_static(&[1])],
            idr,
            frame_id,
            rtp_timestamp: RtpTimestamp::default(),
            captured: None,
            ledger: FrameLedger::default(),
            boxes: vec![],
            result: None,
        })
    }

    fn fanout() -> (Fanout, Arc<AtomicU64>) {
        let asked = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&asked);
        let keyframes = KeyframeRequest::new(move || {
            count.fetch_add(1, Ordering::Relaxed);
        });
        (Fanout::new(keyframes), asked)
    }

    #[tokio::test]
    async fn a_new_viewer_begins_with_an_idr() {
        let (fanout, asked) = fanout();
        let mut viewer = fanout.subscribe(VideoChoice::Annotated);
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        fanout.send(&frame(0, false));
        fanout.send(&frame(1, true));
        fanout.send(&frame(2, false));
        assert_eq!(viewer.recv().await.unwrap().frame_id, 1);
        assert_eq!(viewer.recv().await.unwrap().frame_id, 2);
    }

    #[tokio::test]
    async fn a_slow_viewer_loses_its_own_frames_up_to_the_next_idr() {
        let (fanout, _) = fanout();
        let (mut slow, mut quick) =
            (fanout.subscribe(VideoChoice::Annotated), fanout.subscribe(VideoChoice::Annotated));
        fanout.send(&frame(0, true));
        assert_eq!(quick.recv().await.unwrap().frame_id, 0);
        let last = WAITING_FRAMES as u64 + 4;
        for id in 1..=last {
            fanout.send(&frame(id, false));
            assert_eq!(quick.recv().await.unwrap().frame_id, id, "the quick one sees all");
        }
        fanout.send(&frame(last + 1, true));
        let mut seen = Vec::new();
        while let Ok(frame) = slow.frames.try_recv() {
            seen.push(frame.frame_id);
        }
        assert_eq!(seen, (0..WAITING_FRAMES as u64).collect::<Vec<_>>(), "a run without gaps, then nothing");
        fanout.send(&frame(last + 2, false));
        assert!(slow.frames.try_recv().is_err(), "the IDR found no room either");
        fanout.send(&frame(last + 3, true));
        assert_eq!(slow.recv().await.unwrap().frame_id, last + 3);
        assert!(fanout.lost() > 0);
    }

    #[test]
    fn a_viewer_that_left_is_forgotten() {
        let (fanout, _) = fanout();
        drop(fanout.subscribe(VideoChoice::Annotated));
        assert_eq!(fanout.viewers(), 1);
        fanout.send(&frame(0, true));
        assert_eq!(fanout.viewers(), 0);
    }
}
