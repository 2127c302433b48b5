//! From what a player says of its link to what the codec makes of a picture, in virtual time: the estimator, the ladder, the rate and
//! the codec are the real ones, the link is a model.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::ladder::Ladder;
use super::rate::{Pace, Rate};
use super::video::lock;
use crate::encode::{Config, Encoder, H264Encoder, Scaler};
use crate::media::I420Frame;
use crate::peer::Bandwidth;
use crate::peer::world::World;
use crate::peer::world::link::Conditions;

const SOURCE: (usize, usize) = (320, 240);
const WIDE: u64 = 3_000_000;
const NARROW: u64 = 150_000;

/// The bound of issue 5.
const FOLLOWS: Duration = Duration::from_millis(500);

/// One frame, sent or held back: when, what the codec aims at for the time between two pictures, and the bits that it made.
#[derive(Clone, Copy, Debug)]
struct Note {
    at: Instant,
    aim: f64,
    bits: f64,
}

/// A texture with grain, as a camera has it in the dark: something that costs bits in every picture.
fn draw(n: usize, frame: &mut I420Frame) {
    let width = frame.width();
    let noise = |x: usize, y: usize| (x * 7919 + y * 104_729).wrapping_mul(2_654_435_761) >> 9;
    for (y, row) in frame.planes_mut().0.chunks_exact_mut(width).enumerate() {
        for (x, sample) in row.iter_mut().enumerate() {
            *sample = 60 + ((noise(x / 3, y / 3) & 63) + (noise(x + 31 * n, y + 17 * n) & 15)) as u8;
        }
    }
}

/// The chain behind the estimate, as `Rendition` puts it together. It writes its notes.
fn chain(notes: Arc<Mutex<Vec<Note>>>) -> impl FnMut(Instant, Option<Bandwidth>) -> Option<usize> {
    let config = Config::default();
    let full = config.bitrate(SOURCE.0, SOURCE.1);
    let (mut rate, mut ladder, mut pace) = (Rate::default(), Ladder::default(), Pace::default());
    let (mut encoder, mut scaler) = (H264Encoder::new(config.clone()), Scaler::new());
    let (mut n, mut turn) = (0, 0);
    move |now, bandwidth: Option<Bandwidth>| {
        let limit = bandwidth.map(|bandwidth| bandwidth.video_bps as u32).filter(|limit| *limit < full);
        pace.put(now);
        let rung = ladder.choose(now, limit, SOURCE, pace.fps().unwrap_or(30.0));
        turn = (turn + 1) % rung.every;
        n += 1;
        let admitted = rate.admits(now, limit, full) && turn == 0;
        let bytes = admitted.then(|| {
            let fps = pace.fps().map(|fps| fps / f64::from(rung.every));
            if let Some(bps) = rate.aim(limit, full, config.max_fps, fps) {
                encoder.set_bitrate(bps).unwrap();
            }
            let mut picture = I420Frame::black(SOURCE.0, SOURCE.1);
            draw(n, &mut picture);
            let (width, height) = rung.size(SOURCE.0, SOURCE.1);
            let picture = if (width, height) == SOURCE { picture } else { scaler.scale(&picture, width, height) };
            let bytes = encoder.encode(&picture, false).unwrap().data.len();
            rate.spent(bytes, now);
            bytes
        });
        let aim = f64::from(rate.aimed()) / f64::from(rung.every);
        lock(&notes).push(Note { at: now, aim, bits: bytes.unwrap_or(0) as f64 * 8.0 });
        bytes
    }
}

fn link(rate: u64) -> Conditions {
    let delay = Duration::from_millis(25);
    Conditions { rate: Some(rate), queue: 37_500, delay, ..Conditions::clean(5) }
}

#[test]
fn the_codec_follows_a_link_that_becomes_narrow_within_half_a_second() {
    let notes = Arc::new(Mutex::new(Vec::new()));
    let mut world = World::new(link(WIDE), Box::new(chain(Arc::clone(&notes))));
    world.play(10.0);
    let before = *lock(&notes).last().unwrap();
    assert!(before.aim > 2.0 * NARROW as f64, "{before:?}");
    let drop = world.now;
    world.set_rate(link(NARROW));
    world.play(5.0);
    let notes = lock(&notes);
    let after: Vec<_> = notes.iter().filter(|note| note.at >= drop).copied().collect();
    let followed = after.iter().find(|note| note.aim <= NARROW as f64).unwrap().at - drop;
    assert!(followed <= FOLLOWS, "it took {followed:?}");
    let later = |from: f64, to: f64| {
        let within = move |note: &&Note| (from..to).contains(&(note.at - drop).as_secs_f64());
        after.iter().filter(within)
    };
    // What is made from then on is less than the link carries, or the queue would not go.
    let made: f64 = later(0.5, 2.0).map(|note| note.bits).sum();
    assert!(made < 1.5 * NARROW as f64, "{made} bits in 1.5 s");
    let most = later(0.5, 5.0).map(|note| note.aim).fold(0.0, f64::max);
    assert!(most < 1.15 * NARROW as f64, "it came back to {most}");
}
