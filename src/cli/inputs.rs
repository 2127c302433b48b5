//! The pictures and videos that a command line names: files, and folders with what is in them.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

/// Endings by which a folder's files are taken; a file that is named itself is told by its content.
const PICTURES: [&str; 5] = ["png", "jpg", "jpeg", "webp", "bmp"];
const VIDEOS: [&str; 6] = ["mp4", "m4v", "mov", "h264", "264", "avc"];

/// Deeper folders are a loop, or nobody's pictures.
const DEEPEST: usize = 32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Picture,
    Video,
}

/// A file to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    pub path: PathBuf,
    pub kind: Kind,
    /// Where it was found below the folder that was named: what is made of it goes to the same place.
    pub place: PathBuf,
}

/// All that `paths` name, in their order, a folder's sorted by name; files first, then its folders. What lies in `except` is
/// none of it, and neither is what is hidden. The second is what could not be read.
pub fn collect(paths: &[PathBuf], except: Option<&Path>) -> (Vec<Input>, Vec<String>) {
    let except = except.and_then(|folder| folder.canonicalize().ok());
    let mut walk = Walk { except, found: Vec::new(), failed: Vec::new() };
    for path in paths {
        if path.is_dir() {
            let before = walk.found.len();
            walk.folder(path, Path::new(""), 0);
            if walk.found.len() == before && walk.failed.is_empty() {
                let endings = [&PICTURES[..], &VIDEOS].concat().join(", ");
                walk.failed.push(format!("{}: no picture and no video is in it ({endings})", path.display()));
            }
        } else {
            walk.found.push(Input { path: path.clone(), kind: kind_by_content(path), place: PathBuf::new() });
        }
    }
    (walk.found, walk.failed)
}

struct Walk {
    except: Option<PathBuf>,
    found: Vec<Input>,
    failed: Vec<String>,
}

impl Walk {
    fn folder(&mut self, folder: &Path, place: &Path, depth: usize) {
        if depth > DEEPEST || self.except.is_some() && folder.canonicalize().ok() == self.except {
            return;
        }
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) => return self.failed.push(format!("{}: {error}", folder.display())),
        };
        let mut names: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.file_name())).collect();
        names.retain(|name| !name.to_string_lossy().starts_with('.'));
        names.sort();
        let mut folders = Vec::new();
        for name in names {
            let path = folder.join(&name);
            if path.is_dir() {
                // A link may lead back to where it is.
                if !path.is_symlink() {
                    folders.push(name);
                }
            } else if let Some(kind) = kind_by_ending(&path) {
                self.found.push(Input { path, kind, place: place.to_owned() });
            }
        }
        for name in folders {
            self.folder(&folder.join(&name), &place.join(&name), depth + 1);
        }
    }
}

fn kind_by_ending(path: &Path) -> Option<Kind> {
    let ending = path.extension()?.to_str()?.to_lowercase();
    let is = |known: &[&str]| known.contains(&ending.as_str());
    is(&PICTURES).then_some(Kind::Picture).or_else(|| is(&VIDEOS).then_some(Kind::Video))
}

/// By its first bytes; what cannot be read is taken for a picture, whose reader says why.
fn kind_by_content(path: &Path) -> Kind {
    let mut head = [0; 12];
    let read = File::open(path).and_then(|mut file| file.read(&mut head)).unwrap_or(0);
    let head = head.get(..read).unwrap_or_default();
    let box_kind = head.get(4..8).unwrap_or_default();
    let mp4 = [&b"ftyp"[..], b"moov", b"mdat", b"moof", b"styp", b"free", b"wide"].contains(&box_kind);
    let annex_b = head.starts_with(&[0, 0, 1]) || head.starts_with(&[0, 0, 0, 1]);
    // Videos of other containers: whoever opens them says what to do.
    let riff = head.starts_with(b"RIFF") && head.get(8..12) == Some(b"AVI ");
    let other = riff || head.starts_with(&[0x1a, 0x45, 0xdf, 0xa3]) || head.starts_with(b"FLV");
    if mp4 || annex_b || other { Kind::Video } else { Kind::Picture }
}

/// Files made of inputs, in one folder: none takes the place of another, though names come twice.
#[derive(Debug)]
pub struct Outputs {
    folder: PathBuf,
    taken: HashSet<PathBuf>,
}

impl Outputs {
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), taken: HashSet::new() }
    }

    /// `PLACE/STEM.annotated.ENDING` in the folder, or `STEM-2`, and so on.
    pub fn free_name(&mut self, input: &Input, ending: &str) -> PathBuf {
        let stem = input.path.file_stem().unwrap_or_default().to_string_lossy();
        let folder = self.folder.join(&input.place);
        let name = |number: usize| match number {
            1 => folder.join(format!("{stem}.annotated.{ending}")),
            _ => folder.join(format!("{stem}-{number}.annotated.{ending}")),
        };
        let path = (1..).map(name).find(|path| !self.taken.contains(path)).unwrap_or_default();
        self.taken.insert(path.clone());
        path
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn folder(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        folder
    }

    fn names(found: &[Input], folder: &Path) -> Vec<String> {
        found.iter().map(|input| input.path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn a_folder_gives_its_pictures_and_videos_sorted_and_those_of_its_folders() {
        let folder = folder(&[
            "b.PNG",
            "a.jpg",
            "notes.txt",
            "sub/c.mp4",
            "sub/deep/d.webp",
            ".hidden/e.png",
            ".f.png",
            "out/a.png",
        ]);
        let root = folder.path();
        std::os::unix::fs::symlink(root, root.join("sub/loop")).unwrap();
        let (found, failed) = collect(&[root.to_owned()], Some(&root.join("out")));
        assert_eq!(names(&found, root), ["a.jpg", "b.PNG", "sub/c.mp4", "sub/deep/d.webp"]);
        assert_eq!((found[2].kind, found[3].kind), (Kind::Video, Kind::Picture));
        assert_eq!(found[3].place, Path::new("sub/deep"));
        assert_eq!(failed, [""; 0]);
    }

    #[test]
    fn a_folder_without_a_picture_is_named() {
        let folder = folder(&["notes.txt"]);
        let (found, failed) = collect(&[folder.path().to_owned()], None);
        assert!(found.is_empty() && failed[0].contains("png") && failed[0].contains(folder.path().to_str().unwrap()));
    }

    #[test]
    fn a_named_file_is_told_by_its_content() {
        let folder = tempfile::tempdir().unwrap();
        for (bytes, kind) in [
            (&b"\0\0\0\x18ftypisom"[..], Kind::Video),
            (&[0, 0, 0, 1, 0x67], Kind::Video),
            (&[0, 0, 1, 0x67], Kind::Video),
            (b"\x1a\x45\xdf\xa3", Kind::Video),
            (b"RIFF1234AVI ", Kind::Video),
            (b"RIFF1234WEBP", Kind::Picture),
            (b"\x89PNG", Kind::Picture),
            (b"", Kind::Picture),
        ] {
            let path = folder.path().join("named.mp4");
            fs::write(&path, bytes).unwrap();
            assert_eq!(collect(&[path], None).0[0].kind, kind, "{bytes:?}");
        }
        assert_eq!(collect(&["/nowhere/x.mp4".into()], None).0[0].kind, Kind::Picture);
    }

    proptest! {
        #[test]
        fn no_two_inputs_are_written_to_one_file(stems in prop::collection::vec("[ab](-2)?", 1..12)) {
            let mut outputs = Outputs::new(Path::new("out"));
            let mut seen = HashSet::new();
            for stem in stems {
                let input = Input { path: format!("{stem}.png").into(), kind: Kind::Picture, place: PathBuf::new() };
                prop_assert!(seen.insert(outputs.free_name(&input, "png")));
            }
        }
    }
}
