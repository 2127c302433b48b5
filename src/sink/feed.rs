//! A viewer's end of the fan-out.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::Instant;

use tokio::sync::mpsc;

use super::fanout::Shared;
use super::frame::EncodedFrame;
use super::place::Sending;
use crate::media::KeyframeRequest;
use crate::peer::Bandwidth;

/// What waits for a viewer.
#[derive(Debug)]
pub(super) enum Handed {
    Frame(Arc<EncodedFrame>),
    /// Everything since an IDR, once more.
    Again(Vec<Arc<EncodedFrame>>),
}

/// A viewer's end. Dropping it ends the subscription.
#[derive(Debug)]
pub struct ViewerFeed {
    pub(super) frames: mpsc::Receiver<Handed>,
    /// What was there before it came, or before it began again.
    pub(super) cached: VecDeque<Arc<EncodedFrame>>,
    pub(super) cached_until: Option<u64>,
    pub(super) id: u64,
    pub(super) home: Weak<Shared>,
}

impl ViewerFeed {
    pub(super) fn new(frames: mpsc::Receiver<Handed>, home: Weak<Shared>) -> Self {
        Self { frames, cached: VecDeque::new(), cached_until: None, id: 0, home }
    }

    /// The next frame; `None` when the stream ended.
    pub async fn recv(&mut self) -> Option<Arc<EncodedFrame>> {
        loop {
            if let Some(frame) = self.cached.pop_front() {
                return Some(frame);
            }
            let handed = self.frames.recv().await?;
            self.take(handed);
        }
    }

    pub(super) fn take(&mut self, handed: Handed) {
        match handed {
            Handed::Frame(frame) => self.cached.push_back(frame),
            Handed::Again(frames) => {
                self.cached_until = frames.last().map(|frame| frame.frame_id).max(self.cached_until);
                self.cached.extend(frames);
            }
        }
    }

    /// Whether a frame was there before this viewer came, so that its way out was none of the stream's making.
    #[must_use]
    pub fn was_cached(&self, frame: &EncodedFrame) -> bool {
        self.cached_until.is_some_and(|until| frame.frame_id <= until)
    }

    /// Says what the way to this viewer carries: the encode that it follows is held to that.
    pub fn set_bandwidth(&self, bandwidth: Option<Bandwidth>) {
        if let Some(home) = self.home.upgrade() {
            home.set_bandwidth(self.id, bandwidth.map(|bandwidth| bandwidth.video_bps));
        }
    }

    /// A handle that says what this viewer is sent.
    #[must_use]
    pub fn standing(&self) -> Standing {
        Standing { id: self.id, home: self.home.clone() }
    }

    /// A handle by which this viewer asks for an IDR.
    #[must_use]
    pub fn keyframe_request(&self) -> KeyframeRequest {
        let (id, home) = (self.id, self.home.clone());
        KeyframeRequest::new(move || {
            if let Some(home) = home.upgrade() {
                home.complain(id, Instant::now());
            }
        })
    }
}

/// Says what a viewer is sent.
#[derive(Clone, Debug)]
pub struct Standing {
    id: u64,
    home: Weak<Shared>,
}

impl Standing {
    /// What it is sent now; `None` before the first frame, and after the last.
    #[must_use]
    pub fn sending(&self) -> Option<Sending> {
        self.home.upgrade()?.sending(self.id)
    }
}

impl Drop for ViewerFeed {
    fn drop(&mut self) {
        if let Some(home) = self.home.upgrade() {
            home.leave(self.id);
        }
    }
}
