//! A picture's number in its own pixels, which outlives decoding, drawing and encoding.
//!
//! 26 cells along the top edge and again along the bottom one, each a fortieth of the width: white, black, 16 bits of number,
//! 8 bits of CRC. A box that is drawn over one of the rows leaves the other; one that is drawn over both fails the checksum.

use sightline::media::{I420Frame, Plane};

/// Numbers are below this.
pub const NUMBERS: usize = 1 << 16;

/// Cells in a row, and how many would fill the width.
const CELLS: usize = 26;
const CELLS_IN_WIDTH: usize = 40;
/// The narrowest picture that can be stamped: cells of four pixels, half a codec's block.
pub const LEAST_WIDTH: usize = 160;

/// Luma in limited range (BT.601).
const WHITE: u8 = 235;
const BLACK: u8 = 16;
/// White and black that are nearer than this are no stamp's.
const LEAST_CONTRAST: u64 = 80;

/// CRC-8 with the polynomial x⁸+x²+x+1 of a number's two bytes. It begins with ones, so that an even picture is no stamp.
fn crc(number: u16) -> u8 {
    number.to_be_bytes().iter().fold(0xff, |crc, byte| {
        (0..8).fold(crc ^ byte, |crc: u8, _| if crc & 0x80 == 0 { crc << 1 } else { (crc << 1) ^ 0x07 })
    })
}

/// Whether the cell is white.
fn cell(number: u16, at: usize) -> bool {
    match at {
        0 => true,
        1 => false,
        _ => (u32::from(number) << 8 | u32::from(crc(number))) >> (CELLS - 1 - at) & 1 == 1,
    }
}

/// Writes the number into both edges. A picture that is too small for it stays as it is.
pub fn write(picture: &mut I420Frame, number: u16) {
    let (width, height) = (picture.width(), picture.height());
    let side = width / CELLS_IN_WIDTH;
    if width < LEAST_WIDTH || height < 2 * side {
        return;
    }
    let (luma, u, v) = picture.planes_mut();
    for (y, row) in luma.chunks_exact_mut(width).enumerate() {
        if y >= side && y < height - side {
            continue;
        }
        for (at, samples) in row.chunks_exact_mut(side).take(CELLS).enumerate() {
            samples.fill(if cell(number, at) { WHITE } else { BLACK });
        }
    }
    let (chroma_width, chroma_height) = (width.div_ceil(2), height.div_ceil(2));
    let (across, down) = ((side * CELLS).div_ceil(2), side.div_ceil(2));
    for plane in [u, v] {
        for (y, row) in plane.chunks_exact_mut(chroma_width).enumerate() {
            if y < down || y >= chroma_height - down {
                row.iter_mut().take(across).for_each(|sample| *sample = 128);
            }
        }
    }
}

/// The number in a picture's edges; `None` where neither can be read.
#[must_use]
pub fn read(picture: &I420Frame) -> Option<u16> {
    let (width, height) = (picture.width(), picture.height());
    let side = width / CELLS_IN_WIDTH;
    if width < LEAST_WIDTH || height < 2 * side {
        return None;
    }
    [0, height - side].into_iter().find_map(|top| read_row(picture.plane(Plane::Y), width, side, top))
}

fn read_row(luma: &[u8], width: usize, side: usize, top: usize) -> Option<u16> {
    // The middle of a cell: its edges are blurred by the codec.
    let (margin, inner) = (side / 4, side - 2 * (side / 4));
    let mean = |at: usize| {
        let left = at * side + margin;
        let rows = luma.chunks_exact(width).skip(top + margin).take(inner);
        let sum: u64 = rows.filter_map(|row| row.get(left..left + inner)).flatten().map(|&y| u64::from(y)).sum();
        sum / (inner * inner) as u64
    };
    let (white, black) = (mean(0), mean(1));
    if white < black + LEAST_CONTRAST {
        return None;
    }
    let threshold = u64::midpoint(white, black);
    let bits = (2..CELLS).fold(0u32, |bits, at| bits << 1 | u32::from(mean(at) > threshold));
    let (number, told) = (u16::try_from(bits >> 8).ok()?, bits & 0xff);
    (u32::from(crc(number)) == told).then_some(number)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use proptest::prelude::*;
    use sightline::annotate::Annotator;
    use sightline::decode::VideoDecoder;
    use sightline::encode::{Config, Encoder, H264Encoder};
    use sightline::media::{AccessUnit, BBox, Detection, FramePool, KeyframeRequest, VideoCodec};

    use super::*;

    fn coded(picture: &I420Frame, kbps: u32) -> I420Frame {
        let mut encoder = H264Encoder::new(Config { bitrate_kbps: Some(kbps), ..Config::default() });
        let data = encoder.encode(picture, true).unwrap().data;
        let now = Instant::now();
        let (codec, idr) = (VideoCodec::H264, true);
        let unit =
            AccessUnit { codec, data, rtp_timestamp: 0, idr, first_packet: now, last_packet: now, captured: None };
        let mut decoder = VideoDecoder::h264(FramePool::new(), KeyframeRequest::ignored()).unwrap();
        decoder.decode(&unit).unwrap().unwrap().picture
    }

    /// Grain of any strength, so that the codec has no bits to spare.
    fn noise(width: usize, height: usize, seed: u64) -> I420Frame {
        let mut picture = I420Frame::black(width, height);
        let mut grain = seed | 1;
        for sample in picture.planes_mut().0 {
            grain ^= grain << 13;
            grain ^= grain >> 7;
            grain ^= grain << 17;
            *sample = 16 + (grain >> 57) as u8;
        }
        picture
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn a_number_survives_drawing_and_two_encodes(
            number: u16, seed: u64, size in prop::sample::select(vec![(160, 120), (320, 240), (640, 480), (1280, 720)]),
        ) {
            let mut picture = noise(size.0, size.1, seed);
            write(&mut picture, number);
            let mut back = coded(&picture, 300);
            let bbox = BBox::new(0.0, 0.0, size.0 as f32 / 2.0, size.1 as f32 / 2.0);
            let item = Detection { bbox, confidence: 0.9, class_name: "person".into(), ..Detection::default() };
            Annotator::new().draw(&mut back, &[item]);
            prop_assert_eq!(read(&coded(&back, 300)), Some(number));
        }

        #[test]
        fn any_pixels_of_any_size_are_read_without_a_panic(
            width in 1usize..400, height in 1usize..40, seed: u64, number: u16,
        ) {
            let mut picture = noise(width, height, seed);
            prop_assert_eq!(read(&picture), None);
            write(&mut picture, number);
            let _ = read(&picture);
        }

        #[test]
        fn a_cell_that_flips_is_noticed(number: u16, at in 2usize..CELLS) {
            let mut picture = I420Frame::black(640, 480);
            write(&mut picture, number);
            let (luma, _, _) = picture.planes_mut();
            for row in luma.chunks_exact_mut(640) {
                row[at * 16..(at + 1) * 16].fill(if cell(number, at) { BLACK } else { WHITE });
            }
            prop_assert_eq!(read(&picture), None);
        }
    }

    #[test]
    fn a_picture_without_a_stamp_has_no_number() {
        for luma in [0, 16, 128, 235, 255] {
            let mut picture = I420Frame::black(640, 480);
            picture.planes_mut().0.fill(luma);
            assert_eq!(read(&picture), None);
        }
    }
}
