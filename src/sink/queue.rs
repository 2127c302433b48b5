//! A bounded queue in front of a datachannel: the oldest message goes first when there is no room.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

use super::share::{Share, Topic};
use crate::peer::Bandwidth;

/// Messages that may wait: two seconds of frames and detections at 15 a second each.
const WAITING_MESSAGES: usize = 64;

/// Messages on their way to one channel. Putting one in never waits.
#[derive(Debug, Default)]
pub struct MessageQueue {
    waiting: Mutex<VecDeque<String>>,
    ready: Notify,
    open: AtomicBool,
    dropped: AtomicU64,
    share: Mutex<Share>,
    thinned: AtomicU64,
}

impl MessageQueue {
    /// An empty queue that nobody reads yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether somebody reads: if not, there is no need to write a message.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.open.load(Ordering::Relaxed)
    }

    /// Says that somebody reads from now on, or no longer does.
    pub fn set_open(&self, open: bool) {
        self.open.store(open, Ordering::Relaxed);
        if !open {
            self.lock().clear();
        }
    }

    /// Says what the way to the reader carries: the picture goes first on a narrow one.
    pub fn set_link(&self, bandwidth: Option<Bandwidth>) {
        let limited = bandwidth.filter(|bandwidth| bandwidth.limited);
        let link = limited.map(|bandwidth| (bandwidth.bps, bandwidth.spare_bps));
        self.share.lock().unwrap_or_else(PoisonError::into_inner).set_link(link);
    }

    /// Puts a message at the end that a narrow link may do without.
    pub(super) fn offer(&self, topic: Topic, message: String) {
        let mut share = self.share.lock().unwrap_or_else(PoisonError::into_inner);
        let admitted = share.admits(topic, message.len(), Instant::now());
        drop(share);
        if admitted {
            self.push(message);
        } else {
            self.thinned.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Puts a message at the end; the oldest goes if there is no room.
    pub fn push(&self, message: String) {
        let mut waiting = self.lock();
        if waiting.len() >= WAITING_MESSAGES {
            waiting.pop_front();
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        waiting.push_back(message);
        drop(waiting);
        self.ready.notify_one();
    }

    /// Waits for a message and takes it. Only one task may wait.
    pub async fn pop(&self) -> String {
        loop {
            if let Some(message) = self.lock().pop_front() {
                return message;
            }
            self.ready.notified().await;
        }
    }

    /// Puts back a message that could not be sent, unless newer ones have filled the queue meanwhile.
    pub fn put_back(&self, message: String) {
        let mut waiting = self.lock();
        if waiting.len() >= WAITING_MESSAGES {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        } else {
            waiting.push_front(message);
        }
    }

    /// Messages that were dropped because the reader was too slow.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Messages that were left out because the link is narrow.
    #[must_use]
    pub fn thinned(&self) -> u64 {
        self.thinned.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<String>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_oldest_goes_first_and_is_counted() {
        let queue = MessageQueue::new();
        for n in 0..WAITING_MESSAGES + 3 {
            queue.push(n.to_string());
        }
        assert_eq!(queue.dropped(), 3);
        assert_eq!(queue.pop().await, "3");
    }

    #[tokio::test]
    async fn on_a_narrow_link_frames_are_left_out_and_counted_and_answers_are_not() {
        let queue = MessageQueue::new();
        let (bps, queue_time) = (50_000.0, std::time::Duration::ZERO);
        let narrow = Bandwidth { bps, video_bps: bps, spare_bps: 0.0, limited: true, queue: queue_time, loss: None };
        queue.set_link(Some(Bandwidth { limited: false, ..narrow }));
        queue.offer(Topic::Frame, "anything".to_owned());
        assert_eq!((queue.thinned(), queue.pop().await), (0, "anything".to_owned()));
        queue.set_link(Some(narrow));
        (0..20).for_each(|n| queue.offer(Topic::Frame, format!("{n:0>1000}")));
        queue.push("answer".to_owned());
        assert_eq!(queue.pop().await, format!("{:0>1000}", 0));
        assert_eq!(queue.pop().await, "answer");
        assert_eq!((queue.thinned(), queue.dropped()), (19, 0));
    }

    #[tokio::test]
    async fn a_message_that_could_not_be_sent_keeps_its_place() {
        let queue = MessageQueue::new();
        queue.push("a".to_owned());
        queue.push("b".to_owned());
        let first = queue.pop().await;
        queue.put_back(first);
        assert_eq!(queue.pop().await, "a");
        assert_eq!(queue.pop().await, "b");
    }

    #[tokio::test]
    async fn a_waiting_reader_is_woken() {
        let queue = std::sync::Arc::new(MessageQueue::new());
        let reader = tokio::spawn({
            let queue = std::sync::Arc::clone(&queue);
            async move { queue.pop().await }
        });
        tokio::task::yield_now().await;
        queue.push("x".to_owned());
        assert_eq!(reader.await.unwrap(), "x");
    }
}
