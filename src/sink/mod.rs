//! Results to the outside world.
//!
//! Belongs here: one encode to many viewers without a copy, a viewer's connection, the public messages and the queue in
//! front of a datachannel. Does not belong here: what is encoded and drawn, who may watch, and when a session ends.

mod channel;
mod encodes;
mod fanout;
mod feed;
mod frame;
mod gop;
pub mod message;
mod place;
mod queue;
mod share;
mod tiers;
mod viewer;

pub use channel::serve_channel;
pub use encodes::{Demand, KeyframeRequests};
pub use fanout::Fanout;
pub use feed::{Standing, ViewerFeed};
pub use frame::{Bitstream, EncodedFrame, VideoChoice};
pub use place::Sending;
pub use queue::MessageQueue;
pub use tiers::TIERS;
pub use viewer::serve_viewer;
