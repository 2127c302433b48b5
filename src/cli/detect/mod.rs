//! `sightline detect`: pictures and videos from files to detections on standard output.

mod line;
mod mp4;
mod picture;
mod video;

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use sightline::annotate::Annotator;
use sightline::config::{Config, DetectorOverrides};
use sightline::detect::{Detector, Model, ModelInfo, Settings};

use super::inputs::{Input, Kind, Outputs, collect};
use line::Seen;
pub use picture::Image;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    detector: DetectorOverrides,
    /// Names of the classes that are reported [default: all].
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    classes: Vec<String>,
    /// Print one JSON object a line for each picture, and for each picture of a video.
    #[arg(long)]
    json: bool,
    /// Folder that annotated pictures and videos are written into, as NAME.annotated.png and NAME.annotated.mp4; made when it is
    /// not there.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Look at every N-th picture of a video only; between them the last boxes stay.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    every: u32,
    /// Pictures (PNG, JPEG, WebP, BMP), videos (H.264 in MP4 or as it is), and folders of them.
    #[arg(required = true, value_name = "IMAGE|DIR|VIDEO")]
    inputs: Vec<PathBuf>,
}

/// Looks at every picture and video; `false` when one of them failed, which does not keep the others from being looked at.
pub fn run(args: &Args, out: &mut impl Write) -> anyhow::Result<bool> {
    let mut config = Config::load(&args.detector.clone().into())?.detect;
    if !args.classes.is_empty() {
        config.classes.clone_from(&args.classes);
    }
    let (inputs, failures) = collect(&args.inputs, args.out.as_deref());
    for failure in &failures {
        eprintln!("sightline: {failure}");
    }
    let model = Model::load(&config)?;
    let info = model.info();
    ensure!(
        !model.per_stream() || inputs.iter().all(|input| input.kind == Kind::Video),
        "the model `{}` compares the pictures of a video and finds nothing in a still one; name another with --model \
         (`sightline models list` shows them)",
        info.name
    );
    check_classes(&config.classes, info)?;
    for assumed in &info.assumed {
        eprintln!("sightline: {}: assumed: {assumed}", info.name);
    }
    let mut desk = Desk {
        args,
        model: &model,
        settings: model.settings(&config),
        detector: model.detector()?,
        album: args.out.as_deref().map(Album::open).transpose()?,
        bar: progress(&inputs)?,
    };
    let mut well = failures.is_empty();
    for input in &inputs {
        match desk.look(input, out) {
            Ok(fine) => well &= fine,
            // Whoever read our output has read enough.
            Err(error) if error.downcast_ref::<std::io::Error>().is_some_and(is_closed) => return Err(error),
            Err(error) => {
                desk.bar.suspend(|| eprintln!("sightline: {}: {error:#}", input.path.display()));
                well = false;
            }
        }
    }
    desk.bar.finish_and_clear();
    Ok(well)
}

fn is_closed(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::BrokenPipe
}

/// A bar on a terminal, of the pictures or of a video's; nothing where nobody sees it.
fn progress(inputs: &[Input]) -> anyhow::Result<ProgressBar> {
    let videos = inputs.iter().any(|input| input.kind == Kind::Video);
    if !std::io::stderr().is_terminal() || inputs.len() < 2 && !videos {
        return Ok(ProgressBar::hidden());
    }
    let bar = ProgressBar::new(inputs.len() as u64);
    bar.set_style(ProgressStyle::with_template("{prefix} {wide_bar} {pos}/{len}, {per_sec}, {eta} to go")?);
    Ok(bar)
}

/// What looks, and where what it makes goes.
struct Desk<'a> {
    args: &'a Args,
    model: &'a Model,
    settings: Settings,
    detector: Box<dyn Detector>,
    album: Option<Album>,
    bar: ProgressBar,
}

impl Desk<'_> {
    /// Looks at a picture or a video; `false` when some of its pictures failed.
    fn look(&mut self, input: &Input, out: &mut impl Write) -> anyhow::Result<bool> {
        match input.kind {
            Kind::Picture => self.look_at_picture(input, out).map(|()| true),
            Kind::Video => self.look_at_video(input, out),
        }
    }

    fn look_at_picture(&mut self, input: &Input, out: &mut impl Write) -> anyhow::Result<()> {
        let image = Image::open(&input.path)?;
        let found = self.detector.detect(image.picture(), &self.settings)?;
        let seen = Seen {
            path: &input.path,
            width: image.width as usize,
            height: image.height as usize,
            model: self.model.info(),
            found: &found,
            moment: None,
        };
        let json = self.args.json;
        self.bar.suspend(|| if json { seen.write_json(out) } else { seen.write_table(out) })?;
        self.bar.inc(1);
        let Some(album) = &mut self.album else { return Ok(()) };
        let path = album.place(input, "png")?;
        image.save(&path, &mut album.annotator, &found.items)
    }

    fn look_at_video(&mut self, input: &Input, out: &mut impl Write) -> anyhow::Result<bool> {
        if self.model.per_stream() {
            self.detector = self.model.detector()?;
        }
        let annotated = self.album.as_mut().map(|album| album.place(input, "mp4")).transpose()?;
        self.bar.set_position(0);
        self.bar.set_prefix(input.path.file_name().unwrap_or_default().to_string_lossy().into_owned());
        let look = video::Look {
            path: &input.path,
            model: self.model.info(),
            detector: &mut *self.detector,
            settings: &self.settings,
            every: self.args.every as usize,
            json: self.args.json,
            annotated,
            bar: &self.bar,
        };
        Ok(video::look(look, out)? == 0)
    }
}

/// The folder of annotated pictures and videos.
struct Album {
    outputs: Outputs,
    annotator: Annotator,
}

impl Album {
    fn open(folder: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder).with_context(|| format!("--out {}", folder.display()))?;
        Ok(Self { outputs: Outputs::new(folder), annotator: Annotator::new() })
    }

    fn place(&mut self, input: &Input, ending: &str) -> anyhow::Result<PathBuf> {
        let path = self.outputs.free_name(input, ending);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        }
        Ok(path)
    }
}

/// A class that the model does not have would silently find nothing.
pub fn check_classes(wanted: &[String], info: &ModelInfo) -> anyhow::Result<()> {
    const SHOWN: usize = 100;
    for class in wanted {
        if !info.labels.iter().any(|label| **label == **class) {
            let known: Vec<&str> = info.labels.iter().take(SHOWN).map(|label| &**label).collect();
            let more = if info.labels.len() > SHOWN { ", …" } else { "" };
            return Err(anyhow!("the model `{}` has no class {class:?}; it has {}{more}", info.name, known.join(", ")));
        }
    }
    Ok(())
}
