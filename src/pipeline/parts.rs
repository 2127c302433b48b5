//! What a stream is made of, and what its source tells it.

use std::sync::Arc;

use super::options::Config;
use super::overload::Load;
use crate::detect::{LaneOptions, Pools};
use crate::encode;
use crate::media::KeyframeRequest;

/// What a stream is made of.
#[derive(Clone, Debug)]
pub struct StreamParts<'a> {
    /// Its name, as it stands in messages and metrics.
    pub name: Arc<str>,
    /// Who looks at its pictures.
    pub pool: &'a Arc<Pools>,
    /// The load of the server, that its streams share.
    pub load: &'a Arc<Load>,
    /// How they are looked at: all but the model may be changed later.
    pub lane: LaneOptions,
    /// How streams are run.
    pub config: &'a Config,
    /// How its pictures are encoded.
    pub encode: &'a encode::Config,
    /// Asks the source for an IDR; [`KeyframeRequest::ignored`] where it cannot be asked.
    pub keyframes: KeyframeRequest,
    /// What kind of stream it is.
    pub options: StreamOptions,
}

/// What kind of stream it is. The default is that of a publisher who is there as long as its stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamOptions {
    /// The detector looks also while nobody watches and nobody reads: a camera that guards.
    pub detect_always: bool,
    /// The source cannot be asked for an IDR (a camera over RTSP): a viewer of the original that has none gets an encode of
    /// the same pictures until the next one comes by itself.
    pub bridge: bool,
    /// Video that cannot be decoded costs the pictures, not the stream: its viewers stay, and see why.
    pub endures: bool,
}

/// Whether pictures come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signal {
    /// They do, or will presently.
    Live,
    /// They do not, for this reason: a few words that are drawn into the last picture.
    Lost(String),
}
