//! What runs a network: one file or folder per runtime.
//!
//! Belongs here: finding and loading a runtime's library, execution providers, sessions, the way to a server that has the
//! network, and the types of all these. Does not belong here: what goes into a network and what its answers mean. `ort`,
//! `tonic` and `prost` are named in this room only.

#[cfg(not(feature = "remote"))]
#[path = "absent.rs"]
mod remote;

mod library;
mod onnx;
mod plug;
mod provider;
#[cfg(feature = "remote")]
mod remote;
mod shared;
mod tensor;

use std::path::PathBuf;
use std::time::Duration;

pub use library::find_library;
pub use onnx::{RuntimeInfo, Session, SessionOptions, runtime};
pub use provider::{Provider, try_provider};
pub use remote::{Remote, RemoteSession};

use super::heads::{Graph, Output};
use super::{DetectError, Layout, Stopper};

/// Where a network runs that is not here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteOptions {
    /// `grpc://host:port`, or `grpcs://host:port` with TLS.
    pub address: String,
    /// The certificate of the authority that the server's is by, PEM; `None` for those that the system trusts.
    pub ca: Option<PathBuf>,
    /// The model's name on the server.
    pub model: String,
    /// The longest that one request may take, both ways and a second attempt included.
    pub timeout: Duration,
    /// The most requests at the same time.
    pub concurrency: usize,
}

/// What was asked of a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RemoteCounts {
    /// Runs that it answered.
    pub frames: u64,
    /// Second attempts.
    pub retries: u64,
    /// Runs that failed.
    pub failures: u64,
}

/// A network, wherever it runs, for one thread at a time.
#[cfg_attr(not(feature = "remote"), allow(clippy::large_enum_variant))] // nothing is there in such a build
pub enum Network {
    /// In this process.
    Here(Session),
    /// On a server.
    There(RemoteSession),
}

impl Network {
    /// The outside of the network.
    #[must_use]
    pub fn graph(&self) -> &Graph {
        match self {
            Self::Here(session) => session.graph(),
            Self::There(session) => session.graph(),
        }
    }

    /// Says how the input's axes stand, where the graph leaves it open.
    ///
    /// # Errors
    /// Says what a network on a server is given and gives, when this one is not such.
    pub fn set_layout(&mut self, layout: Option<Layout>) -> Result<(), String> {
        match self {
            Self::Here(session) => {
                session.set_layout(layout);
                Ok(())
            }
            Self::There(session) => session.set_layout(layout),
        }
    }

    /// What ends a run. All runs that follow fail too.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        match self {
            Self::Here(session) => session.stopper(),
            Self::There(session) => session.stopper(),
        }
    }

    /// Runs it on `tensor`, `[n, 3, height, width]`; see [`Session::run`].
    ///
    /// # Errors
    /// [`DetectError::Frame`] when the run fails.
    pub fn run<T>(
        &mut self,
        tensor: &[f32],
        size: (usize, usize),
        read: impl FnOnce(&[Output<'_>]) -> T,
    ) -> Result<(T, Duration), DetectError> {
        match self {
            Self::Here(session) => session.run(tensor, size, read),
            Self::There(session) => session.run(tensor, size, read),
        }
    }
}

impl From<Session> for Network {
    fn from(session: Session) -> Self {
        Self::Here(session)
    }
}

impl From<RemoteSession> for Network {
    fn from(session: RemoteSession) -> Self {
        Self::There(session)
    }
}

impl std::fmt::Debug for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match self {
            Self::Here(_) => "Here",
            Self::There(_) => "There",
        };
        f.debug_struct(kind).field("graph", self.graph()).finish_non_exhaustive()
    }
}

/// Models that the tests of this room make themselves.
#[cfg(test)]
#[path = "../../../tests/support/onnx.rs"]
#[allow(dead_code)] // much of it is another test's matter
pub(super) mod made;
