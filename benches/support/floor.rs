//! What the codec alone costs on the same pictures: the floor of a server that decodes and encodes.

use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use sightline::decode::VideoDecoder;
use sightline::encode::{Config, Encoder, H264Encoder};
use sightline::media::{AccessUnit, FramePool, KeyframeRequest, VideoCodec};

/// Decode and encode of the same frames, one after the other on one thread, at the same pace: in milliseconds.
pub fn floor(units: &[Bytes], fps: u32, length: Duration) -> Vec<f64> {
    let mut decoder = VideoDecoder::h264(FramePool::new(), KeyframeRequest::ignored()).expect("a decoder");
    let mut encoder = H264Encoder::new(Config::default());
    let begin = Instant::now();
    let mut times = Vec::new();
    let mut next = begin;
    for (n, data) in units.iter().cycle().enumerate() {
        if begin.elapsed() >= length {
            break;
        }
        next += Duration::from_secs(1) / fps;
        thread::sleep(next.saturating_duration_since(Instant::now()));
        let now = Instant::now();
        let unit = AccessUnit {
            codec: VideoCodec::H264,
            data: data.clone(),
            rtp_timestamp: u32::try_from(n).expect("a short run").wrapping_mul(3000),
            idr: n % units.len() == 0,
            first_packet: now,
            last_packet: now,
            captured: None,
        };
        let picture = decoder.decode(&unit).expect("it decodes").expect("a picture for each unit");
        encoder.encode(&picture.picture, n == 0).expect("it encodes");
        if begin.elapsed() > Duration::from_millis(1500) {
            times.push(now.elapsed().as_secs_f64() * 1000.0);
        }
    }
    times
}
