//! Cameras: RTSP, Motion JPEG over HTTP, and files played in a loop, each kept alive by a supervisor.
//!
//! Belongs here: connecting, asking for the stream, whole access units with their times, and when to try again. Does not
//! belong here: pictures, viewers, who needs a camera (that comes in as [`Demand`]), and what a stream shows meanwhile.

mod address;
mod connection;
mod health;
mod http;
mod looped;
mod mjpeg;
mod multipart;
mod rtsp;
mod supervise;
mod supervisor;

use serde::{Deserialize, Serialize};

pub use address::Address;
pub use health::{CameraHealth, CameraState, CameraStatus};
pub use supervise::supervise;

use crate::media::{AccessUnit, AudioCodec, AudioPacket, VideoCodec};

/// How RTP comes from an RTSP camera.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// Interleaved in the RTSP connection (RFC 2326 §10.12): nothing is lost, and firewalls let it through.
    #[default]
    Tcp,
    /// Packets of their own, where the camera cannot do otherwise: what is lost is not mended.
    Udp,
}

/// Which camera, and how it is spoken to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CameraSource {
    /// Where it is.
    pub address: Address,
    /// For RTSP; others ignore it.
    pub transport: Transport,
}

/// Who needs the camera now. The pipeline writes it, the supervisor watches it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Demand {
    /// False: nobody needs the camera (paused, or on demand and nobody watches), its connection is closed.
    pub open: bool,
    /// Somebody watches: a camera that is away is probed twice a second instead of after a long wait.
    pub watched: bool,
}

impl Default for Demand {
    fn default() -> Self {
        Self { open: true, watched: false }
    }
}

/// What a camera says about itself once its connection stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// How its pictures are coded.
    pub codec: VideoCodec,
    /// Audio that is passed on, if it has any.
    pub audio: Option<AudioCodec>,
    /// What a user should know, for example that audio in AAC is not passed on.
    pub notes: Vec<String>,
}

/// What a camera delivers, in order.
#[derive(Clone, Debug)]
pub enum CameraEvent {
    /// A connection stands: a new epoch of timestamps begins.
    Opened(Description),
    /// A picture, in decoding order. `captured` is by the camera's own clock, where it sends reports.
    Unit(AccessUnit),
    /// Audio of the codec that [`Description`] named.
    Audio(AudioPacket),
    /// No signal from here on: the camera is silent, closed the connection, or was closed by [`Demand`].
    Lost,
}
