//! Cameras of the command line and the environment: `--camera NAME=URL`, `SIGHTLINE_CAMERAS=NAME=URL,NAME=URL`.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::pipeline::CameraConfig;
use crate::source::camera::Address;

/// What was written, unread: an address may hold a password, and what reads the command line quotes what it cannot read.
#[derive(Clone)]
pub struct CameraFlag(String);

impl FromStr for CameraFlag {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for CameraFlag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = split(&self.0).into_iter().map(|entry| entry.split_once('=').map_or("?", |(name, _)| name));
        f.debug_list().entries(names).finish()
    }
}

/// Puts the cameras of the command line over those of the file: one that the file has too keeps the file's other settings.
///
/// # Errors
/// Names the camera, and never its address.
pub(super) fn put(cameras: &mut BTreeMap<String, CameraConfig>, flags: &[CameraFlag]) -> Result<Vec<String>, String> {
    let mut names = Vec::new();
    for entry in flags.iter().flat_map(|flag| split(&flag.0)) {
        let (name, address) = entry
            .split_once('=')
            .ok_or("--camera: write NAME=URL, as in --camera front=rtsp://user:password@192.0.2.20/stream1")?;
        let name = name.trim();
        if name.contains("://") || name.contains('@') {
            return Err("--camera: write the name first, as in --camera front=rtsp://…".to_owned());
        }
        let address: Address = address.parse().map_err(|error| format!("--camera {name}=…: {error}"))?;
        if names.iter().any(|known| known == name) {
            return Err(format!("--camera {name}=…: the name is given twice; each camera needs its own"));
        }
        match cameras.get_mut(name) {
            Some(camera) => camera.url = address,
            None => drop(cameras.insert(name.to_owned(), CameraConfig::at(address))),
        }
        names.push(name.to_owned());
    }
    Ok(names)
}

/// The entries of a list. A comma parts two of them where `NAME=SCHEME:` follows: addresses have commas of their own.
fn split(text: &str) -> Vec<&str> {
    let mut entries = Vec::new();
    let mut rest = text;
    let mut from = 0;
    while let Some(comma) = rest.get(from..).and_then(|rest| rest.find(',')).map(|at| from + at) {
        let (entry, after) = (rest.get(..comma).unwrap_or_default(), rest.get(comma + 1..).unwrap_or_default());
        if begins_entry(after) {
            entries.push(entry.trim());
            rest = after;
            from = 0;
        } else {
            from = comma + 1;
        }
    }
    entries.push(rest.trim().trim_end_matches(','));
    entries.retain(|entry| !entry.is_empty());
    entries
}

fn begins_entry(text: &str) -> bool {
    let Some((name, address)) = text.split_once('=') else { return false };
    let name = name.trim();
    let named = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    let scheme = address.split_once(':').map(|(scheme, _)| scheme.trim());
    named && scheme.is_some_and(|scheme| !scheme.is_empty() && scheme.chars().all(|c| c.is_ascii_alphanumeric()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(flags: &[&str]) -> Result<BTreeMap<String, CameraConfig>, String> {
        let flags: Vec<CameraFlag> = flags.iter().map(|flag| flag.parse().unwrap()).collect();
        let mut cameras = BTreeMap::new();
        put(&mut cameras, &flags)?;
        Ok(cameras)
    }

    #[test]
    fn cameras_are_read_one_by_one_and_from_a_list() {
        let one_by_one = read(&["front=rtsp://u:p@a/1", "yard=file:x.mp4"]).unwrap();
        let listed = read(&["front=rtsp://u:p@a/1, yard=file:x.mp4,"]).unwrap();
        assert_eq!(one_by_one, listed);
        assert_eq!(listed["front"].url.reveal(), "rtsp://u:p@a/1");
        assert!(read(&["", ","]).unwrap().is_empty(), "an empty variable is none");
    }

    #[test]
    fn a_comma_within_an_address_stays() {
        let cameras = read(&["a=http://cam/v?size=640,480&x=a,b=2,c=rtsp://d/"]).unwrap();
        assert_eq!(cameras["a"].url.reveal(), "http://cam/v?size=640,480&x=a,b=2");
        assert_eq!(cameras["c"].url.reveal(), "rtsp://d/");
    }

    #[test]
    fn a_camera_of_the_file_keeps_its_other_settings() {
        let mut cameras = read(&["front=rtsp://a/1"]).unwrap();
        cameras.get_mut("front").unwrap().priority = 7;
        put(&mut cameras, &["front=rtsp://b/1".parse().unwrap()]).unwrap();
        assert_eq!((cameras["front"].url.reveal(), cameras["front"].priority), ("rtsp://b/1", 7));
    }

    #[test]
    fn what_cannot_be_read_is_named_without_its_secret() {
        for (flags, hint) in [
            (&["rtsp://u:s3cret@cam/"][..], "NAME=URL"),
            (&["rtsp://u:s3cret@cam/?a=b"], "name first"),
            (&["front=https://u:s3cret@cam/"], "front"),
            (&["front=u:s3cret@cam"], "front"),
            (&["a=rtsp://u:s3cret@b/", "a=rtsp://u:s3cret@c/"], "twice"),
        ] {
            let error = read(flags).unwrap_err();
            assert!(error.contains("--camera") && error.contains(hint) && !error.contains("s3cret"), "{error}");
        }
        let shown = format!("{:?}", "a=rtsp://u:s3cret@b/,rtsp://u:s3cret@c/".parse::<CameraFlag>().unwrap());
        assert!(!shown.contains("s3cret"), "{shown}");
    }

    proptest! {
        #[test]
        fn arbitrary_lists_never_panic(text in "\\PC{0,60}") {
            let _ = read(&[&text]);
            let _ = format!("{:?}", text.parse::<CameraFlag>());
        }

        #[test]
        fn a_list_is_taken_apart_as_it_was_put_together(
            entries in prop::collection::vec(("[a-z][a-z0-9.-]{0,8}", "rtsp://[a-z]{1,5}:[a-z,]{1,5}@[a-z]{1,5}/[a-z0-9,=&]{0,9}"), 1..6),
        ) {
            // An address that itself ends like an entry would be one: that is what the rule says.
            let list: Vec<String> = entries.iter().map(|(name, url)| format!("{name}={}", url.trim_end_matches(','))).collect();
            let joined = list.join(",");
            prop_assert_eq!(split(&joined), list);
        }
    }
}
