//! One connection to a camera, whatever it speaks: opened, then read until it ends.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

use super::address::Place;
use super::looped::LoopedFile;
use super::mjpeg::MjpegSession;
use super::rtsp::RtspSession;
use super::{CameraSource, Description};
use crate::media::{AccessUnit, AudioPacket};
use crate::source::SourceError;

/// For each stage of making a connection: connecting and describing, each set-up, playing.
pub(super) const STAGE_LIMIT: Duration = Duration::from_secs(5);
/// For a probe: one round trip, wherever the camera is.
const PROBE_LIMIT: Duration = Duration::from_millis(500);

/// What a connection gives.
#[derive(Debug)]
pub(super) enum Item {
    /// A picture that can be decoded after those before it.
    Unit(AccessUnit),
    /// A picture came that cannot be used, because one before it was lost: the camera is alive.
    Passed,
    /// Audio.
    Audio(AudioPacket),
    /// The camera's clock is ahead of ours by so many milliseconds, less the way of the report.
    Skew(i64),
}

/// A connection that stands.
pub(super) enum Connection {
    Rtsp(Box<RtspSession>),
    Mjpeg(Box<MjpegSession>),
    File(LoopedFile),
}

impl Connection {
    /// Connects and asks for the stream. Every stage is limited in time.
    pub(super) async fn open(source: &CameraSource) -> Result<(Self, Description), SourceError> {
        match source.address.place() {
            Place::Rtsp(url) => {
                let (session, description) = RtspSession::open(url, source.transport).await?;
                Ok((Self::Rtsp(Box::new(session)), description))
            }
            Place::Http(url) => {
                let (session, description) = MjpegSession::open(url).await?;
                Ok((Self::Mjpeg(Box::new(session)), description))
            }
            Place::File(path) => {
                let (file, description) = LoopedFile::open(path).await?;
                Ok((Self::File(file), description))
            }
        }
    }

    /// The next item. Nothing is lost when the future is dropped before it is done.
    pub(super) async fn next(&mut self) -> Result<Item, SourceError> {
        match self {
            Self::Rtsp(session) => session.next().await,
            Self::Mjpeg(session) => session.next().await,
            Self::File(file) => Ok(file.next().await),
        }
    }
}

/// Whether something listens at the camera's address. A file is always there to be tried.
pub(super) async fn probe(source: CameraSource) -> bool {
    let Some(endpoint) = source.address.endpoint() else { return true };
    matches!(timeout(PROBE_LIMIT, TcpStream::connect(endpoint)).await, Ok(Ok(_)))
}

/// A stage with its limit; `doing` completes "the camera does not answer while …".
pub(super) async fn limited<T>(
    doing: &str,
    stage: impl Future<Output = Result<T, SourceError>>,
) -> Result<T, SourceError> {
    timeout(STAGE_LIMIT, stage).await.unwrap_or_else(|_| {
        Err(SourceError::Silent(format!("the camera does not answer within {} s ({doing})", STAGE_LIMIT.as_secs())))
    })
}

/// Makes a panic of what the network's bytes went through an error of this connection. The connection is not used again.
pub(super) struct Guarded<F>(pub(super) F);

impl<T, F: Future<Output = Result<T, SourceError>> + Unpin> Future for Guarded<F> {
    type Output = Result<T, SourceError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let inner = &mut self.0;
        std::panic::catch_unwind(AssertUnwindSafe(|| Pin::new(inner).poll(context))).unwrap_or_else(|_| {
            Poll::Ready(Err(SourceError::Camera(
                "what the camera sent broke its parser: this is a bug, please report it".into(),
            )))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_in_a_parser_costs_the_connection_only() {
        let broken = Box::pin(async { if true { panic!("a test's panic") } else { Ok(()) } });
        assert!(matches!(Guarded(broken).await, Err(SourceError::Camera(text)) if text.contains("bug")));
    }

    #[tokio::test]
    async fn an_address_is_probed_by_connecting() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let source = |port: u16| CameraSource {
            address: format!("rtsp://127.0.0.1:{port}/x").parse().unwrap(),
            transport: super::super::Transport::Tcp,
        };
        let port = listener.local_addr().unwrap().port();
        assert!(probe(source(port)).await);
        drop(listener);
        assert!(!probe(source(port)).await);
    }
}
