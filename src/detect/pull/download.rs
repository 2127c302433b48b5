//! A file over HTTP into a part that outlasts a broken connection and a broken run: the next goes on where it ended
//! (RFC 9110 §14, range requests).

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use reqwest::blocking::{Client, Response};
use reqwest::header::{ACCEPT_ENCODING, CONTENT_RANGE, RANGE};
use reqwest::{StatusCode, Url};

use super::{MAX_MODEL_BYTES, Progress, PullError};

/// How long a server may be silent.
const SILENCE: Duration = Duration::from_secs(30);

/// How often it is tried again without a byte in between.
const TRIES: u32 = 4;

/// The wait before the first further try; twice as long before each next one.
const FIRST_WAIT: Duration = Duration::from_millis(250);

/// What is read and written at a time.
const PIECE: usize = 64 << 10;

/// An HTTP client that honours the system's certificates and the proxy of the environment.
pub(super) fn client() -> Result<Client, PullError> {
    let builder = Client::builder()
        .user_agent(concat!("sightline/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(SILENCE)
        // Of each read, not of the whole.
        .timeout(SILENCE);
    builder.build().map_err(|error| PullError::Download { what: "a file".to_owned(), said: words(&error) })
}

/// What became of a try.
enum Tried {
    Whole,
    /// It may go on, or go well another time.
    Broken(String),
    /// What the part holds is of no use: from the beginning.
    Anew,
    Refused(String),
    NotThere,
}

/// A file that is being fetched.
#[derive(Debug)]
pub(super) struct Part {
    path: PathBuf,
    file: File,
    /// Some of it is from a run before.
    pub(super) continued: bool,
}

impl Part {
    /// The part of the file that has this SHA-256, in `folder`: what another run left of it, or an empty one.
    pub(super) fn open(folder: &Path, sum: &str) -> Result<Self, PullError> {
        let name: String = sum.chars().filter(char::is_ascii_hexdigit).take(16).collect();
        let path = folder.join(format!(".pull-{}.part", name.to_ascii_lowercase()));
        let failed = |reason| PullError::File { path: path.clone(), reason };
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
        // Two at once would write over each other.
        if file.try_lock().is_err() {
            return Err(PullError::Busy(path));
        }
        let continued = file.metadata().map_err(failed)?.len() > 0;
        Ok(Self { path, file, continued })
    }

    /// Fetches what is missing. What came stays in the part, also when the rest does not come. `false`: the server has no such
    /// file.
    pub(super) fn fetch(
        &mut self,
        client: &Client,
        url: &Url,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<bool, PullError> {
        let what = shown(url);
        let (mut tries, mut wait) = (0, FIRST_WAIT);
        loop {
            let before = self.length()?;
            let said = match self.attempt(client, url, before, progress)? {
                Tried::Whole => return Ok(true),
                Tried::NotThere => return Ok(false),
                Tried::Refused(said) => return Err(PullError::Download { what, said }),
                Tried::Anew => {
                    self.clear()?;
                    "the server has another file than the one that was begun".to_owned()
                }
                Tried::Broken(said) => said,
            };
            if self.length()? > before {
                (tries, wait) = (0, FIRST_WAIT);
            }
            tries += 1;
            if tries >= TRIES {
                let kept = self.length()?;
                let said = match kept {
                    0 => said,
                    _ => format!("{said}; {kept} bytes of it are kept, the next try goes on from there"),
                };
                return Err(PullError::Download { what, said });
            }
            thread::sleep(wait);
            wait *= 2;
        }
    }

    fn attempt(
        &mut self,
        client: &Client,
        url: &Url,
        have: u64,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Tried, PullError> {
        // Of a compressed answer the bytes could not be counted.
        let mut request = client.get(url.clone()).header(ACCEPT_ENCODING, "identity");
        if have > 0 {
            request = request.header(RANGE, format!("bytes={have}-"));
        }
        let response = match request.send() {
            Ok(response) => response,
            Err(error) if error.is_builder() => return Ok(Tried::Refused(words(&error))),
            Err(error) => return Ok(Tried::Broken(words(&error))),
        };
        let range = response.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok()).map(str::to_owned);
        match response.status() {
            StatusCode::OK => {
                // A server without ranges begins anew.
                self.clear()?;
                let total = response.content_length();
                self.take(response, 0, total, progress)
            }
            StatusCode::PARTIAL_CONTENT => match range.as_deref().and_then(content_range) {
                Some((begin, total)) if begin == have => self.take(response, have, total, progress),
                _ => Ok(Tried::Anew),
            },
            StatusCode::RANGE_NOT_SATISFIABLE => {
                // All of it was there already.
                let total = range.as_deref().and_then(|range| range.strip_prefix("bytes */")?.trim().parse().ok());
                Ok(if have > 0 && total == Some(have) { Tried::Whole } else { Tried::Anew })
            }
            StatusCode::NOT_FOUND | StatusCode::GONE => Ok(Tried::NotThere),
            status if status.is_server_error() => Ok(Tried::Broken(format!("the server answers {status}"))),
            StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => {
                Ok(Tried::Broken(format!("the server answers {}", response.status())))
            }
            status => Ok(Tried::Refused(format!("the server answers {status}"))),
        }
    }

    /// Writes the answer behind the first `have` bytes.
    fn take(
        &mut self,
        mut response: Response,
        mut have: u64,
        total: Option<u64>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Tried, PullError> {
        if total.is_some_and(|total| total > MAX_MODEL_BYTES) {
            return Ok(Tried::Refused(too_large()));
        }
        let path = self.path.clone();
        let failed = |reason| PullError::File { path: path.clone(), reason };
        self.file.seek(SeekFrom::Start(have)).map_err(failed)?;
        let mut piece = vec![0; PIECE];
        progress(Progress::Bytes { done: have, total });
        loop {
            let read = match response.read(&mut piece) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Ok(Tried::Broken(words(&error))),
            };
            have += read as u64;
            if have > MAX_MODEL_BYTES {
                self.clear()?;
                return Ok(Tried::Refused(too_large()));
            }
            self.file.write_all(piece.get(..read).unwrap_or_default()).map_err(failed)?;
            progress(Progress::Bytes { done: have, total });
        }
        match total {
            Some(total) if have < total => Ok(Tried::Broken(format!("it ended after {have} of {total} bytes"))),
            Some(total) if have > total => Ok(Tried::Anew),
            _ => Ok(Tried::Whole),
        }
    }

    /// What there is.
    pub(super) fn bytes(&mut self) -> Result<Vec<u8>, PullError> {
        let mut bytes = Vec::new();
        let read = self.file.seek(SeekFrom::Start(0)).and_then(|_| self.file.read_to_end(&mut bytes));
        read.map(|_| bytes).map_err(|reason| self.failed(reason))
    }

    /// Nothing of it is of use.
    pub(super) fn clear(&mut self) -> Result<(), PullError> {
        self.continued = false;
        self.file.set_len(0).map_err(|reason| self.failed(reason))
    }

    /// It is no longer needed.
    pub(super) fn remove(self) {
        // A hidden file that cannot be removed is no reason to fail a pull that worked.
        let _ = std::fs::remove_file(&self.path);
    }

    pub(super) fn is_empty(&self) -> Result<bool, PullError> {
        self.length().map(|length| length == 0)
    }

    fn length(&self) -> Result<u64, PullError> {
        self.file.metadata().map(|file| file.len()).map_err(|reason| self.failed(reason))
    }

    fn failed(&self, reason: io::Error) -> PullError {
        PullError::File { path: self.path.clone(), reason }
    }
}

fn too_large() -> String {
    format!("it is larger than {MAX_MODEL_BYTES} bytes, which no model is")
}

/// `bytes 100-199/200`, or `…/*`: the first byte, and how many there are.
fn content_range(value: &str) -> Option<(u64, Option<u64>)> {
    let (span, total) = value.strip_prefix("bytes ")?.split_once('/')?;
    let (begin, _) = span.split_once('-')?;
    Some((begin.trim().parse().ok()?, total.trim().parse().ok()))
}

/// The whole chain of an error: the outer words alone say too little.
fn words(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut inner = error.source();
    while let Some(error) = inner {
        let said = error.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        inner = error.source();
    }
    text
}

/// An address without the password that it may have.
pub(super) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    if url.password().is_some() {
        // Fails for addresses that cannot have one.
        let _ = url.set_password(Some("***"));
    }
    url.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_range_is_read_with_and_without_its_total() {
        assert_eq!(content_range("bytes 100-199/200"), Some((100, Some(200))));
        assert_eq!(content_range("bytes 5-9/*"), Some((5, None)));
        for bad in ["", "bytes */200", "bytes 1/2", "items 1-2/3", "bytes -5/10"] {
            assert_eq!(content_range(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_password_is_not_shown() {
        let url = Url::parse("https://me:s3cret@mirror.example/x.onnx").unwrap();
        assert_eq!(shown(&url), "https://me:***@mirror.example/x.onnx");
    }

    #[test]
    fn one_part_is_for_one_pull() {
        let folder = tempfile::tempdir().unwrap();
        let first = Part::open(folder.path(), &"aB".repeat(32)).unwrap();
        assert!(matches!(Part::open(folder.path(), &"ab".repeat(32)), Err(PullError::Busy(_))));
        assert!(Part::open(folder.path(), &"cd".repeat(32)).is_ok());
        drop(first);
        assert!(Part::open(folder.path(), &"ab".repeat(32)).is_ok());
    }

    proptest! {
        #[test]
        fn no_header_panics(value in "\\PC{0,60}") {
            let _ = content_range(&value);
        }
    }
}
