//! The files of labels beside the pictures.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail, ensure};
use sightline::detect::eval::{CocoLabels, Label, class_names, yaml_names, yolo_labels};

use crate::cli::inputs::Input;

pub enum Labels {
    Coco(CocoLabels),
    Yolo(Yolo),
}

/// A folder with a text file for each picture.
pub struct Yolo {
    folder: PathBuf,
    names: Option<Vec<String>>,
}

impl Labels {
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        if path.is_file() {
            return coco(path);
        }
        ensure!(path.is_dir(), "--labels {}: there is no such file or folder", path.display());
        let mut files: Vec<PathBuf> =
            fs::read_dir(path)?.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.is_file()).collect();
        files.sort();
        let with = |ending: &str, begin: &str| -> Vec<&PathBuf> {
            let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let fits =
                |path: &&PathBuf| path.extension().is_some_and(|end| end == ending) && name(path).starts_with(begin);
            files.iter().filter(fits).collect()
        };
        match with("json", "instances").as_slice() {
            [] => {}
            [file] => return coco(file),
            several => {
                let names: Vec<_> = several.iter().map(|path| path.display().to_string()).collect();
                bail!("--labels {}: which of {}? name the file", path.display(), names.join(", "));
            }
        }
        if let [file] = with("json", "").as_slice()
            && with("txt", "").is_empty()
        {
            return coco(file);
        }
        Ok(Self::Yolo(Yolo { folder: path.to_owned(), names: names_near(path)? }))
    }

    /// The names of the classes by index; `None` where the labels do not say them.
    pub fn classes(&self) -> Option<&[String]> {
        match self {
            Self::Coco(labels) => Some(&labels.classes),
            Self::Yolo(labels) => labels.names.as_deref(),
        }
    }

    /// What is in a picture of this width and height; `None` where nobody has said.
    pub fn of(&self, input: &Input, (width, height): (u32, u32)) -> anyhow::Result<Option<Vec<Label>>> {
        match self {
            Self::Coco(labels) => Ok(labels.of(&input.path).map(<[Label]>::to_vec)),
            Self::Yolo(labels) => {
                let Some(path) = labels.file(input) else { return Ok(None) };
                let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
                let read = yolo_labels(&text, width.into(), height.into());
                read.map(Some).map_err(|error| anyhow!("{}: {error}", path.display()))
            }
        }
    }
}

impl Yolo {
    /// Below the folder where the picture is below its own, or in the folder itself.
    fn file(&self, input: &Input) -> Option<PathBuf> {
        let name = Path::new(input.path.file_stem()?).with_added_extension("txt");
        [self.folder.join(&input.place).join(&name), self.folder.join(&name)].into_iter().find(|path| path.is_file())
    }
}

fn coco(path: &Path) -> anyhow::Result<Labels> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    CocoLabels::parse(&text).map(Labels::Coco).with_context(|| path.display().to_string())
}

/// The names of the classes: `classes.txt` or `data.yaml` in the folder, or in one of the two above it.
fn names_near(folder: &Path) -> anyhow::Result<Option<Vec<String>>> {
    let folder = folder.canonicalize()?;
    for folder in folder.ancestors().take(3) {
        if let Ok(text) = fs::read_to_string(folder.join("classes.txt")) {
            return Ok(Some(class_names(&text)));
        }
        for name in ["data.yaml", "data.yml"] {
            let path = folder.join(name);
            if let Ok(text) = fs::read_to_string(&path) {
                let names = yaml_names(&text);
                return names.map(Some).with_context(|| format!("{}: its `names` cannot be read", path.display()));
            }
        }
    }
    Ok(None)
}
