//! A scene of which everything is known: two bright squares that move over a still, textured background. Picture after
//! picture it comes back to where it began, so that a recording of one round can be repeated.

use sightline::media::I420Frame;

/// Pictures in one round.
pub const ROUND: usize = 90;

/// The luma of the squares; nothing else in the scene is above 140.
pub const BRIGHT: u8 = 225;

/// The chroma of everything: U and V.
pub const CHROMA: (u8, u8) = (120, 134);

/// A square in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Square {
    pub left: usize,
    pub top: usize,
    pub side: usize,
}

/// Where the two squares are in picture `n` of a scene of this size. The first goes left and right in the upper half, the
/// second up and down at the right.
pub fn squares(n: usize, width: usize, height: usize) -> [Square; 2] {
    let side = height / 6;
    // There and back: 0 to 45 to 0.
    let phase = (n % ROUND).min(ROUND - n % ROUND);
    let way = |length: usize| length * phase / (ROUND / 2);
    let (left, top) = (width / 20, height / 8);
    [
        Square { left: left + way(width / 2), top: height / 5, side },
        Square { left: width * 4 / 5, top: top + way(height * 3 / 5), side },
    ]
}

/// Draws picture `n`, with a pattern on the first square that goes with it and does not repeat: something to follow it by.
#[allow(dead_code)] // most tests look at the squares alone
pub fn draw_patterned(n: usize, frame: &mut I420Frame) {
    draw(n, frame);
    let width = frame.width();
    let [Square { left, top, side }, _] = squares(n, width, frame.height());
    for (y, row) in frame.planes_mut().0.chunks_exact_mut(width).skip(top).take(side).enumerate() {
        for (x, sample) in row.iter_mut().skip(left).take(side).enumerate() {
            let (x, y) = (x / 4, y / 4);
            let darker = [0, 6, 12, 18, 24][(7 * x + 11 * y + x * y * y + x * x * 3) % 5];
            *sample = BRIGHT + 12 - darker;
        }
    }
}

/// Draws picture `n`.
pub fn draw(n: usize, frame: &mut I420Frame) {
    let (width, height) = (frame.width(), frame.height());
    let squares = squares(n, width, height);
    let (luma, u, v) = frame.planes_mut();
    u.fill(CHROMA.0);
    v.fill(CHROMA.1);
    for (y, row) in luma.chunks_exact_mut(width).enumerate() {
        for (x, sample) in row.iter_mut().enumerate() {
            let slope = 50 + (x + y) * 40 / (width + height);
            let texture = (x / 16 + y / 16) % 2 * 14 + (x / 5 + y / 7) % 3 * 5;
            *sample = u8::try_from(slope + texture).unwrap_or(140);
        }
        for square in squares {
            if (square.top..square.top + square.side).contains(&y)
                && let Some(samples) = row.get_mut(square.left..square.left + square.side)
            {
                samples.fill(BRIGHT);
            }
        }
    }
}
