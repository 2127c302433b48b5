//! A model's new file on its way into the models folder, under a name of its own until it is known to be good.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest, Sha256};

use crate::detect::{DetectError, Manifest};

/// Why a model was not replaced; the old one stays as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplaceError {
    /// No file belongs to this name.
    #[error("{0}")]
    Name(String),
    /// The bytes are not those that were announced.
    #[error("the file has the SHA-256 {got}, not {expected}: nothing was replaced")]
    Checksum {
        /// By whoever sent it.
        expected: String,
        /// By the bytes.
        got: String,
    },
    /// It cannot be used.
    #[error("the new file is refused, and the old one stays: {0}")]
    Refused(DetectError),
    /// The model is just being loaded.
    #[error("the model is being loaded: try again in a moment")]
    Busy,
    /// A file or folder could not be read or written.
    #[error("`{path}`: {reason}")]
    File {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        reason: std::io::Error,
    },
}

/// A new file for a model, while it comes. Dropped, it is gone.
#[derive(Debug)]
pub struct Upload {
    /// By which name the model is configured or asked for.
    pub(super) key: String,
    /// Where the file belongs.
    pub(super) target: PathBuf,
    pub(super) manifest: Option<Manifest>,
    part: PathBuf,
    file: Option<File>,
    sum: Sha256,
}

impl Upload {
    pub(super) fn open(key: &str, target: &Path, manifest: Option<Manifest>) -> Result<Self, ReplaceError> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        // In the same folder, so that it can be renamed into place.
        let part = folder.join(format!(".upload-{}-{number}.part", std::process::id()));
        let create = || {
            fs::create_dir_all(folder)?;
            OpenOptions::new().write(true).create_new(true).open(&part)
        };
        let file = create().map_err(|reason| ReplaceError::File { path: part.clone(), reason })?;
        Ok(Self {
            key: key.to_owned(),
            target: target.to_owned(),
            manifest,
            part,
            file: Some(file),
            sum: Sha256::new(),
        })
    }

    /// Takes the next bytes. Blocks.
    ///
    /// # Errors
    /// [`ReplaceError::File`]: the disk is full, say.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), ReplaceError> {
        self.sum.update(bytes);
        let Some(file) = &mut self.file else { return Ok(()) };
        file.write_all(bytes).map_err(|reason| self.failed(reason))
    }

    /// Compares the digest with the one that was announced, and gives the file that came.
    pub(super) fn check(&self, expected: Option<&str>) -> Result<&Path, ReplaceError> {
        let got = format!("{:x}", self.sum.clone().finalize());
        if let Some(expected) = expected.filter(|expected| !got.eq_ignore_ascii_case(expected)) {
            return Err(ReplaceError::Checksum { expected: expected.to_owned(), got });
        }
        Ok(&self.part)
    }

    /// Puts it in its place: whole, or not at all, also after a power cut.
    pub(super) fn store(&mut self) -> Result<(), ReplaceError> {
        let synced = self.file.take().map_or(Ok(()), |file| file.sync_all());
        synced.and_then(|()| fs::rename(&self.part, &self.target)).map_err(|reason| self.failed(reason))
    }

    fn failed(&self, reason: std::io::Error) -> ReplaceError {
        ReplaceError::File { path: self.target.clone(), reason }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        // Gone already if it was stored.
        let _ = fs::remove_file(&self.part);
    }
}
