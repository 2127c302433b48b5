//! `sightline detect`: pictures from files to detections on standard output.

use std::collections::HashSet;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, ensure};
use image::{DynamicImage, ImageDecoder, ImageReader, RgbImage};
use serde::Serialize;
use sightline::annotate::Annotator;
use sightline::config::{Config, DetectorOverrides};
use sightline::detect::{Found, Model, ModelInfo, Picture};
use sightline::media::{Detection, I420Frame, KeyPoint, MAX_SIDE, Plane};
use yuv::{
    YuvChromaSubsampling, YuvConversionMode, YuvPlanarImage, YuvPlanarImageMut, YuvRange, YuvStandardMatrix,
    rgb_to_yuv420, yuv420_to_rgb,
};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    detector: DetectorOverrides,
    /// Names of the classes that are reported [default: all].
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    classes: Vec<String>,
    /// Print one JSON object a line for each picture.
    #[arg(long)]
    json: bool,
    /// Folder that annotated pictures are written into, as NAME.annotated.png; made when it is not there.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Pictures: PNG, JPEG, WebP or BMP.
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<PathBuf>,
}

/// Looks at every picture; `false` when one of them failed, which does not keep the others from being looked at.
pub fn run(args: &Args, out: &mut impl Write) -> anyhow::Result<bool> {
    let mut config = Config::load(&args.detector.clone().into())?.detect;
    if !args.classes.is_empty() {
        config.classes.clone_from(&args.classes);
    }
    let model = Model::load(&config)?;
    let info = model.info();
    ensure!(
        !model.per_stream(),
        "the model `{}` compares the pictures of a video and finds nothing in a still one; name another with --model \
         (`sightline models list` shows them)",
        info.name
    );
    check_classes(&config.classes, info)?;
    for assumed in &info.assumed {
        eprintln!("sightline: {}: assumed: {assumed}", info.name);
    }
    let settings = model.settings(&config);
    let mut detector = model.detector()?;
    let mut album = args.out.as_deref().map(Album::open).transpose()?;
    let mut failed = false;
    for path in &args.images {
        let result = Image::open(path).and_then(|image| Ok((detector.detect(image.picture(), &settings)?, image)));
        let saved = match result {
            Ok((found, image)) => {
                if args.json {
                    writeln!(out, "{}", serde_json::to_string(&Line::new(path, &image, info, &found))?)?;
                } else {
                    write_table(out, path, &image, info, &found)?;
                }
                album.as_mut().map_or(Ok(()), |album| album.add(path, &image, &found.items))
            }
            Err(error) => Err(error),
        };
        if let Err(error) = saved {
            eprintln!("sightline: {}: {error:#}", path.display());
            failed = true;
        }
    }
    Ok(!failed)
}

/// A class that the model does not have would silently find nothing.
fn check_classes(wanted: &[String], info: &ModelInfo) -> anyhow::Result<()> {
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

/// A still picture, interleaved RGB.
struct Image {
    data: Vec<u8>,
    width: u32,
    height: u32,
}

impl Image {
    /// Reads a file, by its content and not by its name, and turns it upright as its EXIF data says.
    fn open(path: &Path) -> anyhow::Result<Self> {
        let reader = ImageReader::open(path).context("it cannot be read")?.with_guessed_format()?;
        ensure!(reader.format().is_some(), "it is no picture of a known format (PNG, JPEG, WebP, BMP)");
        let mut decoder = reader.into_decoder()?;
        let orientation = decoder.orientation()?;
        let mut image = DynamicImage::from_decoder(decoder)?;
        image.apply_orientation(orientation);
        let image = image.into_rgb8();
        let (width, height) = image.dimensions();
        Ok(Self { data: image.into_raw(), width, height })
    }

    fn picture(&self) -> Picture<'_> {
        Picture::Rgb { data: &self.data, width: self.width as usize, height: self.height as usize }
    }

    /// The picture with its objects drawn on it, by the same code as in a video.
    fn annotated(&self, annotator: &mut Annotator, objects: &[Detection]) -> anyhow::Result<RgbImage> {
        let (width, height) = (self.width, self.height);
        ensure!(
            width.max(height) as usize <= MAX_SIDE,
            "{width}×{height} pixels are too many to draw on; {MAX_SIDE} a side are possible"
        );
        let (range, matrix) = (YuvRange::Limited, YuvStandardMatrix::Bt601);
        let mut planes = YuvPlanarImageMut::<u8>::alloc(width, height, YuvChromaSubsampling::Yuv420);
        rgb_to_yuv420(&mut planes, &self.data, width * 3, range, matrix, YuvConversionMode::Balanced)?;
        let mut frame = I420Frame::black(width as usize, height as usize);
        frame.copy_plane_from(Plane::Y, planes.y_plane.borrow(), planes.y_stride as usize);
        frame.copy_plane_from(Plane::U, planes.u_plane.borrow(), planes.u_stride as usize);
        frame.copy_plane_from(Plane::V, planes.v_plane.borrow(), planes.v_stride as usize);
        annotator.draw(&mut frame, objects);
        let (y_plane, u_plane, v_plane) = frame.planes();
        let (y_stride, chroma_stride) = (width, width.div_ceil(2));
        let drawn = YuvPlanarImage {
            y_plane,
            y_stride,
            u_plane,
            u_stride: chroma_stride,
            v_plane,
            v_stride: chroma_stride,
            width,
            height,
        };
        let mut rgb = RgbImage::new(width, height);
        yuv420_to_rgb(&drawn, &mut rgb, width * 3, range, matrix)?;
        Ok(rgb)
    }
}

/// The folder of annotated pictures.
struct Album {
    folder: PathBuf,
    annotator: Annotator,
    taken: HashSet<PathBuf>,
}

impl Album {
    fn open(folder: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder).with_context(|| format!("--out {}", folder.display()))?;
        Ok(Self { folder: folder.to_owned(), annotator: Annotator::new(), taken: HashSet::new() })
    }

    fn add(&mut self, source: &Path, image: &Image, objects: &[Detection]) -> anyhow::Result<()> {
        let path = self.free_name(source);
        let drawn = image.annotated(&mut self.annotator, objects)?;
        drawn.save(&path).with_context(|| path.display().to_string())
    }

    /// Pictures of the same name come from two folders: none takes the place of another.
    fn free_name(&mut self, source: &Path) -> PathBuf {
        let stem = source.file_stem().unwrap_or_default().to_string_lossy();
        let name = |number: usize| match number {
            1 => self.folder.join(format!("{stem}.annotated.png")),
            _ => self.folder.join(format!("{stem}-{number}.annotated.png")),
        };
        let path = (1..).map(name).find(|path| !self.taken.contains(path)).unwrap_or_default();
        self.taken.insert(path.clone());
        path
    }
}

/// The line of one picture.
#[derive(Debug, Serialize)]
struct Line<'a> {
    image: String,
    width: u32,
    height: u32,
    model: &'a str,
    detections: Vec<Object<'a>>,
    processing_time_ms: f64,
}

#[derive(Debug, Serialize)]
struct Object<'a> {
    /// Left, top, right, bottom in pixels, to 0.01.
    bbox: [f32; 4],
    /// To 0.0001.
    confidence: f32,
    class_id: u32,
    class_name: &'a str,
    /// `[x, y]` or `[x, y, confidence]`, in pixels, to 0.1.
    #[serde(skip_serializing_if = "Option::is_none")]
    keypoints: Option<Vec<Vec<f32>>>,
    /// A closed polygon of `[x, y]` in pixels, to 0.1.
    #[serde(skip_serializing_if = "Option::is_none")]
    mask: Option<Vec<[f32; 2]>>,
}

impl<'a> Line<'a> {
    fn new(path: &Path, image: &Image, info: &'a ModelInfo, found: &'a Found) -> Self {
        let round = |value: f32, steps: f32| (value * steps).round() / steps;
        let point = |point: &KeyPoint| {
            let confidence = point.confidence.map(|confidence| round(confidence, 10_000.0));
            [round(point.x, 10.0), round(point.y, 10.0)].into_iter().chain(confidence).collect()
        };
        let object = |detection: &'a Detection| {
            let bbox = detection.bbox;
            Object {
                bbox: [bbox.x1, bbox.y1, bbox.x2, bbox.y2].map(|edge| round(edge, 100.0)),
                confidence: round(detection.confidence, 10_000.0),
                class_id: detection.class_id,
                class_name: &detection.class_name,
                keypoints: detection.keypoints.as_ref().map(|points| points.iter().map(point).collect()),
                mask: detection.mask.as_ref().map(|mask| mask.iter().map(|at| at.map(|v| round(v, 10.0))).collect()),
            }
        };
        Self {
            image: path.display().to_string(),
            width: image.width,
            height: image.height,
            model: &info.name,
            detections: found.items.iter().map(object).collect(),
            processing_time_ms: (milliseconds(found) * 100.0).round() / 100.0,
        }
    }
}

fn milliseconds(found: &Found) -> f64 {
    (found.preprocess + found.infer + found.postprocess).as_secs_f64() * 1000.0
}

fn write_table(
    out: &mut impl Write,
    path: &Path,
    image: &Image,
    info: &ModelInfo,
    found: &Found,
) -> std::io::Result<()> {
    let count = match found.items.len() {
        0 => "nothing found".to_owned(),
        1 => "1 object".to_owned(),
        count => format!("{count} objects"),
    };
    let Image { width, height, .. } = image;
    let (path, time) = (path.display(), milliseconds(found));
    writeln!(out, "{path}: {width}×{height}, {}, {time:.1} ms, {count}", info.name)?;
    let widest = found.items.iter().map(|item| item.class_name.chars().count()).max().unwrap_or(0);
    for item in &found.items {
        let (name, score, bbox) = (&item.class_name, item.confidence, item.bbox);
        let [x1, y1, x2, y2] = [bbox.x1, bbox.y1, bbox.x2, bbox.y2];
        writeln!(out, "  {name:widest$}  {score:.3}  {x1:7.1} {y1:7.1} {x2:7.1} {y2:7.1}")?;
    }
    Ok(())
}
