//! Results to the outside world.
//!
//! Belongs here: one encode to many viewers without a copy, a viewer's connection, the public messages and the queue in
//! front of a datachannel. Does not belong here: what is encoded and drawn, who may watch, and when a session ends.

mod channel;
mod fanout;
mod feed;
mod frame;
mod gop;
pub mod message;
mod place;
mod queue;
mod viewer;

pub use channel::serve_channel;
pub use fanout::{Demand, Fanout, KeyframeRequests};
pub use feed::ViewerFeed;
pub use frame::{Bitstream, EncodedFrame, VideoChoice};
pub use queue::MessageQueue;
pub use viewer::serve_viewer;
