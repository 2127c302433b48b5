use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use std::io::Cursor;

use super::wheel::{last_words, take_out};
use digest::of as sha256;

pub(super) const MODEL: &[u8] = b"the bytes of a model";

pub(super) fn zipped(path: &str, bytes: &[u8]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    zip.start_file("other/file.txt", zip::write::SimpleFileOptions::default()).unwrap();
    zip.write_all(b"something else").unwrap();
    zip.start_file(path, zip::write::SimpleFileOptions::default()).unwrap();
    zip.write_all(bytes).unwrap();
    zip.finish().unwrap().into_inner()
}

/// A manifest of a wheel that holds `MODEL`, and that wheel.
pub(super) fn of_wheel() -> (Manifest, Vec<u8>) {
    let wheel = zipped("some_faces/net.onnx", MODEL);
    let mut manifest = Manifest::shipped("face").unwrap().unwrap();
    manifest.source = Some(Source::Wheel(WheelSource {
        package: "some-faces".into(),
        version: "1.2".into(),
        file: None,
        wheel_sha256: sha256(&wheel),
        path: "some_faces/net.onnx".into(),
        sha256: sha256(MODEL),
        rewritten_sha256: None,
    }));
    (manifest, wheel)
}

pub(super) fn of_repository(repository: String) -> Manifest {
    let mut manifest = Manifest::shipped("face").unwrap().unwrap();
    manifest.source = Some(Source::Repository(RepositorySource {
        repository,
        commit: "0123abc".into(),
        path: "folder/net.onnx".into(),
        sha256: sha256(MODEL),
    }));
    manifest
}

/// A folder with these files in it.
pub(super) fn folder(files: &[(&str, &[u8])]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    folder
}

pub(super) fn names_in(folder: &Path) -> Vec<String> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Pulls and returns what was reported.
fn pulled(manifest: &Manifest, models: &Path, mirror: &Path) -> Result<Vec<Progress>, PullError> {
    let mut steps = Vec::new();
    let mirror = Mirror::Folder(mirror.to_owned());
    pull(manifest, models, Some(&mirror), &mut |step| steps.push(step)).map(|path| {
        assert_eq!(path, models.join("face.onnx"));
        steps
    })
}

#[test]
fn a_model_is_taken_out_of_a_mirrored_wheel_and_leaves_nothing_beside_it() {
    let (manifest, wheel) = of_wheel();
    let mirror = folder(&[("some_faces-1.2-py3-none-any.whl", &wheel)]);
    let models = folder(&[]);
    let models = models.path().join("made/on/the/way");
    let steps = pulled(&manifest, &models, mirror.path()).unwrap();
    assert!(matches!(&steps[..], [Progress::Mirrored(_), Progress::Stored]), "{steps:?}");
    assert_eq!(fs::read(models.join("face.onnx")).unwrap(), MODEL);
    assert_eq!(names_in(&models), ["face.onnx"]);
}

#[test]
fn a_second_pull_finds_the_file_present_and_asks_nobody() {
    let (manifest, _) = of_wheel();
    let models = folder(&[("face.onnx", MODEL)]);
    assert_eq!(pulled(&manifest, models.path(), Path::new("/nonexistent")).unwrap(), [Progress::Present]);
}

#[test]
fn a_damaged_file_is_replaced() {
    let (manifest, _) = of_wheel();
    let models = folder(&[("face.onnx", &MODEL[1..])]);
    let mirror = folder(&[("net.onnx", MODEL)]);
    pulled(&manifest, models.path(), mirror.path()).unwrap();
    assert_eq!(fs::read(models.path().join("face.onnx")).unwrap(), MODEL);
}

#[test]
fn a_file_of_a_repository_is_taken_from_the_mirror_by_either_name() {
    let manifest = of_repository("https://example.org/some/repository".into());
    for name in ["net.onnx", "face.onnx"] {
        let models = folder(&[]);
        let mirror = folder(&[(name, MODEL)]);
        let steps = pulled(&manifest, models.path(), mirror.path()).unwrap();
        assert_eq!(steps, [Progress::Mirrored(mirror.path().join(name)), Progress::Stored]);
    }
}

#[test]
fn a_changed_wheel_or_file_is_refused_and_the_old_file_stays() {
    let (manifest, mut wheel) = of_wheel();
    *wheel.last_mut().unwrap() ^= 1;
    let models = folder(&[("face.onnx", b"an older one")]);
    for (name, bytes) in [("some_faces-1.2-py3-none-any.whl", &wheel[..]), ("net.onnx", &MODEL[1..])] {
        let mirror = folder(&[(name, bytes)]);
        let error = pulled(&manifest, models.path(), mirror.path()).unwrap_err();
        assert!(matches!(&error, PullError::Checksum { got, .. } if *got == sha256(bytes)), "{error}");
        assert_eq!(fs::read(models.path().join("face.onnx")).unwrap(), b"an older one");
        assert_eq!(names_in(models.path()), ["face.onnx"]);
    }
}

#[test]
fn a_wheel_without_the_file_is_named_as_such() {
    let (mut manifest, wheel) = of_wheel();
    if let Some(Source::Wheel(source)) = &mut manifest.source {
        source.path = "some_faces/gone.onnx".into();
    }
    let mirror = folder(&[("some_faces-1.2-py3-none-any.whl", &wheel)]);
    let models = folder(&[]);
    let error = pulled(&manifest, models.path(), mirror.path()).unwrap_err();
    assert!(matches!(&error, PullError::Wheel { path, .. } if path == "some_faces/gone.onnx"), "{error}");
}

#[test]
fn an_empty_mirror_is_told_what_it_lacks() {
    let (manifest, _) = of_wheel();
    let (models, mirror) = (folder(&[]), folder(&[]));
    let error = pulled(&manifest, models.path(), mirror.path()).unwrap_err().to_string();
    assert!(error.contains("some_faces-1.2-*.whl, net.onnx, face.onnx"), "{error}");
}

#[test]
fn a_graph_that_cannot_be_rewritten_is_not_stored() {
    let (mut manifest, wheel) = of_wheel();
    if let Some(Source::Wheel(source)) = &mut manifest.source {
        source.rewritten_sha256 = Some("0".repeat(64));
    }
    let mirror = folder(&[("some_faces-1.2-py3-none-any.whl", &wheel)]);
    let models = folder(&[]);
    let error = pulled(&manifest, models.path(), mirror.path()).unwrap_err();
    assert!(matches!(error, PullError::Rewrite(_)), "{error}");
    assert_eq!(names_in(models.path()), [""; 0]);
}

#[test]
fn a_manifest_without_a_source_says_so() {
    let (mut manifest, _) = of_wheel();
    manifest.source = None;
    let models = folder(&[]);
    let error = pull(&manifest, models.path(), None, &mut |_| ()).unwrap_err();
    assert!(matches!(error, PullError::NoSource(_)), "{error}");
}

#[test]
fn a_machine_without_python_is_told_to_install_it() {
    let (manifest, _) = of_wheel();
    let models = folder(&[]);
    let error = pull_with("no-such-python".as_ref(), &manifest, models.path(), None, &mut |_| ()).unwrap_err();
    assert!(matches!(error, PullError::Python { .. }), "{error}");
    assert!(error.to_string().contains("no-such-python") && error.to_string().contains("python3-pip"), "{error}");
    assert_eq!(names_in(models.path()), [""; 0], "the scratch folder is gone");
}

#[test]
fn a_download_that_fails_is_told_what_to_change() {
    let (manifest, _) = of_wheel();
    let models = folder(&[]);
    let mut steps = Vec::new();
    let error = pull_with("false".as_ref(), &manifest, models.path(), None, &mut |step| steps.push(step)).unwrap_err();
    assert!(matches!(&error, PullError::Download { what, .. } if what == "some-faces==1.2"), "{error}");
    assert!(error.to_string().contains("--mirror DIR|URL"), "{error}");
    assert_eq!(steps, [Progress::Downloading("some-faces==1.2".into())]);
    let error = pull_with("true".as_ref(), &manifest, models.path(), None, &mut |_| ()).unwrap_err().to_string();
    assert!(error.contains("some_faces-1.2-*.whl"), "a pip that leaves no wheel: {error}");
}

#[test]
fn a_repository_whose_host_gives_no_raw_files_is_told_what_to_fetch_by_hand() {
    let models = folder(&[]);
    let manifest = of_repository("git@git.example.org:some/repository".into());
    let error = pull(&manifest, models.path(), None, &mut |_| ()).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, PullError::ByHand { .. }), "{text}");
    for part in ["folder/net.onnx", "git@git.example.org:some/repository", "0123abc", &sha256(MODEL), "face.onnx"] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn the_last_words_are_the_ones_that_say_why() {
    let said = "WARNING: Retrying\nERROR: No matching distribution found for x==1\n\n[notice] A new release of pip\n";
    assert_eq!(last_words(said).unwrap(), "ERROR: No matching distribution found for x==1");
    assert_eq!(last_words(" \n"), None);
    assert_eq!(last_words(&"é".repeat(1000)).unwrap().chars().count(), 300);
}

proptest! {
    #[test]
    fn a_damaged_archive_is_answered_without_a_panic(
        cut in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), byte in any::<u8>()
    ) {
        let mut archive = zipped("some_faces/net.onnx", MODEL);
        let at = at.index(archive.len());
        archive[at] = byte;
        archive.truncate(cut.index(archive.len()) + 1);
        if let Ok(bytes) = take_out(&archive, "some_faces/net.onnx") {
            prop_assert_eq!(bytes, MODEL);
        }
    }

    #[test]
    fn any_bytes_are_no_archive_and_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(take_out(&bytes, "some_faces/net.onnx").is_err());
    }
}
