//! `sightline eval`: how well a model finds what people have labelled.

mod labels;

use std::collections::HashMap;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;

use anyhow::{Context, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use sightline::config::{Config, DetectorOverrides};
use sightline::detect::eval::{ClassScore, Evaluation, Guess, Label, Rect, Score};
use sightline::detect::{Model, ModelInfo};
use sightline::media::Detection;

use super::detect::Image;
use super::inputs::{Input, Kind, collect};
use labels::Labels;

/// The curve needs unsure objects too: those that a person would not want to see.
const CONFIDENCE: f32 = 0.001;

/// The most objects of a picture, of all classes together.
const MAX_DETECTIONS: usize = 300;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    detector: DetectorOverrides,
    /// What is in the pictures: a file of COCO (instances_….json), a folder with one, or a folder with a YOLO text file for each
    /// picture.
    #[arg(long, value_name = "DIR|FILE")]
    labels: PathBuf,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    /// Pictures: PNG, JPEG, WebP or BMP, and folders of them.
    #[arg(required = true, value_name = "IMAGE|DIR")]
    images: Vec<PathBuf>,
}

/// Looks at every picture and prints the average precision; `false` when one of them failed, and so does not count.
pub fn run(args: &Args, out: &mut impl Write) -> anyhow::Result<bool> {
    let mut config = Config::load(&args.detector.clone().into())?.detect;
    // What is configured is meant for people who look on.
    config.confidence = Some(args.detector.confidence.unwrap_or(CONFIDENCE));
    config.classes.clear();
    config.max_detections = MAX_DETECTIONS;
    let labels = Labels::open(&args.labels)?;
    let (mut inputs, failures) = collect(&args.images, None);
    inputs.retain(|input| input.kind == Kind::Picture);
    for failure in &failures {
        eprintln!("sightline: {failure}");
    }
    let model = Model::load(&config)?;
    let info = model.info();
    ensure!(!model.per_stream(), "the model `{}` finds nothing in still pictures", info.name);
    for assumed in &info.assumed {
        eprintln!("sightline: {}: assumed: {assumed}", info.name);
    }
    let classes = Classes::new(&labels, info)?;
    let mut detector = model.detector()?;
    let settings = model.settings(&config);
    let mut judge = Judge { evaluation: Evaluation::new(classes.names.len()), labels, classes, unlabelled: 0 };
    let bar = progress(inputs.len())?;
    let mut well = failures.is_empty();
    for input in &inputs {
        let looked = judge.look(input, |image| Ok(detector.detect(image.picture(), &settings)?.items));
        if let Err(error) = looked {
            bar.suspend(|| eprintln!("sightline: {}: {error:#}", input.path.display()));
            well = false;
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    let Judge { evaluation, classes, unlabelled, .. } = judge;
    if unlabelled > 0 {
        eprintln!("sightline: {unlabelled} pictures have no labels, and do not count");
    }
    let score = evaluation.score();
    ensure!(score.images > 0, "none of the pictures has labels in {}", args.labels.display());
    if !classes.unknown.is_empty() {
        let unknown = classes.unknown.join(", ");
        eprintln!("sightline: the model `{}` does not know, and these do not count: {unknown}", info.name);
    }
    let report = Report::new(info, &classes, &score, unlabelled);
    if args.json {
        writeln!(out, "{}", serde_json::to_string(&report)?)?;
    } else {
        report.write_table(out)?;
    }
    Ok(well)
}

fn progress(pictures: usize) -> anyhow::Result<ProgressBar> {
    if !std::io::stderr().is_terminal() {
        return Ok(ProgressBar::hidden());
    }
    let bar = ProgressBar::new(pictures as u64);
    bar.set_style(ProgressStyle::with_template("{wide_bar} {pos}/{len} pictures, {per_sec}, {eta} to go")?);
    Ok(bar)
}

/// The classes that count: those of the labels that the model knows, too.
struct Classes {
    names: Vec<String>,
    /// From a label's class and from a model's class to the one that counts.
    of_label: HashMap<usize, usize>,
    of_model: HashMap<u32, usize>,
    unknown: Vec<String>,
}

impl Classes {
    fn new(labels: &Labels, info: &ModelInfo) -> anyhow::Result<Self> {
        let mut classes =
            Self { names: Vec::new(), of_label: HashMap::new(), of_model: HashMap::new(), unknown: Vec::new() };
        // Labels without names mean the model's own classes.
        let own: Vec<String> = info.labels.iter().map(ToString::to_string).collect();
        for (class, name) in labels.classes().unwrap_or(&own).iter().enumerate() {
            let same = |label: &str| canonical(label) == canonical(name);
            match info.labels.iter().position(|label| same(label)) {
                Some(known) => {
                    let place = classes.names.len();
                    classes.of_label.insert(class, place);
                    classes.of_model.insert(u32::try_from(known)?, place);
                    classes.names.push(name.clone());
                }
                None => classes.unknown.push(name.clone()),
            }
        }
        ensure!(
            !classes.names.is_empty(),
            "the labels and the model `{}` have no class in common; the labels have {}, the model {}",
            info.name,
            classes.unknown.join(", "),
            own.join(", ")
        );
        Ok(classes)
    }
}

/// A class's name as it is compared: the tools that grew around COCO write some of its names in their own ways.
fn canonical(name: &str) -> String {
    let plain = name.to_lowercase().replace(['_', '-', ' '], "");
    match plain.as_str() {
        "tvmonitor" => "tv".to_owned(),
        "sofa" => "couch".to_owned(),
        "motorbike" => "motorcycle".to_owned(),
        "aeroplane" => "airplane".to_owned(),
        _ => plain,
    }
}

struct Judge {
    evaluation: Evaluation,
    labels: Labels,
    classes: Classes,
    unlabelled: usize,
}

impl Judge {
    fn look(
        &mut self,
        input: &Input,
        detect: impl FnOnce(&Image) -> anyhow::Result<Vec<Detection>>,
    ) -> anyhow::Result<()> {
        let image = Image::open(&input.path).context("it cannot be looked at")?;
        let Some(labels) = self.labels.of(input, (image.width, image.height))? else {
            self.unlabelled += 1;
            return Ok(());
        };
        let classes = &self.classes;
        let labels: Vec<Label> = labels
            .into_iter()
            .filter_map(|label| Some(Label { class: *classes.of_label.get(&label.class)?, ..label }))
            .collect();
        let guess = |found: &Detection| {
            let [x1, y1, x2, y2] = [found.bbox.x1, found.bbox.y1, found.bbox.x2, found.bbox.y2].map(f64::from);
            let rect = Rect { x: x1, y: y1, w: x2 - x1, h: y2 - y1 };
            Some(Guess { class: *classes.of_model.get(&found.class_id)?, rect, score: found.confidence.into() })
        };
        let found: Vec<Guess> = detect(&image)?.iter().filter_map(guess).collect();
        self.evaluation.add(&labels, &found);
        Ok(())
    }
}

#[derive(Debug, Serialize)]
struct Report<'a> {
    model: &'a str,
    images: usize,
    #[serde(skip_serializing_if = "is_zero")]
    images_without_labels: usize,
    objects: usize,
    /// Mean over the classes with objects, at an IoU of 0.50 to 0.95; to 0.0001, as are all.
    ap: Option<f64>,
    ap50: Option<f64>,
    classes: Vec<ClassReport<'a>>,
    /// Classes of the labels that the model does not have: they do not count.
    unknown_classes: &'a [String],
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's way
fn is_zero(count: &usize) -> bool {
    *count == 0
}

#[derive(Debug, Serialize)]
struct ClassReport<'a> {
    class_name: &'a str,
    objects: usize,
    ap: Option<f64>,
    ap50: Option<f64>,
}

impl<'a> Report<'a> {
    fn new(info: &'a ModelInfo, classes: &'a Classes, score: &Score, unlabelled: usize) -> Self {
        let round = |value: Option<f64>| value.map(|value| (value * 10_000.0).round() / 10_000.0);
        // Of a class of which nothing is labelled there is nothing to say.
        let labelled = |(_, class): &(&String, &ClassScore)| class.objects > 0;
        let rows = classes.names.iter().zip(&score.classes).filter(labelled).map(|(name, class)| ClassReport {
            class_name: name,
            objects: class.objects,
            ap: round(class.ap),
            ap50: round(class.ap50),
        });
        Self {
            model: &info.name,
            images: score.images,
            images_without_labels: unlabelled,
            objects: score.all.objects,
            ap: round(score.all.ap),
            ap50: round(score.all.ap50),
            classes: rows.collect(),
            unknown_classes: &classes.unknown,
        }
    }

    fn write_table(&self, out: &mut impl Write) -> std::io::Result<()> {
        let widest = self.classes.iter().map(|class| class.class_name.chars().count()).max().unwrap_or(0).max(5);
        let number = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.3}"));
        writeln!(out, "{}: {} pictures, {} objects", self.model, self.images, self.objects)?;
        writeln!(out, "  {:widest$}  objects     AP   AP50", "class")?;
        for ClassReport { class_name, objects, ap, ap50 } in &self.classes {
            writeln!(out, "  {class_name:widest$}  {objects:7}  {:>5}  {:>5}", number(*ap), number(*ap50))?;
        }
        writeln!(out, "  {:widest$}  {:7}  {:>5}  {:>5}", "mean", self.objects, number(self.ap), number(self.ap50))
    }
}
