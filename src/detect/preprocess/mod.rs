//! A picture to the model's input tensor: one path for images and video.
//!
//! The planes are resized first and converted afterwards, so that RGB exists only at the model's size; for an image
//! the planes are its red, green and blue. Belongs here: this arithmetic. Does not belong here: what a model wants,
//! which its manifest says.

mod colour;
mod cubic;
mod geometry;
mod resize;

use super::{Colour, DetectError, InputSpec, Interpolation, Picture};
use crate::media::{I420Frame, Plane};
use colour::Normalise;

pub use cubic::CubicResizer;
pub use geometry::{Geometry, Mapping};
pub use resize::Resizer;

/// The longest side of a still image, in pixels.
const MAX_IMAGE_SIDE: usize = 32_768;

/// A plane to another size, as the model was judged with.
#[derive(Debug)]
enum Scale {
    Linear(Resizer),
    Cubic(CubicResizer),
}

impl Scale {
    fn new(how: Interpolation, source: (usize, usize), target: (usize, usize)) -> Self {
        match how {
            Interpolation::Linear => Self::Linear(Resizer::new(source, target)),
            Interpolation::Cubic => Self::Cubic(CubicResizer::new(source, target)),
        }
    }

    fn resize(&mut self, plane: &[u8], out: &mut [u8]) {
        match self {
            Self::Linear(resizer) => resizer.resize(plane, out),
            Self::Cubic(resizer) => resizer.resize(plane, out),
        }
    }
}

/// The tensor of one picture, `[1, 3, height, width]`, and the way back to its pixels.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// `3 * height * width` values, channel by channel.
    pub tensor: &'a [f32],
    /// In pixels.
    pub width: usize,
    /// In pixels.
    pub height: usize,
    /// From input pixels to source pixels.
    pub mapping: Mapping,
}

/// Makes tensors. Keeps its tables and buffers while the pictures keep their size.
#[derive(Debug)]
pub struct Preprocessor {
    spec: InputSpec,
    plan: Option<Plan>,
    tensor: Vec<f32>,
}

/// Tables and buffers for one picture size and layout.
#[derive(Debug)]
struct Plan {
    source: (usize, usize),
    geometry: Geometry,
    full: Scale,
    /// For the chroma planes of I420.
    half: Option<Scale>,
    /// The planes at the size that they have in the input.
    resized: [Vec<u8>; 3],
    /// The planes of an image at its own size.
    split: [Vec<u8>; 3],
}

impl Preprocessor {
    /// For a model that wants `spec`.
    #[must_use]
    pub fn new(spec: InputSpec) -> Self {
        Self { spec, plan: None, tensor: Vec::new() }
    }

    /// Makes the tensor of `picture`.
    ///
    /// # Errors
    /// [`DetectError::Frame`] when the picture is empty, too large, or its data does not match its size.
    pub fn run(&mut self, picture: Picture<'_>) -> Result<Input<'_>, DetectError> {
        let (width, height) = check(&picture)?;
        let planar = matches!(picture, Picture::I420(_));
        let kept = self.plan.take().filter(|plan| plan.source == (width, height) && plan.half.is_some() == planar);
        let plan = self.plan.insert(match kept {
            Some(plan) => plan,
            None => Plan::new(&self.spec, (width, height), planar, &mut self.tensor),
        });
        match picture {
            Picture::I420(frame) => plan.resize_frame(frame),
            Picture::Rgb { data, .. } => plan.resize_rgb(data),
        }
        plan.fill(&self.spec, planar, &mut self.tensor);
        let Geometry { input: (width, height), mapping, .. } = plan.geometry;
        Ok(Input { tensor: &self.tensor, width, height, mapping })
    }
}

fn check(picture: &Picture<'_>) -> Result<(usize, usize), DetectError> {
    let (width, height) = picture.size();
    if !(1..=MAX_IMAGE_SIDE).contains(&width) || !(1..=MAX_IMAGE_SIDE).contains(&height) {
        return Err(DetectError::Frame(format!("{width}×{height} pixels; 1 to {MAX_IMAGE_SIDE} a side are possible")));
    }
    if let Picture::Rgb { data, .. } = picture
        && data.len() != width * height * 3
    {
        return Err(DetectError::Frame(format!("{} bytes for {width}×{height} pixels of RGB", data.len())));
    }
    Ok((width, height))
}

impl Plan {
    fn new(spec: &InputSpec, source: (usize, usize), planar: bool, tensor: &mut Vec<f32>) -> Self {
        let geometry = Geometry::new(spec, source);
        let (width, height) = geometry.input;
        tensor.clear();
        tensor.resize(3 * width * height, 0.0);
        // The padding is written once: the picture never covers it.
        for (channel, rule) in tensor.chunks_exact_mut((width * height).max(1)).zip(rules(spec)) {
            channel.fill(rule.apply(f32::from(spec.pad)));
        }
        let content = geometry.content;
        let scale = |from| Scale::new(spec.interpolation, from, content);
        let half = planar.then(|| scale((source.0.div_ceil(2), source.1.div_ceil(2))));
        let buffer = |len: usize| [vec![0; len], vec![0; len], vec![0; len]];
        Self {
            source,
            geometry,
            full: scale(source),
            half,
            resized: buffer(content.0 * content.1),
            split: buffer(if planar { 0 } else { source.0 * source.1 }),
        }
    }

    fn resize_frame(&mut self, frame: &I420Frame) {
        let [y, u, v] = &mut self.resized;
        self.full.resize(frame.plane(Plane::Y), y);
        if let Some(half) = &mut self.half {
            half.resize(frame.plane(Plane::U), u);
            half.resize(frame.plane(Plane::V), v);
        }
    }

    fn resize_rgb(&mut self, data: &[u8]) {
        let [red, green, blue] = &mut self.split;
        colour::deinterleave(data, [red, green, blue]);
        for (plane, out) in self.split.iter().zip(&mut self.resized) {
            self.full.resize(plane, out);
        }
    }

    /// Writes the resized planes into their place in the tensor.
    fn fill(&self, spec: &InputSpec, planar: bool, tensor: &mut [f32]) {
        let Geometry { input: (width, height), content, offset, .. } = self.geometry;
        let mut channels = tensor.chunks_exact_mut((width * height).max(1));
        let (Some(first), Some(second), Some(third)) = (channels.next(), channels.next(), channels.next()) else {
            return;
        };
        let [a, b, c] = rules(spec);
        // From here on in the order red, green, blue.
        let (channels, rules) = match spec.colour {
            Colour::Rgb => ([first, second, third], [a, b, c]),
            Colour::Bgr => ([third, second, first], [c, b, a]),
        };
        let rows = |plane: usize| self.resized[plane].chunks_exact(content.0.max(1));
        let [red, green, blue] =
            channels.map(|channel| channel.chunks_exact_mut(width.max(1)).skip(offset.1).take(content.1));
        for (((red, green), blue), ((x, y), z)) in red.zip(green).zip(blue).zip(rows(0).zip(rows(1)).zip(rows(2))) {
            let out = [red, green, blue].map(|row| row.get_mut(offset.0..).unwrap_or_default());
            if planar {
                colour::yuv_to_rgb(x, y, z, rules, out);
            } else {
                for ((samples, rule), out) in [x, y, z].into_iter().zip(rules).zip(out) {
                    colour::normalise(samples, rule, out);
                }
            }
        }
    }
}

fn rules(spec: &InputSpec) -> [Normalise; 3] {
    let [a, b, c] = spec.mean;
    let [x, y, z] = spec.std;
    [Normalise { mean: a, std: x }, Normalise { mean: b, std: y }, Normalise { mean: c, std: z }]
}

#[cfg(test)]
mod tests;
