//! H.264 Constrained Baseline by openh264.

use std::ffi::c_int;

use ::openh264::OpenH264API;
use ::openh264::encoder::{
    BitRate, Complexity, Encoder as Native, EncoderConfig, FrameRate, FrameType, IntraFramePeriod, Profile,
    RateControlMode, UsageType,
};
use ::openh264::formats::YUVSlices;
use bytes::BytesMut;
use openh264_sys2::{
    ENCODER_OPTION_BITRATE, ENCODER_OPTION_MAX_BITRATE, ENCODER_OPTION_TRACE_LEVEL, SBitrateInfo, SPATIAL_LAYER_0,
    SPATIAL_LAYER_ALL, WELS_LOG_QUIET,
};

use super::{Config, EncodeError, Encoded, Encoder, MAX_BITRATE_BPS, MIN_BITRATE_BPS};
use crate::media::{I420Frame, Plane};

/// The codec's limits (ITU-T H.264 level 5.2, and one macroblock).
const LONG_SIDE: usize = 3840;
const SHORT_SIDE: usize = 2160;
const LEAST_SIDE: usize = 16;

/// An H.264 encoder for real time: Constrained Baseline, one slice, one thread, IDRs only on demand.
pub struct H264Encoder {
    config: Config,
    /// The bitrate set at run time; until then the configuration's.
    bitrate: Option<u32>,
    session: Option<Session>,
    buffer: BytesMut,
}

/// The native encoder for one size of picture.
struct Session {
    native: Native,
    width: usize,
    height: usize,
    bitrate: u32,
    /// Pre-warmed: what it made was thrown away, so that the first real picture has to be an IDR.
    unseen: bool,
}

impl H264Encoder {
    /// An encoder that takes its size from the first picture.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self { config, bitrate: None, session: None, buffer: BytesMut::new() }
    }
}

impl Encoder for H264Encoder {
    fn encode(&mut self, picture: &I420Frame, idr: bool) -> Result<Encoded, EncodeError> {
        let (width, height) = even(picture.width(), picture.height());
        let session = match &mut self.session {
            Some(session) if session.fits(width, height) => session,
            other => other.insert(Session::new(&self.config, self.bitrate, width, height)?),
        };
        if idr || session.unseen {
            session.native.force_intra_frame();
        }
        let result = session.encode(picture, &mut self.buffer);
        session.unseen = false;
        if result.is_err() {
            // What the codec holds as reference is unknown now: a new one begins with an IDR.
            self.session = None;
        }
        result
    }

    fn set_bitrate(&mut self, bps: u32) -> Result<(), EncodeError> {
        // The codec scales the rate as an f32: above 2^24 an odd one may come out above the maximum, and is refused.
        let bps = bps.clamp(MIN_BITRATE_BPS, MAX_BITRATE_BPS) / 1000 * 1000;
        if let Some(session) = self.session.as_mut().filter(|session| session.bitrate != bps) {
            session.set_bitrate(bps)?;
        }
        self.bitrate = Some(bps);
        Ok(())
    }

    fn prewarm(&mut self, width: usize, height: usize) -> Result<(), EncodeError> {
        let (width, height) = even(width, height);
        check_size(width, height)?;
        if self.session.as_ref().is_some_and(|session| session.fits(width, height)) {
            return Ok(());
        }
        self.encode(&I420Frame::black(width, height), false)?;
        if let Some(session) = &mut self.session {
            session.unseen = true;
        }
        Ok(())
    }
}

/// The size without the odd row and column.
fn even(width: usize, height: usize) -> (usize, usize) {
    (width & !1, height & !1)
}

fn check_size(width: usize, height: usize) -> Result<(), EncodeError> {
    let (short, long) = (width.min(height), width.max(height));
    if !(LEAST_SIDE..=SHORT_SIDE).contains(&short) || long > LONG_SIDE {
        return Err(EncodeError::UnsupportedSize(width, height));
    }
    Ok(())
}

impl Session {
    fn fits(&self, width: usize, height: usize) -> bool {
        self.width == width && self.height == height
    }

    fn new(config: &Config, bitrate: Option<u32>, width: usize, height: usize) -> Result<Self, EncodeError> {
        check_size(width, height)?;
        let bitrate = bitrate.unwrap_or_else(|| config.bitrate(width, height));
        #[allow(clippy::cast_precision_loss)] // at most 120
        let max_fps = config.max_fps as f32;
        let settings = EncoderConfig::new()
            .usage_type(UsageType::CameraVideoRealTime)
            .profile(Profile::Baseline)
            .complexity(Complexity::Low)
            .rate_control_mode(RateControlMode::Bitrate)
            .bitrate(BitRate::from_bps(bitrate))
            .max_frame_rate(FrameRate::from_hz(max_fps))
            // A picture that was drawn on is always sent: the viewer's clock is the frame.
            .skip_frames(false)
            // An IDR is made when one is asked for. The codec's own idea of a scene change sees one in plain noise.
            .scene_change_detect(false)
            .intra_frame_period(IntraFramePeriod::from_num_frames(0))
            // Both look at every picture once more; neither improves a camera's picture at these bitrates.
            .background_detection(false)
            .adaptive_quantization(false)
            .num_threads(1);
        let failed = |error: ::openh264::Error| EncodeError::Failed(error.to_string());
        let mut native = Native::with_api_config(OpenH264API::from_source(), settings).map_err(failed)?;
        let mut quiet: c_int = WELS_LOG_QUIET;
        // SAFETY: the trace level is the one option that may be set before initialisation; the codec reads one int. The
        // crate sets it too, but only after the initialisation has written its warnings to stderr.
        unsafe { native.raw_api().set_option(ENCODER_OPTION_TRACE_LEVEL, (&raw mut quiet).cast()) };
        Ok(Self { native, width, height, bitrate, unseen: false })
    }

    fn encode(&mut self, picture: &I420Frame, buffer: &mut BytesMut) -> Result<Encoded, EncodeError> {
        let strides = [Plane::Y, Plane::U, Plane::V].map(|plane| picture.plane_size(plane).0);
        let rows = [self.height, self.height / 2, self.height / 2];
        let (y, u, v) = picture.planes();
        // The codec is given exactly the rows that it reads: an odd last row stays behind.
        let [Some(y), Some(u), Some(v)] = [(y, 0), (u, 1), (v, 2)].map(|(plane, n)| plane.get(..strides[n] * rows[n]))
        else {
            return Err(EncodeError::Skipped("it has fewer rows than it says".into()));
        };
        let source = YUVSlices::new((y, u, v), (self.width, self.height), strides.into());
        let encoded = self.native.encode(&source).map_err(|error| EncodeError::Skipped(error.to_string()))?;
        for layer in (0..encoded.num_layers()).filter_map(|layer| encoded.layer(layer)) {
            for nal in (0..layer.nal_count()).filter_map(|nal| layer.nal_unit(nal)) {
                buffer.extend_from_slice(nal);
            }
        }
        if buffer.is_empty() {
            return Err(EncodeError::Skipped("the codec gave nothing".into()));
        }
        let idr = encoded.frame_type() == FrameType::IDR;
        Ok(Encoded { data: buffer.split().freeze(), idr })
    }

    fn set_bitrate(&mut self, bps: u32) -> Result<(), EncodeError> {
        let maximum = (ENCODER_OPTION_MAX_BITRATE, SPATIAL_LAYER_0);
        let target = (ENCODER_OPTION_BITRATE, SPATIAL_LAYER_ALL);
        // The codec refuses a target above its maximum, at every step in between too.
        let steps = if bps > self.bitrate { [maximum, target] } else { [target, maximum] };
        for (option, layer) in steps {
            let mut info = SBitrateInfo { iLayer: layer, iBitrate: c_int::try_from(bps).unwrap_or(c_int::MAX) };
            // SAFETY: both options read one `SBitrateInfo` during the call, and before the encoder's first picture the
            // codec refuses them.
            let state = unsafe { self.native.raw_api().set_option(option, (&raw mut info).cast()) };
            if state != 0 {
                return Err(EncodeError::Skipped(format!("bitrate {bps} refused (openh264 state {state})")));
            }
        }
        self.bitrate = bps;
        Ok(())
    }
}

#[cfg(test)]
#[path = "h264_tests.rs"]
mod tests;
