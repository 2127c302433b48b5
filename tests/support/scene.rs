//! A moving, textured, noisy picture: what a camera sends, made without a file. Included by path where it is needed.

/// Draws picture `n` of the scene: a gradient that pans, a disc that moves, and grain that differs in every picture.
pub fn draw_scene(n: usize, width: usize, height: usize, planes: (&mut [u8], &mut [u8], &mut [u8])) {
    let (luma, u, v) = planes;
    let (disc_x, disc_y) = ((n * 3) % (width + 40), height / 2);
    let radius = (width.min(height) / 5).max(1);
    let mut grain = 0x9e37_79b9_u32 ^ u32::try_from(n % 1000).unwrap_or(0).wrapping_mul(0x85eb_ca6b);
    for (y, row) in luma.chunks_exact_mut(width).enumerate() {
        for (x, sample) in row.iter_mut().enumerate() {
            grain ^= grain << 13;
            grain ^= grain >> 17;
            grain ^= grain << 5;
            let texture = ((x + 2 * n) / 8 + y / 8) % 16 * 6;
            let inside = x.abs_diff(disc_x).pow(2) + y.abs_diff(disc_y).pow(2) < radius * radius;
            let base = if inside { 190 } else { 60 + (x + y + n) * 60 / (width + height) };
            *sample = u8::try_from(base + texture / 4 + (grain >> 29) as usize).unwrap_or(235);
        }
    }
    let (chroma_width, chroma_height) = (width.div_ceil(2), height.div_ceil(2));
    for (plane, phase) in [(u, 0), (v, 60)] {
        for (y, row) in plane.chunks_exact_mut(chroma_width).enumerate() {
            for (x, sample) in row.iter_mut().enumerate() {
                let slope = 100 + (x + phase) * 40 / (chroma_width + 60) + y * 20 / chroma_height;
                *sample = u8::try_from(slope).unwrap_or(128);
            }
        }
    }
}
