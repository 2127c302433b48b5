//! A stream without a network, what feeds it, and a viewer that decodes what it gets.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use sightline::decode::VideoDecoder;
use sightline::detect::{self, LaneOptions, Model, Pools};
use sightline::encode::{self, Encoder, H264Encoder};
use sightline::media::{AccessUnit, FramePool, I420Frame, KeyframeRequest, RtpPacket, VideoCodec};
use sightline::pipeline::{self, Load, Stream, StreamOptions, StreamParts};
use sightline::sink::{EncodedFrame, ViewerFeed};
use sightline::source::rtp::{Assembled, Assembler, AssemblerConfig};
use tokio::time::timeout;

use super::server::{LIMIT, until};
use super::squares;

/// A stream and the scene that it is fed with.
pub struct Fed {
    pub stream: Arc<Stream>,
    pub frame: I420Frame,
    /// The next picture is another one than the last.
    pub moves: bool,
    shown: usize,
    encoder: H264Encoder,
    fed: usize,
    next_timestamp: u32,
    _pool: Arc<Pools>,
}

impl Fed {
    pub fn start(model: Model) -> Self {
        Self::start_with(model, StreamOptions::default())
    }

    pub fn start_with(model: Model, options: StreamOptions) -> Self {
        Self::start_as(model, options, &pipeline::Config::default())
    }

    pub fn start_as(model: Model, options: StreamOptions, streams: &pipeline::Config) -> Self {
        Self::start_on(&Load::new(), model, options, streams)
    }

    /// On a machine that others load too.
    pub fn start_on(load: &Arc<Load>, model: Model, options: StreamOptions, streams: &pipeline::Config) -> Self {
        let config = detect::Config { workers: Some(1), ..detect::Config::default() };
        let settings = model.settings(&config);
        let pool = Pools::start(model, &config).unwrap();
        let stream = Stream::start(StreamParts {
            name: "fed".into(),
            pool: &pool,
            load,
            lane: LaneOptions { settings: Some(settings), ..LaneOptions::default() },
            config: streams,
            encode: &encode::Config::default(),
            keyframes: KeyframeRequest::ignored(),
            options,
        })
        .unwrap();
        Self {
            stream,
            frame: I420Frame::black(320, 240),
            moves: true,
            shown: 0,
            encoder: H264Encoder::new(encode::Config::default()),
            fed: 0,
            next_timestamp: 3000,
            _pool: pool,
        }
    }

    /// The next picture of the scene, encoded.
    pub fn unit(&mut self, idr: bool) -> AccessUnit {
        squares::draw(self.shown, &mut self.frame);
        let encoded = self.encoder.encode(&self.frame, idr).unwrap();
        let rtp_timestamp = self.next_timestamp;
        self.next_timestamp = self.next_timestamp.wrapping_add(3000);
        unit(encoded.data, encoded.idr, rtp_timestamp)
    }

    /// Feeds the next picture and waits until it is decoded.
    pub async fn feed(&mut self) -> AccessUnit {
        self.feed_as(false).await
    }

    /// The same, as an IDR if `idr` says so.
    pub async fn feed_as(&mut self, idr: bool) -> AccessUnit {
        let unit = self.unit(idr);
        self.fed += 1;
        self.shown += usize::from(self.moves);
        let number = self.fed as u64;
        self.stream.push(unit.clone());
        until("the picture is decoded", || self.stream.status().frames_decoded == number).await;
        unit
    }

    /// The source begins anew with another count of timestamps, and with an IDR.
    pub fn begin_epoch(&mut self, first_timestamp: u32) {
        self.stream.begin_epoch();
        self.next_timestamp = first_timestamp;
        self.encoder = H264Encoder::new(encode::Config::default());
    }
}

/// An access unit that came now.
pub fn unit(data: Bytes, idr: bool, rtp_timestamp: u32) -> AccessUnit {
    let now = Instant::now();
    AccessUnit {
        codec: VideoCodec::H264,
        data,
        rtp_timestamp,
        idr,
        first_packet: now,
        last_packet: now,
        captured: None,
    }
}

/// The next frame of a feed.
pub async fn next(feed: &mut ViewerFeed) -> Arc<EncodedFrame> {
    timeout(LIMIT, feed.recv()).await.expect("no frame came").expect("the stream goes on")
}

/// What a viewer's browser does: puts packets together and decodes.
pub struct Screen {
    assembler: Assembler,
    decoder: VideoDecoder,
    sequence_number: u16,
    last: Option<u32>,
}

impl Screen {
    pub fn new() -> Self {
        Self {
            assembler: Assembler::new(AssemblerConfig::default()),
            decoder: VideoDecoder::new(FramePool::new(), KeyframeRequest::ignored()),
            sequence_number: 0,
            last: None,
        }
    }

    /// The picture of the next frame of a feed; nothing but a whole one will do, and each is later than all before.
    pub fn show(&mut self, frame: &EncodedFrame) -> I420Frame {
        let timestamp = frame.rtp_timestamp.output;
        if let Some(last) = self.last.replace(timestamp) {
            let step = timestamp.wrapping_sub(last);
            assert!((1..1 << 31).contains(&step), "{timestamp} after {last}");
        }
        for (n, payload) in frame.payloads.iter().enumerate() {
            self.assembler.push(RtpPacket {
                sequence_number: self.sequence_number,
                timestamp,
                marker: n + 1 == frame.payloads.len(),
                payload: payload.clone(),
                arrived: Instant::now(),
            });
            self.sequence_number = self.sequence_number.wrapping_add(1);
        }
        let Some(Assembled::AccessUnit(unit)) = self.assembler.poll(Instant::now() + Duration::from_millis(1)) else {
            panic!("frame {} of {:?} is not whole", frame.frame_id, frame.bitstream);
        };
        assert_eq!(unit.idr, frame.idr);
        let picture = self.decoder.decode(&unit).unwrap_or_else(|error| panic!("frame {}: {error}", frame.frame_id));
        picture.expect("a picture for each frame").picture
    }
}
