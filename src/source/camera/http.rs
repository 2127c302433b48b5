//! As much of HTTP/1.1 as a camera's picture stream needs (RFC 9112), bytes in and out: a request, the head of the answer,
//! and a body that may be chunked.

use bytes::{Buf, BytesMut};
use http_auth::{PasswordClient, PasswordParams};
use url::{Position, Url};

use super::address::Credentials;

/// A longer head is no camera's.
const MAX_HEAD_BYTES: usize = 32 << 10;
/// A longer line before a chunk is none.
const MAX_CHUNK_LINE: usize = 1024;

/// What cannot be read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed(pub(super) &'static str);

/// The request for `url`, which has no credentials in it.
pub(super) fn request(url: &Url, authorization: Option<&str>) -> String {
    let host = &url[Position::BeforeHost..Position::AfterPort];
    let authorization = authorization.map(|value| format!("Authorization: {value}\r\n")).unwrap_or_default();
    format!(
        "GET {} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: sightline/{}\r\nAccept: multipart/x-mixed-replace, image/jpeg\r\n{authorization}Connection: close\r\n\r\n",
        target(url),
        env!("CARGO_PKG_VERSION"),
    )
}

/// Path and query, as they stand in the request line.
fn target(url: &Url) -> &str {
    &url[Position::BeforePath..Position::AfterQuery]
}

/// The answer to a challenge of the camera (RFC 7617, RFC 7616).
pub(super) fn authorization(head: &Head, url: &Url, credentials: &Credentials) -> Result<String, String> {
    let challenges = head.all("www-authenticate").collect::<Vec<_>>().join(", ");
    PasswordClient::try_from(challenges.as_str())?.respond(&PasswordParams {
        username: &credentials.user,
        password: &credentials.password,
        uri: target(url),
        method: "GET",
        body: Some(&[]),
    })
}

/// Status line and headers of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) status: u16,
    /// Names in lower case.
    headers: Vec<(String, String)>,
}

impl Head {
    /// Takes the head off the front of `buffer` once it is complete.
    pub(super) fn take(buffer: &mut BytesMut) -> Result<Option<Self>, Malformed> {
        let Some(end) = head_end(buffer) else {
            return if buffer.len() > MAX_HEAD_BYTES {
                Err(Malformed("the head of its answer has no end"))
            } else {
                Ok(None)
            };
        };
        let head = buffer.split_to(end);
        // Cameras write names of places in their own encoding.
        let head = String::from_utf8_lossy(&head);
        let mut lines = head.lines();
        let status = lines.next().and_then(status).ok_or(Malformed("it does not answer in HTTP"))?;
        let headers = lines.filter_map(|line| line.split_once(':'));
        let headers = headers.map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().to_owned()));
        Ok(Some(Self { status, headers: headers.collect() }))
    }

    /// The first header of a name in lower case.
    pub(super) fn header<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        self.all(name).next()
    }

    fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.headers.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Media type in lower case, and its `boundary`.
    pub(super) fn content_type(&self) -> (String, Option<&str>) {
        let mut parts = self.header("content-type").unwrap_or_default().split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
        let boundary = parts.find_map(|part| {
            let (name, value) = part.split_once('=')?;
            name.trim().eq_ignore_ascii_case("boundary").then_some(value)
        });
        (kind, boundary)
    }

    /// How the body is framed.
    pub(super) fn body(&self) -> Body {
        let chunked = self.all("transfer-encoding").any(|coding| coding.to_ascii_lowercase().contains("chunked"));
        if chunked { Body::Chunked(Chunk::Size) } else { Body::Plain }
    }
}

/// Behind the empty line, whether lines end with a carriage return or not.
fn head_end(bytes: &[u8]) -> Option<usize> {
    let mut last = None;
    for (n, _) in bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n') {
        if let Some(last) = last
            && matches!(bytes.get(last + 1..n), Some(b"" | b"\r"))
        {
            return Some(n + 1);
        }
        last = Some(n);
    }
    None
}

/// Old cameras answer `HTTP/1.0`, some ancient ones `ICY`.
fn status(line: &str) -> Option<u16> {
    let (version, rest) = line.split_once(' ')?;
    let known = version.starts_with("HTTP/") || version == "ICY";
    known.then(|| rest.split_whitespace().next()?.parse().ok())?
}

/// How a body arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// As it is, until the connection ends.
    Plain,
    /// In chunks (RFC 9112 §7.1).
    Chunked(Chunk),
    /// The last chunk was there.
    Ended,
}

/// What is expected next of a chunked body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chunk {
    Size,
    Data(usize),
    End,
}

impl Body {
    /// Moves what `buffer` has of the body to `out`.
    pub(super) fn unframe(&mut self, buffer: &mut BytesMut, mut out: impl FnMut(&[u8])) -> Result<(), Malformed> {
        loop {
            match *self {
                Self::Plain => {
                    out(&buffer.split());
                    return Ok(());
                }
                Self::Ended => {
                    buffer.clear();
                    return Ok(());
                }
                Self::Chunked(Chunk::Size) => {
                    let Some(line) = line(buffer)? else { return Ok(()) };
                    let digits = line.as_ref().split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
                    let size =
                        std::str::from_utf8(digits).ok().and_then(|digits| usize::from_str_radix(digits, 16).ok());
                    *self = match size.ok_or(Malformed("a chunk of its answer has no size"))? {
                        0 => Self::Ended,
                        size => Self::Chunked(Chunk::Data(size)),
                    };
                }
                Self::Chunked(Chunk::Data(left)) => {
                    if buffer.is_empty() {
                        return Ok(());
                    }
                    let now = left.min(buffer.len());
                    out(&buffer.split_to(now));
                    *self = Self::Chunked(if now == left { Chunk::End } else { Chunk::Data(left - now) });
                }
                Self::Chunked(Chunk::End) => {
                    let Some(line) = line(buffer)? else { return Ok(()) };
                    if !line.is_empty() {
                        return Err(Malformed("a chunk of its answer is longer than it says"));
                    }
                    *self = Self::Chunked(Chunk::Size);
                }
            }
        }
    }
}

fn line(buffer: &mut BytesMut) -> Result<Option<BytesMut>, Malformed> {
    let Some(end) = buffer.iter().take(MAX_CHUNK_LINE).position(|&byte| byte == b'\n') else {
        return if buffer.len() >= MAX_CHUNK_LINE {
            Err(Malformed("a chunk of its answer has no size"))
        } else {
            Ok(None)
        };
    };
    let mut line = buffer.split_to(end);
    buffer.advance(1);
    if line.last() == Some(&b'\r') {
        line.truncate(line.len() - 1);
    }
    Ok(Some(line))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn url() -> Url {
        "http://cam:8080/video.cgi?x=1#part".parse().unwrap()
    }

    fn head(text: &str) -> Head {
        Head::take(&mut BytesMut::from(text)).unwrap().unwrap()
    }

    #[test]
    fn a_request_names_host_and_target() {
        let request = request(&url(), Some("Basic abc"));
        assert!(request.starts_with("GET /video.cgi?x=1 HTTP/1.1\r\nHost: cam:8080\r\n"), "{request}");
        assert!(request.contains("\r\nAuthorization: Basic abc\r\n") && request.ends_with("\r\n\r\n"));
    }

    #[test]
    fn a_head_is_taken_whole_and_leaves_the_body() {
        for end in ["\r\n", "\n"] {
            let text =
                ["HTTP/1.0 200 OK", "Content-Type: multipart/x-mixed-replace; Boundary=\"--b\"", "", "body"].join(end);
            for cut in 0..text.len() - 4 {
                assert_eq!(Head::take(&mut BytesMut::from(&text[..cut])), Ok(None), "{cut}");
            }
            let mut buffer = BytesMut::from(text.as_str());
            let head = Head::take(&mut buffer).unwrap().unwrap();
            assert_eq!((head.status, &buffer[..]), (200, &b"body"[..]));
            assert_eq!(head.content_type(), ("multipart/x-mixed-replace".to_owned(), Some("\"--b\"")));
        }
        assert!(Head::take(&mut BytesMut::from("RTSP is not it\r\n\r\n")).is_err());
        assert!(Head::take(&mut BytesMut::from(&[b'x'; MAX_HEAD_BYTES + 1][..])).is_err());
    }

    #[test]
    fn basic_and_digest_challenges_are_answered() {
        let credentials = Credentials { user: "Aladdin".into(), password: "open sesame".into() };
        let basic = head("HTTP/1.1 401 No\r\nWWW-Authenticate: Basic realm=\"x\"\r\n\r\n");
        assert_eq!(authorization(&basic, &url(), &credentials).unwrap(), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        let digest = head("HTTP/1.1 401 No\r\nWWW-Authenticate: Digest realm=\"x\", nonce=\"n\", qop=\"auth\"\r\n\r\n");
        let answer = authorization(&digest, &url(), &credentials).unwrap();
        assert!(
            answer.starts_with("Digest username=\"Aladdin\"") && answer.contains("uri=\"/video.cgi?x=1\""),
            "{answer}"
        );
        assert!(!answer.contains("sesame"));
        assert!(authorization(&head("HTTP/1.1 401 No\r\n\r\n"), &url(), &credentials).is_err());
    }

    proptest! {
        #[test]
        fn chunks_join_however_they_are_cut(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..50), 0..6),
            cut in 1usize..40,
        ) {
            let mut wire = Vec::new();
            for chunk in &chunks {
                wire.extend(format!("{:X};name=value\r\n", chunk.len()).into_bytes());
                wire.extend(chunk);
                wire.extend(b"\r\n");
            }
            wire.extend(b"0\r\n\r\n");
            let (mut body, mut buffer, mut out) = (Body::Chunked(Chunk::Size), BytesMut::new(), Vec::new());
            for piece in wire.chunks(cut) {
                buffer.extend_from_slice(piece);
                body.unframe(&mut buffer, |bytes| out.extend_from_slice(bytes)).unwrap();
            }
            prop_assert_eq!(out, chunks.concat());
            prop_assert_eq!(body, Body::Ended);
        }

        #[test]
        fn arbitrary_answers_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), with_status in any::<bool>()) {
            let mut buffer = BytesMut::from(if with_status { &b"HTTP/1.1 200 OK\r\n"[..] } else { b"" });
            buffer.extend_from_slice(&bytes);
            if let Ok(Some(head)) = Head::take(&mut buffer) {
                let _ = (head.content_type(), authorization(&head, &url(), &Credentials { user: String::new(), password: String::new() }));
            }
            let _ = Body::Chunked(Chunk::Size).unframe(&mut buffer, |_| ());
        }
    }
}
