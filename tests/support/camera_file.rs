//! A webcam whose picture is known: the scene of the squares as a file for Chromium.

use std::io::{BufWriter, Write};
use std::path::Path;

use sightline::media::I420Frame;

use super::squares;

/// Writes one round of the scene as a Y4M file, which Chromium's fake webcam repeats.
pub fn write(path: &Path, (width, height): (usize, usize)) {
    let mut file = BufWriter::new(std::fs::File::create(path).unwrap());
    writeln!(file, "YUV4MPEG2 W{width} H{height} F30:1 Ip A1:1 C420jpeg").unwrap();
    let mut frame = I420Frame::black(width, height);
    for n in 0..squares::ROUND {
        squares::draw(n, &mut frame);
        let (y, u, v) = frame.planes();
        file.write_all(b"FRAME\n").unwrap();
        for plane in [y, u, v] {
            file.write_all(plane).unwrap();
        }
    }
    file.flush().unwrap();
}
