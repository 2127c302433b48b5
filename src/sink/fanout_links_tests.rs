//! Who is given which encode, by what the way to it carries.

use super::*;

fn tiered(tier: usize, n: u32, idr: bool) -> Arc<EncodedFrame> {
    let mut frame = Arc::into_inner(frame(Annotated, n, idr)).unwrap();
    frame.tier = tier;
    Arc::new(frame)
}

/// Lets time pass, with the links as they are.
fn settle(bench: &mut Bench, links: &[(&ViewerFeed, f64)], long: Duration) {
    let until = bench.now + long;
    while bench.now < until {
        bench.now += FRAME;
        for (feed, bps) in links {
            bench.fanout.0.set_bandwidth_at(feed.id, Some(*bps), bench.now);
        }
    }
}

#[test]
fn a_viewer_of_a_narrow_link_goes_over_to_an_encode_of_its_own_at_an_idr() {
    let mut bench = Bench::new(false);
    bench.fanout.set_full(3_000_000);
    let (mut wide, mut narrow) = (bench.watch(VideoChoice::Annotated), bench.watch(VideoChoice::Annotated));
    bench.send(Annotated, 0, true);
    assert_eq!((bench.fanout.watched(Annotated, 0), bench.fanout.narrowest(Annotated, 0)), (2, None));
    let before = bench.asked()[0];
    settle(&mut bench, &[(&wide, 5e6), (&narrow, 3e5)], Duration::from_millis(500));
    assert_eq!((bench.fanout.watched(Annotated, 1), bench.fanout.narrowest(Annotated, 0)), (0, Some(300_000)));
    settle(&mut bench, &[(&wide, 5e6), (&narrow, 3e5)], Duration::from_secs(1));
    assert_eq!(bench.asked()[0], before + 1, "an IDR of the other encode");
    assert_eq!([0, 1].map(|tier| bench.fanout.watched(Annotated, tier)), [2, 1], "both until it is there");
    // The same picture by the other encode is of no use once it has it, and another IDR is asked for.
    bench.send(Annotated, 1, false);
    bench.fanout.send_at(&tiered(1, 1, true), bench.now);
    assert_eq!(bench.asked()[0], before + 2);
    bench.fanout.send_at(&tiered(1, 2, true), bench.now);
    bench.send(Annotated, 2, false);
    bench.fanout.send_at(&tiered(1, 3, false), bench.now);
    bench.send(Annotated, 3, false);
    let tiers =
        |feed: &mut ViewerFeed| -> Vec<_> { drain(feed).iter().map(|frame| (frame.frame_id, frame.tier)).collect() };
    assert_eq!(tiers(&mut narrow), [(0, 0), (1, 0), (2, 1), (3, 1)]);
    assert_eq!(tiers(&mut wide), [(0, 0), (1, 0), (2, 0), (3, 0)]);
    assert_eq!([0, 1].map(|tier| bench.fanout.watched(Annotated, tier)), [1, 1]);
    assert_eq!(bench.fanout.narrowest(Annotated, 1), Some(300_000));
    assert_eq!(bench.fanout.narrowest(Annotated, 0), Some(5_000_000));
    drop(wide);
    settle(&mut bench, &[(&narrow, 3e5)], Duration::from_millis(1500));
    bench.send(Annotated, 4, true);
    assert_eq!([0, 1].map(|tier| bench.fanout.watched(Annotated, tier)), [1, 0], "alone again, by the first");
    assert_eq!(tiers(&mut narrow), [(4, 0)]);
}

#[test]
fn an_original_that_a_link_does_not_carry_is_encoded_for_it_and_tried_again_later() {
    let mut bench = Bench::new(false);
    bench.fanout.set_full(1_000_000);
    let mut viewer = bench.watch(VideoChoice::Original);
    let mut play = |bench: &mut Bench, first: u32, count: u32, bps: f64| {
        let mut seen = Vec::new();
        for n in first..first + count {
            bench.now += FRAME;
            // 4 Mbit/s, an IDR a second.
            bench.fanout.send_at(&sized(Source, n, n % 30 == 0, 16_500), bench.now);
            bench.fanout.0.set_bandwidth_at(viewer.id, Some(bps), bench.now);
            seen.extend(drain(&mut viewer).iter().map(|frame| (frame.bitstream, frame.frame_id)));
        }
        (seen, viewer.standing().sending())
    };
    let (seen, _) = play(&mut bench, 0, 120, 6e6);
    assert_eq!((seen.len(), bench.plain()), (120, 0));
    let (_, sending) = play(&mut bench, 120, 90, 5e5);
    assert_eq!((bench.plain(), sending), (1, None), "bridged, and no encode has come yet");
    bench.send(Plain, 209, true);
    let (seen, _) = play(&mut bench, 210, 30, 5e5);
    assert_eq!(seen, [(Plain, 209)], "the source's IDR is not for it");
    bench.send(Plain, 240, true);
    let (seen, sending) = play(&mut bench, 241, 1, 5e5);
    let sending = sending.unwrap();
    assert_eq!((seen, sending.video, sending.narrow), (vec![(Plain, 240)], "plain", true));
    // More than the encode takes, for ten seconds.
    let (seen, sending) = play(&mut bench, 242, 329, 2e6);
    assert_eq!((bench.plain(), seen), (0, vec![(Source, 570)]), "the original again");
    assert!(!sending.unwrap().narrow);
}
