//! What the benchmarks of the detector look at, made here: pictures, outputs of a network, candidates.

use sightline::detect::nms::Candidate;
use sightline::detect::{InputSpec, Manifest};
use sightline::media::{BBox, I420Frame};

/// A frame with something in it: gradients, so that no step meets constant data.
pub fn frame(width: usize, height: usize) -> I420Frame {
    let mut frame = I420Frame::black(width, height);
    let (y, u, v) = frame.planes_mut();
    for (at, sample) in y.iter_mut().enumerate() {
        *sample = u8::try_from(16 + (at / width + at % width) % 200).unwrap_or(16);
    }
    for (at, sample) in u.iter_mut().chain(v).enumerate() {
        *sample = u8::try_from(40 + at % 170).unwrap_or(40);
    }
    frame
}

/// So many numbers from 0 to 1, the same every time.
pub fn noise(len: usize) -> Vec<f32> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f32::from(u16::try_from(state >> 16).unwrap_or(0)) / 65_536.0
    };
    (0..len).map(|_| next()).collect()
}

/// Boxes all over a picture of 640 pixels, of one class.
pub fn candidates(count: usize) -> Vec<Candidate> {
    let candidate = |v: &[f32]| {
        let (x, y) = (v[0] * 600.0, v[1] * 600.0);
        let bbox = BBox::new(x, y, x + 20.0 + v[2] * 80.0, y + 20.0 + v[3] * 80.0);
        Candidate { bbox, score: v[4], class_id: 0, row: 0 }
    };
    noise(count * 5).chunks_exact(5).map(candidate).collect()
}

/// The input of a model whose manifest comes with the program.
pub fn shipped(name: &str) -> InputSpec {
    Manifest::shipped(name).expect("it can be read").expect("it is one of ours").input
}
