//! Whatever happens to a stream and its viewers, in any order.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Copy, Debug)]
enum Step {
    Source { idr: bool },
    Encode { plain: bool, tier: usize, idr: bool },
    Link { which: usize, bps: f64 },
    Watch { original: bool },
    Leave(usize),
    Complain(usize),
    Read(usize),
    Lost(bool),
    Forwards(bool),
    Break,
    Pause,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => prop::bool::weighted(0.2).prop_map(|idr| Step::Source { idr }),
        9 => (any::<bool>(), 0..TIERS, prop::bool::weighted(0.3)).prop_map(|(plain, tier, idr)| Step::Encode { plain, tier, idr }),
        2 => (0usize..8, 1e5..1e7f64).prop_map(|(which, bps)| Step::Link { which, bps }),
        1 => any::<bool>().prop_map(|original| Step::Watch { original }),
        1 => (0usize..8).prop_map(Step::Leave),
        2 => (0usize..8).prop_map(Step::Complain),
        4 => (0usize..8).prop_map(Step::Read),
        1 => any::<bool>().prop_map(Step::Lost),
        1 => any::<bool>().prop_map(Step::Forwards),
        1 => Just(Step::Break),
        1 => Just(Step::Pause),
    ]
}

/// A viewer, what it wants, its last frame, and how often it has asked for an IDR without having begun again.
type Looking = (ViewerFeed, VideoChoice, Option<Arc<EncodedFrame>>, u32);

/// Holds what a decoder needs of a viewer's frames: each is an IDR or follows its predecessor in the same bitstream, later than
/// all before it, but where the viewer asked for an IDR and begins again. `places` says which frame of its bitstream a frame is.
fn decodable(
    viewer: &mut Looking,
    places: &std::collections::HashMap<(Bitstream, usize, u64), u64>,
) -> Result<(), TestCaseError> {
    for frame in drain(&mut viewer.0) {
        let annotated = frame.bitstream == Annotated;
        prop_assert_eq!(annotated, viewer.1 == VideoChoice::Annotated);
        let before = viewer.2.replace(Arc::clone(&frame));
        prop_assert!(before.is_some() || frame.idr, "begins with an IDR");
        let Some(before) = before else { continue };
        if frame.rtp_timestamp.output <= before.rtp_timestamp.output {
            prop_assert!(frame.idr && viewer.3 > 0, "later than all before");
            viewer.3 -= 1;
        }
        let place = |frame: &EncodedFrame| places[&(frame.bitstream, frame.tier, frame.frame_id)];
        let same = (frame.bitstream, frame.tier) == (before.bitstream, before.tier);
        let follows = same && place(&frame) == place(&before) + 1;
        prop_assert!(frame.idr || follows, "{:?} after {:?}", place(&frame), place(&before));
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    /// Whatever happens, what each viewer gets can be decoded from its beginning to its end.
    #[test]
    fn every_viewers_sequence_is_decodable(can_be_asked in any::<bool>(), steps in prop::collection::vec(step(), 1..200)) {
        let mut bench = Bench::new(can_be_asked);
        let mut viewers: Vec<Looking> = Vec::new();
        let mut places = std::collections::HashMap::new();
        let (mut n, mut made, mut fresh, mut forwards) = (0u32, [0u64; 1 + 2 * TIERS], true, true);
        for step in steps {
            match step {
                Step::Source { idr } if forwards => {
                    n += 1;
                    made[0] += 1;
                    places.insert((Source, 0, u64::from(n)), made[0]);
                    bench.source(n, idr || std::mem::take(&mut fresh));
                }
                // The encode of a picture comes with or after the picture, and perhaps with later ones between.
                Step::Encode { plain, tier, idr } => {
                    let (bitstream, which) = if plain { (Plain, 1 + tier) } else { (Annotated, 1 + TIERS + tier) };
                    if places.contains_key(&(bitstream, tier, u64::from(n))) {
                        continue;
                    }
                    made[which] += 1;
                    places.insert((bitstream, tier, u64::from(n)), made[which]);
                    let mut encoded = Arc::into_inner(frame(bitstream, n, idr || made[which] == 1)).unwrap();
                    encoded.tier = tier;
                    bench.fanout.send_at(&Arc::new(encoded), bench.now);
                }
                Step::Link { which, bps } if which < viewers.len() => {
                    let id = viewers[which].0.id;
                    bench.fanout.0.set_bandwidth_at(id, Some(bps), bench.now);
                }
                Step::Watch { original } => {
                    let choice = if original { VideoChoice::Original } else { VideoChoice::Annotated };
                    viewers.push((bench.watch(choice), choice, None, 0));
                }
                Step::Leave(which) if which < viewers.len() => drop(viewers.swap_remove(which)),
                Step::Complain(which) if which < viewers.len() => {
                    bench.complain(&viewers[which].0);
                    viewers[which].3 += 1;
                }
                Step::Read(which) if which < viewers.len() => decodable(&mut viewers[which], &places)?,
                Step::Lost(lost) => bench.fanout.set_lost(lost),
                Step::Forwards(on) => {
                    fresh |= on && !forwards;
                    forwards = on;
                    bench.fanout.set_forwards(on);
                }
                // A unit is missing; what comes next may be an IDR or not.
                Step::Break => {
                    made[0] += 1;
                    bench.fanout.break_source();
                }
                Step::Pause => bench.now += IDR_INTERVAL,
                _ => {}
            }
        }
        for viewer in &mut viewers {
            decodable(viewer, &places)?;
        }
        prop_assert_eq!(bench.fanout.viewers(), viewers.len());
    }
}
