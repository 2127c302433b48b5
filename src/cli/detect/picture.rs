//! Still pictures from files, and annotated ones into files.

use std::path::Path;

use anyhow::{Context, ensure};
use image::{DynamicImage, ImageDecoder, ImageReader, RgbImage};
use sightline::annotate::Annotator;
use sightline::detect::Picture;
use sightline::media::{Detection, I420Frame, MAX_SIDE, Plane};
use yuv::{
    YuvChromaSubsampling, YuvConversionMode, YuvPlanarImage, YuvPlanarImageMut, YuvRange, YuvStandardMatrix,
    rgb_to_yuv420, yuv420_to_rgb,
};

/// A still picture, interleaved RGB.
pub struct Image {
    data: Vec<u8>,
    pub width: u32,
    pub height: u32,
}

impl Image {
    /// Reads a file, by its content and not by its name, and turns it upright as its EXIF data says.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
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

    pub fn picture(&self) -> Picture<'_> {
        Picture::Rgb { data: &self.data, width: self.width as usize, height: self.height as usize }
    }

    /// Writes the picture with its objects drawn on it, by the same code as in a video.
    pub fn save(&self, path: &Path, annotator: &mut Annotator, objects: &[Detection]) -> anyhow::Result<()> {
        let drawn = self.annotated(annotator, objects)?;
        drawn.save(path).with_context(|| path.display().to_string())
    }

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
