//! Whether a model's files are what they were when it was loaded: by time, length and inode, as the configuration's file is
//! watched. No notification of the system's: those do not come on every mount.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::SystemTime;

/// A look at a model's files, in their order; `None` for one that is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stamp(Vec<Option<FileStamp>>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct FileStamp {
    path: PathBuf,
    modified: Option<SystemTime>,
    bytes: u64,
    inode: (u64, u64),
}

impl Stamp {
    pub(super) fn of(files: Vec<PathBuf>) -> Self {
        let look = |path: PathBuf| {
            let found = fs::metadata(&path).ok()?;
            let inode = (found.dev(), found.ino());
            Some(FileStamp { path, modified: found.modified().ok(), bytes: found.len(), inode })
        };
        Self(files.into_iter().map(look).collect())
    }
}

/// What is known of one model's files.
#[derive(Debug)]
pub(super) struct Seen {
    /// As they were when they were read last, whatever came of it.
    taken: Stamp,
    /// Another state, which may be half written.
    moving: Option<Stamp>,
}

impl Seen {
    pub(super) fn taken(stamp: Stamp) -> Self {
        Self { taken: stamp, moving: None }
    }

    /// Whether the files are others than those that were read, and at rest since the last call.
    pub(super) fn changed(&mut self, now: Stamp) -> bool {
        if now == self.taken {
            self.moving = None;
            return false;
        }
        if self.moving.as_ref() == Some(&now) {
            *self = Self::taken(now);
            return true;
        }
        self.moving = Some(now);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_seen_once_and_only_at_rest() {
        let folder = tempfile::tempdir().unwrap();
        let files = ["x.onnx", "x.toml"].map(|name| folder.path().join(name)).to_vec();
        let now = || Stamp::of(files.clone());
        let mut seen = Seen::taken(now());
        assert!(!seen.changed(now()));
        fs::write(&files[0], "a").unwrap();
        assert!(!seen.changed(now()), "it may be half written");
        fs::write(&files[0], "ab").unwrap();
        assert!(!seen.changed(now()), "it still moves");
        assert!(seen.changed(now()));
        assert!(!seen.changed(now()), "once");
        fs::write(folder.path().join("new"), "ab").unwrap();
        fs::rename(folder.path().join("new"), &files[0]).unwrap();
        assert!(!seen.changed(now()));
        assert!(seen.changed(now()), "another file of the same length");
        fs::write(&files[1], "manifest").unwrap();
        assert!(!seen.changed(now()));
        assert!(seen.changed(now()), "the manifest counts");
        fs::remove_file(&files[0]).unwrap();
        assert!(!seen.changed(now()));
        assert!(seen.changed(now()), "and so does its going");
    }

    #[test]
    fn what_comes_back_before_it_was_read_is_no_change() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        let now = || Stamp::of(vec![path.clone()]);
        let mut seen = Seen::taken(now());
        fs::write(&path, "a").unwrap();
        assert!(!seen.changed(now()));
        fs::remove_file(&path).unwrap();
        assert!(!seen.changed(now()));
        assert!(!seen.changed(now()));
    }
}
