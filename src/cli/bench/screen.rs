//! The one decoder thread of the generator, which reads the numbers in the pixels of what came back.

use std::collections::HashMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use anyhow::Context;
use sightline::decode::VideoDecoder;
use sightline::media::{AccessUnit, FramePool, KeyframeRequest};

use super::book::Stamp;
use super::session::Shared;
use super::stamp;

/// Access units that wait for the decoder, of all sessions together.
const WAITING: usize = 64;

enum Work {
    /// A stretch begins: the decoder is made anew.
    Begin(u64),
    Unit(u64, Shared, AccessUnit),
    End(u64),
}

/// The way to the thread, which ends with the last clone.
#[derive(Clone)]
pub struct Screen(SyncSender<Work>);

impl Screen {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start() -> anyhow::Result<Self> {
        let (sender, receiver) = sync_channel(WAITING);
        thread::Builder::new().name("screen".into()).spawn(move || run(&receiver)).context("no thread")?;
        Ok(Self(sender))
    }
}

fn run(work: &Receiver<Work>) {
    let mut decoders: HashMap<u64, VideoDecoder> = HashMap::new();
    while let Ok(work) = work.recv() {
        match work {
            Work::Begin(of) | Work::End(of) => drop(decoders.remove(&of)),
            Work::Unit(of, book, unit) => {
                let decoder = decoders
                    .entry(of)
                    .or_insert_with(|| VideoDecoder::new(FramePool::new(), KeyframeRequest::ignored()));
                if let Ok(Some(shown)) = decoder.decode(&unit) {
                    let number = stamp::read(&shown.picture);
                    let size = (shown.picture.width(), shown.picture.height());
                    book.lock().stamps.push(Stamp { rtp_timestamp: shown.rtp_timestamp, number, size });
                }
            }
        }
    }
}

/// The stretches of one session that are decoded, each from a keyframe on.
pub struct Stretch {
    screen: Screen,
    book: Shared,
    of: u64,
    broken: AtomicBool,
}

impl Stretch {
    /// Of the session with this book.
    pub fn of(screen: Screen, book: Shared) -> Self {
        static NEXT: OnceLock<AtomicU64> = OnceLock::new();
        let of = NEXT.get_or_init(AtomicU64::default).fetch_add(1, Ordering::Relaxed);
        Self { screen, book, of, broken: AtomicBool::new(false) }
    }

    /// A new stretch: the next unit is an IDR.
    pub fn begin(&self) {
        self.broken.store(self.screen.0.try_send(Work::Begin(self.of)).is_err(), Ordering::Relaxed);
    }

    /// The next unit. One that finds no room ends the stretch, as those behind it depend on it.
    pub fn show(&self, unit: AccessUnit) {
        if !self.broken.load(Ordering::Relaxed)
            && self.screen.0.try_send(Work::Unit(self.of, self.book.clone(), unit)).is_err()
        {
            self.broken.store(true, Ordering::Relaxed);
            self.book.lock().undecoded += 1;
        }
    }
}

impl Drop for Stretch {
    fn drop(&mut self) {
        // Full: the decoder goes with the thread.
        let _ = self.screen.0.try_send(Work::End(self.of));
    }
}
