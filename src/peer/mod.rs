//! WebRTC: the door that is both the first and the last step of a stream.
//!
//! Belongs here: everything that names the `webrtc` and `rtc` crates, and what makes one connection out of an offer: the
//! shared UDP port, codecs, header extensions, RTCP, tracks, the datachannel. Does not belong here: what the packets
//! mean (that is `source`) and what is sent (that is `sink`), sessions, streams, HTTP.

mod bandwidth;
mod capture;
mod channel;
mod codecs;
mod connection;
mod engine;
mod fragment;
mod intercept;
mod mux;
mod offer;
mod sdp;
mod stun;
mod tap;
mod tracks;

use std::io;
use std::net::{IpAddr, SocketAddr};

pub use bandwidth::Bandwidth;
#[cfg(test)]
pub(crate) use bandwidth::world;
pub use channel::{Channel, ChannelEvent};
pub use connection::{Connection, ConnectionEvent, ConnectionState, Patched};
pub use engine::{Answered, Engine};
pub use offer::Offered;
pub use sdp::Role;
pub use tap::{NetworkStats, Sent};
pub use tracks::{AudioIn, AudioOut, VideoIn, VideoOut, packetize};

use serde::Deserialize;

/// The label of the datachannel that carries detections.
pub const CHANNEL_LABEL: &str = "detections";

/// Where media comes in and goes out.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The one UDP port of all peers; 0 lets the system choose.
    pub udp_port: u16,
    /// An address to be dialled at from outside a NAT that forwards the port (repeatable).
    pub public_ip: Vec<IpAddr>,
}

impl Default for Config {
    fn default() -> Self {
        Self { udp_port: 8189, public_ip: Vec::new() }
    }
}

/// Why a connection could not be made.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// The UDP port cannot be had.
    #[error("cannot bind UDP {at}: {source}; choose another port with --udp-port")]
    Bind {
        /// The address that was tried.
        at: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The machine has no address to bind.
    #[error("no local address can be bound for media")]
    NoAddress,
    /// The session description is not one that can be answered.
    #[error("{0}")]
    BadDescription(String),
    /// There is no video in the offer, or none that could be sent back.
    #[error("{0}")]
    NoVideo(String),
    /// There is video, but in no codec that is understood.
    #[error("{0}")]
    NoCommonCodec(String),
    /// An SDP fragment that cannot be read, or has no meaning for this connection.
    #[error("{0}")]
    BadFragment(String),
    /// The fragment is for another ICE generation than the current one.
    #[error("the ETag is not the session's current one: an ICE restart came between")]
    OtherGeneration,
    /// The WebRTC stack refused.
    #[error("WebRTC: {0}")]
    Stack(#[from] rtc::shared::error::Error),
    /// The connection is closed.
    #[error("the connection is closed")]
    Closed,
}
