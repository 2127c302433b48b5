//! What stands in for remote inference in a build without the cargo feature `remote`: it says so.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use super::{RemoteCounts, RemoteOptions};
use crate::detect::heads::{Graph, Output};
use crate::detect::{DetectError, Layout, Stopper};

/// There is none.
pub struct Remote(Infallible);

/// There is none.
pub struct RemoteSession(Infallible);

impl Remote {
    /// Refuses.
    ///
    /// # Errors
    /// Always: names the feature.
    pub fn connect(options: RemoteOptions) -> Result<Self, DetectError> {
        let reason =
            "this build has no remote inference; build with the cargo feature `remote`, which is on by default";
        Err(DetectError::Remote { address: options.address, reason: reason.into() })
    }

    #[must_use]
    pub fn graph(&self) -> Option<Arc<Graph>> {
        match self.0 {}
    }

    #[must_use]
    pub fn is_up(&self) -> bool {
        match self.0 {}
    }

    pub fn away(&self, _reason: &str) {
        match self.0 {}
    }

    pub fn condemn(&self, _reason: &str) {
        match self.0 {}
    }

    #[must_use]
    pub fn reason(&self) -> Option<String> {
        match self.0 {}
    }

    #[must_use]
    pub fn counts(&self) -> RemoteCounts {
        match self.0 {}
    }

    #[must_use]
    pub fn session(self: &Arc<Self>) -> Option<RemoteSession> {
        match self.0 {}
    }
}

impl RemoteSession {
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        match self.0 {}
    }

    #[must_use]
    pub fn graph(&self) -> &Graph {
        match self.0 {}
    }

    /// Never refuses.
    ///
    /// # Errors
    /// None.
    pub fn set_layout(&mut self, _layout: Option<Layout>) -> Result<(), String> {
        match self.0 {}
    }

    /// Never runs.
    ///
    /// # Errors
    /// None.
    pub fn run<T>(
        &mut self,
        _tensor: &[f32],
        _size: (usize, usize),
        _read: impl FnOnce(&[Output<'_>]) -> T,
    ) -> Result<(T, Duration), DetectError> {
        match self.0 {}
    }
}
