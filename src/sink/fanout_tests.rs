use bytes::Bytes;

use super::super::gop::{MAX_BYTES, MAX_FRAMES};
use super::super::tiers::TIERS;
use super::begin::{BEGIN_AGAIN_AFTER, BEGINNING, BEGINNINGS};
use super::*;
use crate::media::{FrameLedger, IDR_INTERVAL, KeyframeRequest, RtpTimestamp};
use crate::sink::Bitstream::{Annotated, Plain, Source};

const FRAME: Duration = Duration::from_millis(33);

fn frame(bitstream: Bitstream, n: u32, idr: bool) -> Arc<EncodedFrame> {
    sized(bitstream, n, idr, 1)
}

fn sized(bitstream: Bitstream, n: u32, idr: bool, bytes: usize) -> Arc<EncodedFrame> {
    let rtp_timestamp = RtpTimestamp { output: n.wrapping_mul(3000), source: 0 };
    Arc::new(EncodedFrame {
        bitstream,
        tier: 0,
        payloads: vec![Bytes::from(vec![1; bytes])],
        idr,
        frame_id: u64::from(n),
        rtp_timestamp,
        captured: None,
        ledger: FrameLedger::default(),
        boxes: vec![],
        result: None,
    })
}

/// A fan-out, how often each bitstream's IDR was asked for, and a clock.
struct Bench {
    fanout: Fanout,
    asked: [Arc<AtomicU64>; 3],
    now: Instant,
}

impl Bench {
    fn new(source_can_be_asked: bool) -> Self {
        let asked = [(); 3].map(|()| Arc::new(AtomicU64::new(0)));
        let request = |count: &Arc<AtomicU64>| {
            let count = Arc::clone(count);
            KeyframeRequest::new(move || {
                count.fetch_add(1, Ordering::Relaxed);
            })
        };
        let requests = KeyframeRequests {
            annotated: [(); TIERS].map(|()| request(&asked[0])),
            plain: [(); TIERS].map(|()| request(&asked[1])),
            source: source_can_be_asked.then(|| request(&asked[2])),
        };
        Self { fanout: Fanout::new(requests), asked, now: Instant::now() }
    }

    fn watch(&self, choice: VideoChoice) -> ViewerFeed {
        self.fanout.subscribe_at(choice, self.now)
    }

    fn send(&self, bitstream: Bitstream, n: u32, idr: bool) {
        self.fanout.send_at(&frame(bitstream, n, idr), self.now);
    }

    /// The next frame of the source, a frame's time later.
    fn source(&mut self, n: u32, idr: bool) {
        self.now += FRAME;
        self.send(Source, n, idr);
    }

    fn complain(&self, feed: &ViewerFeed) {
        self.fanout.0.complain(feed.id, self.now);
    }

    fn asked(&self) -> [u64; 3] {
        [0, 1, 2].map(|n: usize| self.asked[n].load(Ordering::Relaxed))
    }

    fn plain(&self) -> usize {
        self.fanout.demand().plain
    }
}

fn drain(feed: &mut ViewerFeed) -> Vec<Arc<EncodedFrame>> {
    while let Ok(handed) = feed.frames.try_recv() {
        feed.take(handed);
    }
    feed.cached.drain(..).collect()
}

fn seen(feed: &mut ViewerFeed) -> Vec<(Bitstream, u64)> {
    drain(feed).iter().map(|frame| (frame.bitstream, frame.frame_id)).collect()
}

#[test]
fn a_new_viewer_begins_with_an_idr() {
    let bench = Bench::new(false);
    let mut viewer = bench.watch(VideoChoice::Annotated);
    assert_eq!(bench.asked(), [1, 0, 0]);
    bench.send(Annotated, 0, false);
    bench.send(Annotated, 1, true);
    bench.send(Annotated, 2, false);
    assert_eq!(seen(&mut viewer), [(Annotated, 1), (Annotated, 2)]);
}

#[test]
fn a_slow_viewer_loses_its_own_frames_up_to_the_next_idr() {
    let bench = Bench::new(false);
    let (mut slow, mut quick) = (bench.watch(VideoChoice::Annotated), bench.watch(VideoChoice::Annotated));
    let last = u32::try_from(WAITING_FRAMES).unwrap() + 4;
    for n in 0..=last {
        bench.send(Annotated, n, n == 0);
        assert_eq!(seen(&mut quick), [(Annotated, u64::from(n))], "the quick one sees all");
    }
    bench.send(Annotated, last + 1, true);
    let run: Vec<_> = (0..WAITING_FRAMES as u64).map(|n| (Annotated, n)).collect();
    assert_eq!(seen(&mut slow), run, "a run without gaps, then nothing");
    bench.send(Annotated, last + 2, false);
    assert!(seen(&mut slow).is_empty(), "the IDR found no room either");
    bench.send(Annotated, last + 3, true);
    assert_eq!(seen(&mut slow), [(Annotated, u64::from(last) + 3)]);
    assert!(bench.fanout.lost() > 0);
}

#[test]
fn a_viewer_that_left_is_forgotten_at_once() {
    let bench = Bench::new(false);
    let viewer = bench.watch(VideoChoice::Original);
    assert_eq!((bench.fanout.viewers(), bench.plain()), (1, 1));
    drop(viewer);
    assert_eq!((bench.fanout.viewers(), bench.plain()), (0, 0));
}

#[test]
fn soon_after_an_idr_a_new_viewer_gets_it_with_what_followed_and_none_is_asked_for() {
    let mut bench = Bench::new(false);
    let _first = bench.watch(VideoChoice::Annotated);
    bench.send(Annotated, 0, true);
    bench.send(Annotated, 1, false);
    bench.now += IDR_INTERVAL - FRAME;
    let mut second = bench.watch(VideoChoice::Annotated);
    bench.send(Annotated, 2, false);
    assert_eq!(bench.asked()[0], 1);
    let frames = drain(&mut second);
    assert_eq!(frames.iter().map(|frame| frame.frame_id).collect::<Vec<_>>(), [0, 1, 2]);
    assert!(second.was_cached(&frames[1]) && !second.was_cached(&frames[2]));
    bench.now += FRAME;
    let mut third = bench.watch(VideoChoice::Annotated);
    assert!(drain(&mut third).is_empty());
    assert_eq!(bench.asked()[0], 2, "an IDR can be had with the next picture");
}

#[test]
fn a_viewer_that_has_seen_nothing_begins_again_with_what_is_kept_and_no_idr_is_asked_for() {
    let mut bench = Bench::new(false);
    let mut viewer = bench.watch(VideoChoice::Annotated);
    bench.complain(&viewer);
    assert_eq!(bench.asked()[0], 2, "there is nothing to begin with yet");
    for n in 0..3 {
        bench.send(Annotated, n, n == 0);
        bench.now += FRAME;
    }
    let _ = seen(&mut viewer);
    bench.complain(&viewer);
    bench.complain(&viewer);
    bench.send(Annotated, 3, false);
    let again: Vec<_> = (0..4).map(|n| (Annotated, n)).collect();
    let frames = drain(&mut viewer);
    assert_eq!(frames.iter().map(|frame| (frame.bitstream, frame.frame_id)).collect::<Vec<_>>(), again, "once");
    assert!(viewer.was_cached(&frames[2]) && !viewer.was_cached(&frames[3]));
    assert_eq!(bench.asked()[0], 2);
    // Later it is a packet that it lost: it has seen pictures, and an IDR is what helps.
    bench.now += BEGINNING;
    bench.complain(&viewer);
    assert_eq!((seen(&mut viewer), bench.asked()[0]), (vec![], 3));
}

#[test]
fn nobody_begins_again_for_ever() {
    let mut bench = Bench::new(false);
    let mut viewer = bench.watch(VideoChoice::Annotated);
    bench.send(Annotated, 0, true);
    for _ in 0..10 {
        bench.now += BEGIN_AGAIN_AFTER;
        bench.complain(&viewer);
    }
    assert_eq!(seen(&mut viewer).len(), usize::from(BEGINNINGS));
    assert!(bench.asked()[0] > 1, "then an IDR is asked for");
}

#[test]
fn while_all_are_in_sync_nothing_is_encoded() {
    let mut bench = Bench::new(false);
    bench.source(0, true);
    let mut viewers: Vec<_> = (0..50).map(|_| bench.watch(VideoChoice::Original)).collect();
    for n in 1..10 {
        bench.source(n, n == 5);
        assert_eq!(bench.plain(), 0);
    }
    let all: Vec<_> = (0..10).map(|n| (Source, n)).collect();
    assert!(viewers.iter_mut().all(|viewer| seen(viewer) == all));
    assert_eq!(bench.asked(), [0, 0, 0]);
}

#[test]
fn the_cache_serves_where_it_shows_the_present_sooner_than_the_bridge() {
    let mut bench = Bench::new(false);
    bench.source(0, true);
    for n in 1..5 {
        bench.source(n, false);
    }
    // 5 frames of 4 ms against a frame of 33 ms and the bridge's 30.
    assert_eq!(seen(&mut bench.watch(VideoChoice::Original)).len(), 5);
    for n in 5..40 {
        bench.source(n, false);
    }
    // 40 frames of 4 ms.
    assert!(seen(&mut bench.watch(VideoChoice::Original)).is_empty());
    assert_eq!(bench.asked()[1], 1, "the bridge");
    // A slow camera's next picture is far.
    bench.now += Duration::from_millis(1000);
    bench.send(Source, 40, false);
    assert_eq!(seen(&mut bench.watch(VideoChoice::Original)).len(), 41);
}

#[test]
fn the_cache_is_bounded_by_frames_and_by_bytes() {
    let (mut gop, now) = (Gop::default(), Instant::now());
    let most = u32::try_from(MAX_FRAMES).unwrap();
    for n in 0..most {
        gop.put(&frame(Source, n, n == 0), now);
    }
    assert_eq!(gop.frames().len(), MAX_FRAMES);
    gop.put(&frame(Source, most, false), now);
    assert!(gop.frames().is_empty(), "a part would be of no use");
    gop.put(&frame(Source, most + 1, false), now);
    assert!(gop.frames().is_empty() && gop.catching_up().is_none());
    gop.put(&sized(Source, most + 2, true, MAX_BYTES), now);
    assert_eq!(gop.frames().len(), 1);
    assert!(gop.catching_up().unwrap() > Duration::from_millis(100), "a megabyte takes its time");
    gop.put(&frame(Source, most + 3, false), now);
    assert!(gop.frames().is_empty());
}

#[test]
fn a_viewer_that_lost_data_is_bridged_until_the_sources_next_idr() {
    let mut bench = Bench::new(false);
    bench.source(0, true);
    let (mut lossy, mut clean) = (bench.watch(VideoChoice::Original), bench.watch(VideoChoice::Original));
    for n in 1..10 {
        bench.source(n, false);
    }
    bench.complain(&lossy);
    assert_eq!((bench.plain(), bench.asked()[1]), (1, 1));
    assert!(!bench.fanout.wants_plain(27_000), "it has that picture already");
    assert!(bench.fanout.wants_plain(30_000));
    bench.source(10, false);
    bench.send(Plain, 10, true);
    bench.source(11, false);
    bench.send(Plain, 11, false);
    bench.source(12, true);
    assert_eq!(bench.plain(), 0, "all in sync");
    bench.send(Plain, 12, false);
    bench.source(13, false);
    let mut expected: Vec<_> = (0..14).map(|n| (Source, n)).collect();
    assert_eq!(seen(&mut clean), expected);
    expected[10].0 = Plain;
    expected[11].0 = Plain;
    assert_eq!(seen(&mut lossy), expected);
}

#[test]
fn a_source_that_can_be_asked_is_and_the_bridge_waits_half_a_second() {
    let mut bench = Bench::new(true);
    bench.source(0, true);
    let mut viewer = bench.watch(VideoChoice::Original);
    for n in 1..20 {
        bench.source(n, false);
        let _ = seen(&mut viewer);
    }
    bench.complain(&viewer);
    assert_eq!((bench.plain(), bench.asked()), (0, [0, 0, 1]));
    bench.source(20, false);
    bench.source(21, true);
    assert_eq!(bench.plain(), 0);
    assert_eq!(seen(&mut viewer), [(Source, 20), (Source, 21)], "what comes meanwhile is sent");
    bench.now += IDR_INTERVAL;
    bench.complain(&viewer);
    let mut n = 22;
    while bench.plain() == 0 {
        bench.source(n, false);
        n += 1;
        assert!(n < 60, "never bridged");
        let _ = seen(&mut viewer);
    }
    assert!((22 + 15..22 + 18).contains(&n), "after half a second: {n}");
    assert_eq!(bench.asked()[1], 1);
    bench.send(Plain, n - 1, true);
    assert_eq!(seen(&mut viewer), [(Plain, u64::from(n) - 1)]);
    assert!(bench.asked()[2] >= 3, "the source is asked on");
}

#[test]
fn without_a_signal_and_without_forwarding_all_are_bridged() {
    let mut bench = Bench::new(true);
    bench.source(0, true);
    let mut viewer = bench.watch(VideoChoice::Original);
    bench.fanout.set_lost(true);
    assert_eq!((bench.plain(), bench.asked()[1]), (1, 1));
    bench.send(Plain, 1, true);
    bench.source(2, true);
    assert_eq!(bench.plain(), 0, "it is back");
    bench.fanout.set_forwards(false);
    assert_eq!(bench.plain(), 1);
    bench.send(Plain, 3, true);
    bench.send(Plain, 4, false);
    let expected = [(Source, 0), (Plain, 1), (Source, 2), (Plain, 3), (Plain, 4)];
    assert_eq!(seen(&mut viewer), expected);
}

#[path = "fanout_links_tests.rs"]
mod links;

#[path = "fanout_sequence_tests.rs"]
mod sequence;
