//! `sightline models`: what there is, what it is, and how it gets here.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use sightline::config::{Config, Places};
use sightline::detect::backend::{Session, find_library};
use sightline::detect::heads::identify;
use sightline::detect::manifest::Manifest;
use sightline::detect::nms::NmsMode;
use sightline::detect::pull::{Mirror, Progress, PullError, pull};
use sightline::detect::{
    self, Colour, DetectError, Family, Fit, InputSize, InputSpec, Interpolation, Located, Model, has_digest,
    known_models, locate,
};

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Show which models are known, and whether their files are here.
    List {
        #[command(flatten)]
        places: Places,
    },
    /// Show everything that is known about a model.
    Info {
        #[command(flatten)]
        places: Places,
        /// A model's name, or the path of an .onnx file.
        #[arg(value_name = "NAME|PATH")]
        name: String,
    },
    /// Fetch models from the sources that their manifests pin, checked by SHA-256.
    Pull {
        #[command(flatten)]
        places: Places,
        /// Folder or address (http, https) that holds the wheels or model files: nothing comes from elsewhere.
        #[arg(long, env = "SIGHTLINE_MIRROR", value_name = "DIR|URL")]
        mirror: Option<Mirror>,
        /// Every model that has a manifest with a source.
        #[arg(long, conflicts_with = "names")]
        all: bool,
        /// Models' names.
        #[arg(required_unless_present = "all", value_name = "NAME")]
        names: Vec<String>,
    },
}

/// Runs the command; `false` when one of several models failed.
pub fn run(command: &Command, out: &mut impl Write) -> anyhow::Result<bool> {
    let config = |places: &Places| Config::load(&places.clone().into()).map(|config| config.detect);
    match command {
        Command::List { places } => list(&config(places)?, out),
        Command::Info { places, name } => info(&config(places)?, name, out),
        Command::Pull { places, mirror, all, names } => {
            let config = config(places)?;
            let names = if *all { with_source(&config.models_dir) } else { names.clone() };
            pull_all(&config, &names, mirror.as_ref(), out)
        }
    }
}

/// How a model's file stands to its manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FileState {
    Absent,
    /// No digest is known to compare with.
    Present,
    AsPinned,
    Altered,
}

impl FileState {
    fn of(path: &Path, manifest: Option<&Manifest>) -> Self {
        if !path.is_file() {
            return Self::Absent;
        }
        match manifest.and_then(|manifest| manifest.source.as_ref()) {
            None => Self::Present,
            Some(source) if has_digest(path, source.stored_sha256()) => Self::AsPinned,
            Some(_) => Self::Altered,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Present | Self::AsPinned => "present",
            Self::Altered => "altered",
        }
    }
}

fn list(config: &detect::Config, out: &mut impl Write) -> anyhow::Result<bool> {
    let mut rows = vec![["NAME", "FAMILY", "INPUT", "LICENCE", "FILE", "ABOUT"].map(str::to_owned)];
    let mut well = true;
    for name in known_models(&config.models_dir) {
        let mark = |name: &str| if config.model == name { format!("{name} *") } else { name.to_owned() };
        match locate(&name, &config.models_dir) {
            Ok(Located { path, manifest: Some(manifest), .. }) => rows.push([
                mark(&name),
                manifest.family.to_string(),
                size(&manifest.input),
                manifest.licence.clone().unwrap_or_else(|| "?".to_owned()),
                FileState::of(&path, Some(&manifest)).word().to_owned(),
                manifest.about.unwrap_or_default(),
            ]),
            Ok(Located { manifest: None, .. }) => rows.push(
                [&mark(&name), "?", "?", "?", "present", "No manifest: recognised by its graph when it is loaded."]
                    .map(str::to_owned),
            ),
            Err(error) => {
                eprintln!("sightline: {error}");
                well = false;
            }
        }
    }
    let motion = Model::motion();
    let name = &*motion.info().name;
    let name = if config.model == name { format!("{name} *") } else { name.to_owned() };
    rows.push([&name, "motion", "any", "", "built in", "Whatever moves; needs no file."].map(str::to_owned));
    write_columns(out, &rows)?;
    writeln!(out, "\n*: the configured model. Files are in {}.", config.models_dir.display())?;
    Ok(well)
}

/// The names of the models that can be pulled.
fn with_source(models_dir: &Path) -> Vec<String> {
    let mut names = known_models(models_dir);
    names.retain(|name| {
        let source = |located: Located| located.manifest.is_some_and(|manifest| manifest.source.is_some());
        // One that cannot be read is tried, and said.
        locate(name, models_dir).map_or(true, source)
    });
    names
}

fn write_columns<const N: usize>(out: &mut impl Write, rows: &[[String; N]]) -> io::Result<()> {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    for row in rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect::<Vec<_>>();
        writeln!(out, "{}", cells.join("  ").trim_end())?;
    }
    Ok(())
}

fn size(input: &InputSpec) -> String {
    match input.size {
        InputSize::Fixed { width, height } => format!("{width}×{height}"),
        InputSize::LongerSide { side, .. } => format!("{side} on the longer side"),
        InputSize::Source { at_most, .. } => format!("the picture's own, up to {at_most} on the longer side"),
    }
}

fn info(config: &detect::Config, name: &str, out: &mut impl Write) -> anyhow::Result<bool> {
    if is_motion(name) {
        writeln!(out, "motion: the built-in frame difference. It finds whatever moves, and needs no file.")?;
        return Ok(true);
    }
    let Located { path, manifest, by_digest } = locate(name, &config.models_dir)?;
    let state = FileState::of(&path, manifest.as_ref());
    let mut facts: Vec<(&str, String)> = Vec::new();
    match &manifest {
        Some(manifest) => {
            writeln!(out, "{}: {}", manifest.name, manifest.about.as_deref().unwrap_or("(no description)"))?;
            if by_digest {
                facts.push(("manifest", format!("that of `{}`: the file has the SHA-256 that it pins", manifest.name)));
            }
            tell_manifest(&mut facts, manifest);
        }
        None => writeln!(out, "{name}: no manifest; what follows is read from its graph")?,
    }
    let graph = if state == FileState::Absent {
        Err(format!("absent; {}", fix(name, manifest.as_ref())))
    } else {
        let session = Session::open(&find_library(config.onnxruntime.as_deref()), &path, 1);
        session.map(|session| session.graph().clone()).map_err(|error| error.to_string())
    };
    let mut well = true;
    let bytes = fs::metadata(&path).map_or(0, |file| file.len());
    facts.push(("file", path.display().to_string()));
    facts.push(match state {
        FileState::Absent => ("", "absent".to_owned()),
        FileState::Present => ("", format!("present, {}", megabytes(bytes))),
        FileState::AsPinned => ("", format!("present, {}, the pinned one by its SHA-256", megabytes(bytes))),
        FileState::Altered => {
            ("", format!("present, {}, but not the pinned one: its SHA-256 differs", megabytes(bytes)))
        }
    });
    match graph {
        Ok(graph) => {
            for (key, ports) in [("inputs", &graph.inputs), ("outputs", &graph.outputs)] {
                facts.push((key, ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")));
            }
            if manifest.is_none() {
                match identify(&graph) {
                    Ok(found) => {
                        tell(&mut facts, found.family, &found.labels, &found.input);
                        facts.push(("thresholds", thresholds(found.confidence, found.iou, found.nms)));
                        facts.extend(found.assumed.into_iter().map(|assumed| ("assumed", assumed)));
                    }
                    Err(expected) => {
                        facts.push(("cannot be used", expected));
                        well = false;
                    }
                }
            }
        }
        Err(why) => facts.push(("graph", why)),
    }
    for (key, value) in facts {
        writeln!(out, "  {key:<14}  {value}")?;
    }
    Ok(well)
}

fn tell_manifest(facts: &mut Vec<(&str, String)>, manifest: &Manifest) {
    let labels: Vec<String> = manifest.labels().iter().map(ToString::to_string).collect();
    tell(facts, manifest.family, &labels, &manifest.input);
    facts.push(("thresholds", thresholds(manifest.confidence, manifest.iou, manifest.nms)));
    facts.push(("licence", manifest.licence.clone().unwrap_or_else(|| "not said".to_owned())));
    if let Some(source) = &manifest.source {
        facts.push(("source", source.describe()));
        facts.push(("SHA-256", source.stored_sha256().to_owned()));
    }
}

fn tell(facts: &mut Vec<(&str, String)>, family: Family, labels: &[String], input: &InputSpec) {
    facts.push(("family", family.to_string()));
    facts.push(("input", size(input)));
    let fit = match input.fit {
        Fit::Stretch => "stretched".to_owned(),
        Fit::LetterboxTopLeft => format!("letterboxed, top left, padded with {}", input.pad),
        Fit::LetterboxCentre => format!("letterboxed, centred, padded with {}", input.pad),
    };
    let fit = match input.interpolation {
        Interpolation::Linear => fit,
        Interpolation::Cubic => format!("{fit}, bicubic"),
    };
    let colour = match input.colour {
        Colour::Rgb => "RGB",
        Colour::Bgr => "BGR",
    };
    facts.push(("", format!("{fit}; {colour}, minus {:?}, divided by {:?}", input.mean, input.std)));
    facts.push(("classes", format!("{}: {}", labels.len(), labels.join(", "))));
}

fn thresholds(confidence: f32, iou: f32, nms: NmsMode) -> String {
    let nms = match nms {
        NmsMode::PerClass => "boxes of one class suppress each other",
        NmsMode::Agnostic => "boxes of all classes suppress each other",
        NmsMode::None => "no suppression",
    };
    format!("confidence {confidence}, IoU {iou}; {nms}")
}

#[allow(clippy::cast_precision_loss)] // to one decimal
fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

fn fix(name: &str, manifest: Option<&Manifest>) -> String {
    match manifest.and_then(|manifest| manifest.source.as_ref()) {
        Some(_) => format!("`sightline models pull {name}` fetches it"),
        None => "put the file there".to_owned(),
    }
}

fn is_motion(name: &str) -> bool {
    *Model::motion().info().name == *name
}

fn pull_all(
    config: &detect::Config,
    names: &[String],
    mirror: Option<&Mirror>,
    out: &mut impl Write,
) -> anyhow::Result<bool> {
    let mut well = true;
    for name in names {
        match pull_one(config, name, mirror) {
            Ok(said) => writeln!(out, "{name}: {said}")?,
            Err(error) => {
                eprintln!("sightline: {name}: {error:#}");
                well = false;
            }
        }
    }
    Ok(well)
}

fn pull_one(config: &detect::Config, name: &str, mirror: Option<&Mirror>) -> anyhow::Result<String> {
    if is_motion(name) {
        return Ok("built in, there is nothing to fetch".to_owned());
    }
    let manifest = match locate(name, &config.models_dir) {
        Ok(located) => located.manifest.ok_or_else(|| PullError::NoSource(name.to_owned()))?,
        Err(DetectError::Unusable { reason, .. }) => return Err(anyhow::anyhow!(reason)),
        Err(error) => return Err(error.into()),
    };
    let mut bar = Bar::new(name)?;
    let mut present = false;
    let result = pull(&manifest, &config.models_dir, mirror, &mut |progress| {
        present |= progress == Progress::Present;
        bar.show(progress);
    });
    bar.bar.finish_and_clear();
    let path = result?;
    let bytes = fs::metadata(&path).with_context(|| path.display().to_string())?.len();
    let (how, path) = (if present { "already there" } else { "stored" }, path.display());
    Ok(format!("{how}: {path} ({}, checked by SHA-256)", megabytes(bytes)))
}

/// How far a pull is: a bar on a terminal, else a line for each step.
struct Bar {
    name: String,
    bar: ProgressBar,
    counting: bool,
}

impl Bar {
    fn new(name: &str) -> anyhow::Result<Self> {
        let bar = ProgressBar::new_spinner();
        bar.set_style(ProgressStyle::with_template("{spinner} {prefix}: {msg} ({elapsed})")?);
        bar.set_prefix(name.to_owned());
        bar.enable_steady_tick(Duration::from_millis(100));
        Ok(Self { name: name.to_owned(), bar, counting: false })
    }

    fn show(&mut self, progress: Progress) {
        let words = match progress {
            Progress::Present => return,
            Progress::Bytes { done, total } => return self.count(done, total),
            Progress::Downloading(what) => format!("downloading {what}"),
            Progress::Mirrored(path) => format!("taking {}", path.display()),
            Progress::Rewriting => "rewriting the graph for pictures of every size".to_owned(),
            Progress::Stored => "stored".to_owned(),
        };
        if self.bar.is_hidden() {
            eprintln!("{}: {words}", self.name);
        } else {
            self.bar.set_message(words);
        }
    }

    fn count(&mut self, done: u64, total: Option<u64>) {
        if let Some(total) = total
            && !self.counting
            && let Ok(style) = ProgressStyle::with_template(
                "{spinner} {prefix}: {wide_bar} {bytes}/{total_bytes}, {bytes_per_sec}, {eta} to go",
            )
        {
            self.counting = true;
            self.bar.set_length(total);
            self.bar.set_style(style);
        }
        self.bar.set_position(done);
    }
}
