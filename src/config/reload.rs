//! The configuration read again while the server runs: its cameras are taken over, all else waits for a restart.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::SystemTime;

use toml::Table;

use super::{Config, ConfigError, Overrides};
use crate::pipeline::CameraConfig;

/// What a file said when it was read again.
#[derive(Debug, PartialEq)]
pub struct Reloaded {
    /// All cameras of the file and of the command line.
    pub cameras: BTreeMap<String, CameraConfig>,
    /// Which of them the command line or the environment names.
    pub camera_flags: BTreeSet<String>,
    /// Keys outside `[cameras]` whose values are not those that the server was started with, as `server.listen`.
    pub after_restart: Vec<String>,
}

/// Watches the configuration file. What is read again goes through the same checks as at the start; with an error all stays
/// as it is.
#[derive(Debug)]
pub struct Reloader {
    overrides: Overrides,
    /// What the server was started with, without the cameras.
    started: Table,
    /// The state of the file that was read last, and one that has not come to rest yet.
    read: Seen,
    moving: Option<Seen>,
}

/// A look at the place where the file is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    Nothing,
    File(Stamp),
}

/// By what a file is seen to be another one. No notification of the system's: those do not come on every mount.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp {
    path: PathBuf,
    modified: Option<SystemTime>,
    inode: (u64, u64),
    bytes: u64,
}

impl Seen {
    fn now(overrides: &Overrides) -> Self {
        let Some(path) = overrides.detector.places.file() else { return Self::Nothing };
        let Ok(found) = fs::metadata(path) else { return Self::Nothing };
        Self::File(Stamp {
            path: path.to_owned(),
            modified: found.modified().ok(),
            inode: (found.dev(), found.ino()),
            bytes: found.len(),
        })
    }
}

impl Reloader {
    /// Loads the configuration as [`Config::load`] does, and watches its file from then on.
    ///
    /// # Errors
    /// Names the file, the key and the value.
    pub fn start(overrides: Overrides) -> Result<(Config, Self), ConfigError> {
        // First the stamp: what changes while it is read is then seen as a change.
        let read = Seen::now(&overrides);
        let config = Config::load(&overrides)?;
        let started = others(&overrides)?;
        Ok((config, Self { overrides, started, read, moving: None }))
    }

    /// To be called about once a second: reads the file when it is not as it was, and at rest since the last call.
    pub fn look(&mut self) -> Option<Result<Reloaded, ConfigError>> {
        let now = Seen::now(&self.overrides);
        if now == self.read {
            self.moving = None;
            return None;
        }
        // A file that is being written is seen empty, or half.
        if self.moving.as_ref() == Some(&now) {
            return Some(self.reload());
        }
        self.moving = Some(now);
        None
    }

    /// Reads the file now.
    ///
    /// # Errors
    /// Names the file, the key and the value; also when the file is gone.
    pub fn reload(&mut self) -> Result<Reloaded, ConfigError> {
        let now = Seen::now(&self.overrides);
        let before = std::mem::replace(&mut self.read, now);
        self.moving = None;
        // Without a file the defaults would be read, and all cameras would go.
        if let (Seen::File(gone), Seen::Nothing) = (before, &self.read) {
            return Err(ConfigError(format!("{}: the file is gone", gone.path.display())));
        }
        let config = Config::load(&self.overrides)?;
        let mut after_restart = Vec::new();
        differences("", &self.started, &others(&self.overrides)?, &mut after_restart);
        Ok(Reloaded { cameras: config.cameras, camera_flags: config.camera_flags, after_restart })
    }
}

/// The file's tables but the cameras.
fn others(overrides: &Overrides) -> Result<Table, ConfigError> {
    let Some(path) = overrides.detector.places.file() else { return Ok(Table::new()) };
    let text = Config::text(path)?;
    let mut table: Table = toml::from_str(&text)
        .map_err(|error| ConfigError(format!("{}: {}", path.display(), super::wrong::describe(&text, &error))))?;
    table.remove("cameras");
    Ok(table)
}

fn differences(prefix: &str, before: &Table, after: &Table, found: &mut Vec<String>) {
    let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    for key in keys {
        let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        let empty = Table::new();
        let table = |side: &Table| match side.get(key) {
            Some(toml::Value::Table(table)) => Some(table.clone()),
            Some(_) => None,
            None => Some(empty.clone()),
        };
        match (table(before), table(after)) {
            (Some(before), Some(after)) => differences(&path, &before, &after, found),
            _ if before.get(key) != after.get(key) => found.push(path),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{DetectorOverrides, Places};

    struct Watched {
        path: PathBuf,
        reloader: Reloader,
        _folder: tempfile::TempDir,
    }

    fn watched(text: &str, flags: &[&str]) -> Watched {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.toml");
        fs::write(&path, text).unwrap();
        let places = Places { config: Some(path.clone()), ..Places::default() };
        let detector = DetectorOverrides { places, ..DetectorOverrides::default() };
        let cameras = flags.iter().map(|flag| flag.parse().unwrap()).collect();
        let (_, reloader) = Reloader::start(Overrides { detector, cameras, ..Overrides::default() }).unwrap();
        Watched { path, reloader, _folder: folder }
    }

    const ONE: &str = "[cameras.a]\nurl = \"rtsp://a/1\"\n";
    const TWO: &str = "[cameras.a]\nurl = \"rtsp://a/1\"\n[cameras.b]\nurl = \"rtsp://b/1\"\n";

    fn names(reloaded: &Reloaded) -> Vec<&str> {
        reloaded.cameras.keys().map(String::as_str).collect()
    }

    #[test]
    fn a_changed_file_is_read_once_it_is_at_rest() {
        let mut watched = watched(ONE, &["flag=rtsp://f/"]);
        assert_eq!(watched.reloader.look(), None);
        fs::write(&watched.path, "").unwrap();
        assert_eq!(watched.reloader.look(), None, "it may be half written");
        fs::write(&watched.path, TWO).unwrap();
        assert_eq!(watched.reloader.look(), None, "it still moves");
        let reloaded = watched.reloader.look().unwrap().unwrap();
        assert_eq!(names(&reloaded), ["a", "b", "flag"]);
        assert_eq!(reloaded.camera_flags.iter().collect::<Vec<_>>(), ["flag"]);
        assert_eq!(reloaded.after_restart, Vec::<String>::new());
        assert_eq!(watched.reloader.look(), None);
    }

    #[test]
    fn a_file_that_was_replaced_is_another_one() {
        let mut watched = watched(ONE, &[]);
        let new = watched.path.with_extension("new");
        fs::write(&new, ONE.replace('1', "2")).unwrap();
        fs::rename(&new, &watched.path).unwrap();
        assert_eq!(watched.reloader.look(), None);
        let reloaded = watched.reloader.look().unwrap().unwrap();
        assert_eq!(reloaded.cameras["a"].url.reveal(), "rtsp://a/2");
    }

    #[test]
    fn a_broken_file_is_an_error_once_and_a_mended_one_is_taken() {
        let mut watched = watched(ONE, &[]);
        fs::write(&watched.path, "[cameras.a]\nurl = \"ftp://u:s3cret@a/\"\n").unwrap();
        assert_eq!(watched.reloader.look(), None);
        let error = watched.reloader.look().unwrap().unwrap_err().to_string();
        assert!(error.contains("x.toml") && error.contains("line 2") && !error.contains("s3cret"), "{error}");
        assert_eq!(watched.reloader.look(), None, "said once");
        fs::write(&watched.path, TWO).unwrap();
        assert_eq!(names(&watched.reloader.reload().unwrap()), ["a", "b"], "at once when asked to");
        assert_eq!(watched.reloader.look(), None);
    }

    #[test]
    fn a_file_that_is_gone_takes_no_camera_with_it() {
        let mut watched = watched(ONE, &[]);
        fs::remove_file(&watched.path).unwrap();
        assert_eq!(watched.reloader.look(), None, "it may be about to be replaced");
        assert!(watched.reloader.look().unwrap().unwrap_err().to_string().contains("gone"));
        assert_eq!(watched.reloader.look(), None);
        fs::write(&watched.path, TWO).unwrap();
        assert_eq!(watched.reloader.look(), None);
        assert_eq!(names(&watched.reloader.look().unwrap().unwrap()), ["a", "b"]);
    }

    #[test]
    fn other_keys_are_named_until_they_are_as_at_the_start() {
        let mut watched = watched(&format!("[log]\nfilter = \"info\"\n{ONE}"), &[]);
        fs::write(&watched.path, format!("[server]\nlisten = \"127.0.0.1:1\"\n[log]\nfilter = \"debug\"\n{ONE}"))
            .unwrap();
        assert_eq!(watched.reloader.reload().unwrap().after_restart, ["log.filter", "server.listen"]);
        fs::write(&watched.path, format!("[server]\n[log]\nfilter = \"info\"\n{TWO}")).unwrap();
        assert_eq!(watched.reloader.reload().unwrap().after_restart, Vec::<String>::new());
    }
}
