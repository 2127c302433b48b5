//! Streams that our own encoder does not make, by the `ffmpeg` command (`scripts/setup test` installs it), of pictures that the
//! test has at hand to compare with.

use std::fs;
use std::process::Command;
use std::time::Instant;

use bytes::Bytes;
use sightline::media::{AccessUnit, I420Frame, VideoCodec, h265, nal};

use super::scene;

pub const SIZE: (usize, usize) = (320, 240);

/// What a stream is: how it is coded, and with which options of `ffmpeg`.
#[derive(Clone, Copy, Debug)]
pub struct Stream {
    pub codec: VideoCodec,
    pub options: &'static str,
}

/// H.265 of 8 bits in which nothing is reordered.
pub const H265: Stream =
    h265("-pix_fmt yuv420p -x265-params log-level=none:aud=1:repeat-headers=1:bframes=0:keyint=12");
/// H.264 of two fields a picture.
pub const INTERLACED: Stream =
    h264("-pix_fmt yuv420p -flags +ildct+ilme -x264-params aud=1:interlaced=1:bframes=0:keyint=12");
/// H.264 of 10 bits a sample.
pub const HIGH_10: Stream = h264("-pix_fmt yuv420p10le -x264-params aud=1:bframes=0:keyint=12");
/// H.264 with chroma in every row.
pub const HIGH_422: Stream = h264("-pix_fmt yuv422p -x264-params aud=1:bframes=0:keyint=12");

pub const fn h264(options: &'static str) -> Stream {
    Stream { codec: VideoCodec::H264, options }
}

pub const fn h265(options: &'static str) -> Stream {
    Stream { codec: VideoCodec::H265, options }
}

pub fn picture(n: usize) -> I420Frame {
    let mut frame = I420Frame::black(SIZE.0, SIZE.1);
    scene::draw_scene(n, SIZE.0, SIZE.1, frame.planes_mut());
    frame
}

/// The access units of the first `count` pictures, in decoding order. Their timestamps are those of that order, 3000 ticks apart:
/// what comes out of a decoder tells by its timestamp which unit it was.
pub fn units(stream: Stream, count: usize) -> Vec<AccessUnit> {
    let folder = tempfile::tempdir().unwrap();
    let (raw, coded) = (folder.path().join("raw.yuv"), folder.path().join("coded"));
    let pictures: Vec<u8> = (0..count)
        .flat_map(|n| {
            let frame = picture(n);
            let (y, u, v) = frame.planes();
            [y, u, v].concat()
        })
        .collect();
    fs::write(&raw, pictures).unwrap();
    let (encoder, format) = match stream.codec {
        VideoCodec::H264 => ("libx264", "h264"),
        VideoCodec::H265 => ("libx265", "hevc"),
        VideoCodec::Jpeg => unreachable!("no stream of this test"),
    };
    let size = format!("{}x{}", SIZE.0, SIZE.1);
    let done = Command::new("ffmpeg")
        .args([
            "-hide_banner",
            "-loglevel",
            "error",
            "-f",
            "rawvideo",
            "-pix_fmt",
            "yuv420p",
            "-s",
            &size,
            "-r",
            "30",
            "-i",
        ])
        .arg(&raw)
        .args(["-c:v", encoder, "-crf", "12", "-threads", "1"])
        .args(stream.options.split_whitespace())
        .args(["-f", format])
        .arg(&coded)
        .output()
        .expect("the ffmpeg command (apt-get install ffmpeg)");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let units = split(stream.codec, &fs::read(&coded).unwrap());
    assert_eq!(units.len(), count);
    units
}

/// Splits at the access unit delimiters, which the options ask for.
fn split(codec: VideoCodec, stream: &[u8]) -> Vec<AccessUnit> {
    let now = Instant::now();
    let mut units: Vec<(Vec<u8>, bool)> = Vec::new();
    for unit in nal::nal_units(stream) {
        let (delimits, idr) = match codec {
            VideoCodec::H265 => {
                let kind = h265::nal_type(unit).unwrap();
                (kind == 35, h265::is_irap(kind))
            }
            _ => (nal::nal_type(unit) == Some(nal::AUD), nal::nal_type(unit) == Some(nal::IDR)),
        };
        if delimits {
            units.push((Vec::new(), false));
        }
        let (data, has_idr) = units.last_mut().expect("a delimiter comes first");
        data.extend([&nal::START_CODE, unit].concat());
        *has_idr |= idr;
    }
    let timed = units.into_iter().zip((0..).step_by(3000));
    timed
        .map(|((data, idr), rtp_timestamp)| AccessUnit {
            codec,
            data: Bytes::from(data),
            rtp_timestamp,
            idr,
            first_packet: now,
            last_packet: now,
            captured: None,
        })
        .collect()
}
