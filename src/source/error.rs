//! What ends a source.

use std::io;
use std::path::PathBuf;

/// Why a source cannot go on. What costs only an access unit is counted where it happens, and is no error here.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The file cannot be opened or read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is larger than what is held in memory.
    #[error(
        "{name} has {bytes} bytes, more than the limit of 2 GiB: cut it, for example with `ffmpeg -i IN -t 600 -c copy OUT.mp4`"
    )]
    TooLarge {
        /// The file.
        name: String,
        /// Its size.
        bytes: u64,
    },
    /// What came is intact as far as one can see, and of a kind that cannot be used.
    #[error(
        "{name} holds {found}; only H.264 can be used: convert it, for example with `ffmpeg -i IN -c:v libx264 -an OUT.mp4`"
    )]
    Unsupported {
        /// The file.
        name: String,
        /// The codec or container that was found.
        found: String,
    },
    /// What came is damaged.
    #[error("{name} is damaged: {reason}")]
    Damaged {
        /// The file.
        name: String,
        /// What is missing or contradicts itself.
        reason: String,
    },
    /// A camera's address cannot be used. The message never quotes it: it may hold a password.
    #[error("the camera's address cannot be used: {0}")]
    Address(String),
    /// A connection to a camera failed or ended: the supervisor tries again.
    #[error("{0}")]
    Camera(String),
    /// The other side is there, and does not answer in time.
    #[error("{0}")]
    Silent(String),
    /// The camera refuses user or password.
    #[error("the camera refuses access: {0}")]
    Unauthorized(String),
    /// The camera answers, and gives nothing that can be used.
    #[error("{0}")]
    UnsupportedCamera(String),
}
