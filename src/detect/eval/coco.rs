//! Labels in COCO's own format, `instances_….json` (cocodataset.org/#format-data).

use std::collections::HashMap;
use std::path::{Component, Path};

use serde::Deserialize;

use super::{Label, Rect};

/// The labels of a set of pictures.
#[derive(Clone, Debug, PartialEq)]
pub struct CocoLabels {
    /// Class names by index, in the order of the file's category ids.
    pub classes: Vec<String>,
    images: HashMap<String, Vec<Label>>,
    /// Names of files alone, where no two pictures have the same.
    by_name: HashMap<String, Option<String>>,
}

/// What is wrong with a file of labels.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct CocoError(String);

#[derive(Deserialize)]
struct File {
    images: Vec<Image>,
    annotations: Vec<Annotation>,
    categories: Vec<Category>,
}

#[derive(Deserialize)]
struct Image {
    id: i64,
    file_name: String,
}

#[derive(Deserialize)]
struct Annotation {
    image_id: i64,
    category_id: i64,
    bbox: [f64; 4],
    #[serde(default)]
    iscrowd: u8,
}

#[derive(Deserialize)]
struct Category {
    id: i64,
    name: String,
}

impl CocoLabels {
    /// Reads the text of a file.
    ///
    /// # Errors
    /// Says which part is wrong.
    pub fn parse(text: &str) -> Result<Self, CocoError> {
        let file: File =
            serde_json::from_str(text).map_err(|error| CocoError(format!("no labels of COCO: {error}")))?;
        let File { images: listed, annotations, mut categories } = file;
        categories.sort_by_key(|category| category.id);
        let places: HashMap<i64, usize> = categories.iter().enumerate().map(|(n, category)| (category.id, n)).collect();
        let names: HashMap<i64, &str> = listed.iter().map(|image| (image.id, &*image.file_name)).collect();
        let mut images: HashMap<String, Vec<Label>> =
            listed.iter().map(|image| (image.file_name.clone(), Vec::new())).collect();
        for (number, annotation) in annotations.iter().enumerate() {
            let wrong = |what: String| CocoError(format!("annotations[{number}]: {what}"));
            let Annotation { image_id, category_id, bbox: [x, y, w, h], iscrowd } = *annotation;
            let &class =
                places.get(&category_id).ok_or_else(|| wrong(format!("category_id {category_id} is no category")))?;
            let name = names.get(&image_id).ok_or_else(|| wrong(format!("image_id {image_id} is no image")))?;
            let rect = Rect { x, y, w, h };
            if !rect.is_valid() {
                return Err(wrong(format!("bbox {:?} is no left, top, width and height", annotation.bbox)));
            }
            images.entry((*name).to_owned()).or_default().push(Label { class, rect, crowd: iscrowd != 0 });
        }
        let mut by_name: HashMap<String, Option<String>> = HashMap::new();
        for whole in images.keys() {
            let name = Path::new(whole).file_name().unwrap_or_default().to_string_lossy().into_owned();
            by_name.entry(name).and_modify(|known| *known = None).or_insert_with(|| Some(whole.clone()));
        }
        Ok(Self { classes: categories.into_iter().map(|category| category.name).collect(), images, by_name })
    }

    /// The labels of the picture at `path`: that whose file name, with its folders, `path` ends with; else the only one whose
    /// name without folders it has. `None` where there is none.
    #[must_use]
    pub fn of(&self, path: &Path) -> Option<&[Label]> {
        let parts: Vec<_> = path.components().filter(|part| matches!(part, Component::Normal(_))).collect();
        let mut ends = (0..parts.len()).map(|first| parts.iter().skip(first).collect::<std::path::PathBuf>());
        let whole = ends.find_map(|end| self.images.get(end.to_str()?));
        let by_name = || {
            let name = path.file_name()?.to_str()?;
            self.images.get(self.by_name.get(name)?.as_ref()?)
        };
        whole.or_else(by_name).map(Vec::as_slice)
    }
}
