//! Where the ONNX Runtime's shared library is.

use std::cmp::Reverse;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Where set-up puts the library, from the working folder.
const LOCAL_FOLDER: &str = ".sightline/lib";

#[cfg(target_os = "macos")]
const SYSTEM_NAME: &str = "libonnxruntime.dylib";
#[cfg(not(target_os = "macos"))]
const SYSTEM_NAME: &str = "libonnxruntime.so";

/// The library's path: `configured`, else `ORT_DYLIB_PATH`, else the newest `.sightline/lib/libonnxruntime.so*` from
/// the working folder, else the name that the system's loader looks for.
#[must_use]
pub fn find_library(configured: Option<&Path>) -> PathBuf {
    choose(configured, std::env::var_os("ORT_DYLIB_PATH"), Path::new(LOCAL_FOLDER))
}

fn choose(configured: Option<&Path>, environment: Option<OsString>, folder: &Path) -> PathBuf {
    let given = configured.map(Path::to_path_buf).or_else(|| environment.filter(|e| !e.is_empty()).map(PathBuf::from));
    let found = given.or_else(|| newest(folder)).unwrap_or_else(|| PathBuf::from(SYSTEM_NAME));
    // A relative path would be tried beside the executable first.
    match std::path::absolute(&found) {
        Ok(absolute) if found.components().count() > 1 || absolute.exists() => absolute,
        _ => found,
    }
}

/// The library with the highest version number in its name.
fn newest(folder: &Path) -> Option<PathBuf> {
    let entries = std::fs::read_dir(folder).ok()?;
    let libraries = entries.filter_map(|entry| {
        let path = entry.ok()?.path();
        let name = path.file_name()?.to_str()?.to_owned();
        let version = version(&name)?;
        Some((version, Reverse(name.len()), path))
    });
    libraries.max().map(|(_, _, path)| path)
}

/// The numbers of `libonnxruntime.so.1.31.1`; none for the bare name; `None` for another file.
fn version(name: &str) -> Option<Vec<u32>> {
    let rest = name.strip_prefix("libonnxruntime.")?;
    let numbers = match rest.strip_prefix("so") {
        Some("") => "",
        Some(numbers) => numbers.strip_prefix('.')?,
        // macOS writes the version before the ending.
        None if rest == "dylib" => "",
        None => rest.strip_suffix(".dylib")?,
    };
    if numbers.is_empty() {
        return Some(Vec::new());
    }
    numbers.split('.').map(|number| number.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_configured_wins_then_the_environment() {
        let folder = Path::new("/nonexistent");
        let environment = || Some(OsString::from("/env/lib.so"));
        assert_eq!(choose(Some(Path::new("/cfg/lib.so")), environment(), folder), Path::new("/cfg/lib.so"));
        assert_eq!(choose(None, environment(), folder), Path::new("/env/lib.so"));
        assert_eq!(choose(None, Some(OsString::new()), folder), Path::new(SYSTEM_NAME));
        assert_eq!(choose(None, None, folder), Path::new(SYSTEM_NAME));
    }

    #[test]
    fn the_newest_local_library_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        for name in [
            "libonnxruntime.so",
            "libonnxruntime.so.1.9.0",
            "libonnxruntime.so.1.31.1",
            "libonnxruntime.so.1.31.1.part",
            "libonnxruntime_providers_shared.so",
            "libfoo.so.2",
        ] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        assert_eq!(choose(None, None, folder.path()), folder.path().join("libonnxruntime.so.1.31.1"));
    }

    #[test]
    fn versions_are_read_from_names() {
        assert_eq!(version("libonnxruntime.so.1.31.1"), Some(vec![1, 31, 1]));
        assert_eq!(version("libonnxruntime.1.31.1.dylib"), Some(vec![1, 31, 1]));
        assert_eq!(version("libonnxruntime.so"), Some(vec![]));
        assert_eq!(version("libonnxruntime.so.x"), None);
    }
}
