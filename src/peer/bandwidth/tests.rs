//! The estimator against a model of a link, in virtual time: a sender without a pacer and frames of uneven size.

use rtc::rtcp::transport_feedbacks::transport_layer_cc::{
    PacketStatusChunk, RunLengthChunk, StatusChunkTypeTcc, SymbolTypeTcc,
};

use super::world::link::Conditions;
use super::world::{FRAME, World};
use super::*;

/// An encoder that follows the estimate two frames later, up to `most` bits a second.
fn world(conditions: Conditions, most: f64) -> World {
    let mut rates = VecDeque::from([most.min(1.5e6); 2]);
    let mut frames = 0;
    let encode = move |_, bandwidth: Option<Bandwidth>| {
        let rate = rates.pop_front().unwrap();
        rates.push_back(bandwidth.map_or(rate, |bandwidth| bandwidth.video_bps.min(most)));
        // Uneven, with a mean of one; the first is an IDR.
        let uneven = [0.6, 1.4, 0.9, 1.2, 0.8, 1.1][frames % 6];
        let bytes = rate / 8.0 * FRAME.as_secs_f64() * if frames == 0 { 6.0 } else { uneven };
        frames += 1;
        Some(bytes as usize)
    };
    World::new(conditions, Box::new(encode))
}

fn conditions(rate: u64) -> Conditions {
    let delay = Duration::from_millis(25);
    Conditions { rate: Some(rate), queue: (rate / 8) as usize, delay, ..Conditions::clean(5) }
}

#[test]
fn a_link_that_becomes_ten_times_as_wide_and_narrow_again_is_followed() {
    let mut world = world(conditions(300_000), 3.2e6);
    world.play(15.0);
    world.set_rate(conditions(3_000_000));
    world.play(15.0);
    world.set_rate(conditions(300_000));
    world.play(15.0);
    world.trace();
    for (from, link) in [(5.0, 300e3), (20.0, 3e6), (35.0, 300e3)] {
        let used = world.used(from, from + 10.0, link);
        assert!((0.8..1.05).contains(&used), "from {from} s on {used:.2} of the link were used");
    }
    for from in [2.0, 15.0, 20.0, 32.0] {
        let longest = world.longest(from, from + 10.0);
        assert!(longest < 0.3, "from {from} s on a frame took {longest:.3} s");
    }
}

#[test]
fn loss_and_jitter_that_mean_no_congestion_leave_the_link_used() {
    for (loss, jitter) in [(0.05, 0), (0.0, 20), (0.02, 20)] {
        let jitter = Duration::from_millis(jitter);
        let mut world = world(Conditions { loss, jitter, ..conditions(2_000_000) }, 3.2e6);
        world.play(25.0);
        world.trace();
        let used = world.used(10.0, 25.0, 2e6);
        assert!((0.75..1.05).contains(&used), "loss {loss}, jitter {jitter:?}: {used:.2} of the link were used");
        let longest = world.longest(5.0, 25.0);
        assert!(longest < 0.3, "loss {loss}, jitter {jitter:?}: a frame took {longest:.3} s");
    }
}

#[test]
fn a_way_without_a_limit_gets_all_that_the_encoder_makes() {
    let mut world = world(Conditions { rate: None, ..conditions(0) }, 3.2e6);
    world.play(10.0);
    let bandwidth = world.estimator.bandwidth().unwrap();
    assert!(bandwidth.video_bps > 3.2e6, "{bandwidth:?}");
}

#[test]
fn a_way_that_becomes_longer_costs_no_more_than_some_seconds() {
    let mut world = world(conditions(2_000_000), 1e6);
    world.play(10.0);
    world.set_rate(Conditions { delay: Duration::from_millis(125), ..conditions(2_000_000) });
    world.play(20.0);
    world.trace();
    assert!(world.used(20.0, 30.0, 1e6) > 0.9);
}

#[test]
fn silence_brings_the_rate_down_and_the_next_word_up_again() {
    let mut world = world(conditions(2_000_000), 1e6);
    world.play(5.0);
    let before = world.estimator.bandwidth().unwrap().bps;
    world.set_rate(Conditions { loss: 1.0, ..conditions(2_000_000) });
    world.play(5.0);
    let silent = world.estimator.bandwidth().unwrap().bps;
    assert!(silent < before / 5.0, "{silent} of {before}");
    world.set_rate(conditions(2_000_000));
    world.play(10.0);
    assert!(world.estimator.bandwidth().unwrap().bps > 1e6);
}

#[test]
fn what_the_other_side_allows_is_the_most() {
    let mut world = world(conditions(2_000_000), 1e6);
    world.estimator.allow(200_000.0);
    assert!((world.estimator.bandwidth().unwrap().bps - 200e3).abs() < 1.0, "also before any feedback");
    world.play(5.0);
    assert!((world.estimator.bandwidth().unwrap().bps - 200e3).abs() < 1.0);
    world.estimator.allow(f64::NAN);
    assert!(world.estimator.bandwidth().unwrap().bps > 1e6);
}

#[test]
fn feedback_on_nothing_that_was_sent_changes_nothing() {
    let mut estimator = Estimator::default();
    let run = RunLengthChunk {
        type_tcc: StatusChunkTypeTcc::RunLengthChunk,
        packet_status_symbol: SymbolTypeTcc::PacketNotReceived,
        run_length: 8191,
    };
    let feedback = TransportLayerCc {
        packet_status_count: 8191,
        packet_chunks: vec![PacketStatusChunk::RunLengthChunk(run)],
        ..TransportLayerCc::default()
    };
    let now = Instant::now();
    assert!(!estimator.feedback(&feedback, now), "nothing was sent");
    estimator.sent(9000, 1000, Load::Other, now);
    assert!(!estimator.feedback(&feedback, now), "another packet was");
    assert_eq!(estimator.bandwidth(), None);
}
