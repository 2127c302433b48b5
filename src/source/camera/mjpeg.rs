//! Cameras that push JPEG images over HTTP (`multipart/x-mixed-replace`).

use std::time::Instant;

use bytes::BytesMut;
use tokio::net::TcpStream;
use url::Url;

use super::Description;
use super::address::Address;
use super::connection::{Item, limited};
use super::http::{Body, Head, Malformed, authorization, request};
use super::multipart::{Multipart, Part};
use crate::media::{AccessUnit, VIDEO_CLOCK_HZ, VideoCodec};
use crate::source::SourceError;

const READ_BYTES: usize = 16 << 10;

/// A camera that sends images.
pub(super) struct MjpegSession {
    stream: TcpStream,
    /// What came and is still framed.
    buffer: BytesMut,
    body: Body,
    parts: Multipart,
    opened: Instant,
    /// When the image that is coming in began.
    began: Option<Instant>,
    last_timestamp: Option<u32>,
}

impl MjpegSession {
    /// Asks for the stream; a second time with the password when the camera wants it.
    pub(super) async fn open(url: &Url) -> Result<(Self, Description), SourceError> {
        let (bare, credentials) = Address::split(url);
        let (mut stream, mut buffer, mut head) = ask(&bare, None).await?;
        if head.status == 401 {
            let Some(credentials) = credentials.as_ref() else {
                return Err(SourceError::Unauthorized(
                    "it wants a user and a password: put them into its address, http://USER:PASSWORD@…".into(),
                ));
            };
            let answer = authorization(&head, &bare, credentials).map_err(|error| {
                SourceError::Unauthorized(format!("its challenge cannot be answered ({error}); Basic and Digest can"))
            })?;
            (stream, buffer, head) = ask(&bare, Some(&answer)).await?;
        }
        let (kind, boundary) = head.content_type();
        match head.status {
            200 if kind.starts_with("multipart/") => {}
            200 => {
                return Err(SourceError::UnsupportedCamera(format!(
                    "the camera answers with {}, not with multipart/x-mixed-replace: give the address of its Motion JPEG stream",
                    if kind.is_empty() { "an unnamed type" } else { &kind }
                )));
            }
            401 | 403 => {
                return Err(SourceError::Unauthorized(
                    "user or password is wrong: correct them in its address, http://USER:PASSWORD@…".into(),
                ));
            }
            404 => return Err(SourceError::Camera("404: the camera does not know the path of its address".into())),
            status @ 300..=399 => {
                return Err(SourceError::Camera(format!(
                    "{status}: the camera refers to another address: give that one (https:// cannot be used)"
                )));
            }
            status => return Err(SourceError::Camera(format!("the camera answers {status}"))),
        }
        let session = Self {
            body: head.body(),
            parts: Multipart::new(boundary),
            stream,
            buffer,
            opened: Instant::now(),
            began: None,
            last_timestamp: None,
        };
        Ok((session, Description { codec: VideoCodec::Jpeg, audio: None, notes: Vec::new() }))
    }

    pub(super) async fn next(&mut self) -> Result<Item, SourceError> {
        loop {
            let now = Instant::now();
            let parts = &mut self.parts;
            self.body.unframe(&mut self.buffer, |bytes| parts.push(bytes)).map_err(|Malformed(why)| broken(why))?;
            let part = self.parts.next().map_err(|damaged| broken(damaged.0))?;
            let began = self.began.unwrap_or(now);
            self.began = if part.is_none() && self.parts.in_body() { Some(began) } else { None };
            match part {
                Some(Part::Jpeg(data)) => return Ok(Item::Unit(self.unit(data, began, now))),
                Some(Part::Other) => return Ok(Item::Passed),
                None if self.body == Body::Ended => return Err(ended()),
                None => read(&self.stream, &mut self.buffer).await?,
            }
        }
    }

    /// Cameras of this kind send no time with their images: the instant of arrival stands for it.
    fn unit(&mut self, data: bytes::Bytes, first_packet: Instant, last_packet: Instant) -> AccessUnit {
        let since = first_packet.saturating_duration_since(self.opened).as_nanos();
        #[allow(clippy::cast_possible_truncation)] // RTP timestamps wrap
        let ticks = (since * u128::from(VIDEO_CLOCK_HZ) / 1_000_000_000) as u32;
        let rtp_timestamp = match self.last_timestamp {
            Some(last) if ticks.wrapping_sub(last) == 0 || ticks.wrapping_sub(last) > u32::MAX / 2 => {
                last.wrapping_add(1)
            }
            _ => ticks,
        };
        self.last_timestamp = Some(rtp_timestamp);
        AccessUnit {
            codec: VideoCodec::Jpeg,
            data,
            rtp_timestamp,
            idr: true,
            first_packet,
            last_packet,
            captured: None,
        }
    }
}

/// One request on a connection of its own, up to the head of the answer and what came with it.
async fn ask(url: &Url, authorization: Option<&str>) -> Result<(TcpStream, BytesMut, Head), SourceError> {
    limited("asking for the stream", async {
        let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        let stream = TcpStream::connect((host, url.port().unwrap_or(80)))
            .await
            .map_err(|error| SourceError::Camera(format!("the camera cannot be reached: {error}")))?;
        write(&stream, request(url, authorization).as_bytes()).await?;
        let mut buffer = BytesMut::new();
        loop {
            if let Some(head) = Head::take(&mut buffer).map_err(|Malformed(why)| broken(why))? {
                return Ok((stream, buffer, head));
            }
            read(&stream, &mut buffer).await?;
        }
    })
    .await
}

/// Appends what has come. Nothing is lost when the future is dropped.
async fn read(stream: &TcpStream, buffer: &mut BytesMut) -> Result<(), SourceError> {
    loop {
        stream.readable().await.map_err(|error| lost(&error))?;
        let mut bytes = [0; READ_BYTES];
        match stream.try_read(&mut bytes) {
            Ok(0) => return Err(ended()),
            Ok(count) => {
                buffer.extend_from_slice(bytes.get(..count).unwrap_or_default());
                return Ok(());
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(lost(&error)),
        }
    }
}

async fn write(stream: &TcpStream, mut bytes: &[u8]) -> Result<(), SourceError> {
    while !bytes.is_empty() {
        stream.writable().await.map_err(|error| lost(&error))?;
        match stream.try_write(bytes) {
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(lost(&error)),
        }
    }
    Ok(())
}

fn ended() -> SourceError {
    SourceError::Camera("the camera closed the connection".into())
}

fn lost(error: &std::io::Error) -> SourceError {
    SourceError::Camera(format!("the connection to the camera broke: {error}"))
}

fn broken(why: &str) -> SourceError {
    SourceError::Camera(format!("the camera's answer cannot be read: {why}"))
}
