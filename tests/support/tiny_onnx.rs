//! Small ONNX files whose answer is known: a YOLOX of 64×64 pixels that finds one square in every picture, whatever is in it.

#[path = "onnx.rs"]
#[allow(dead_code)] // other models are other tests' matter
mod onnx;

use onnx::{Kind, Model, Port};

/// The cells of the grids of strides 8, 16 and 32.
const ANCHORS: u8 = 64 + 16 + 4;

/// Where the square is found, in pixels of a picture of 64×64.
#[allow(dead_code)] // not every test looks
pub const SQUARE: [f32; 4] = [16.0, 16.0, 48.0, 48.0];

/// A model of `classes` classes, that gives the square the class 0 and this score.
pub fn yolox(score: f32, classes: u8) -> Vec<u8> {
    let columns = 5 + classes;
    let mut values = vec![0f32; usize::from(ANCHORS) * usize::from(columns)];
    // The first cell of stride 8: centre and size in cells, the size as its logarithm.
    values[..6].copy_from_slice(&[4.0, 4.0, 4f32.ln(), 4f32.ln(), 1.0, score]);
    let shape = [1, ANCHORS, columns].map(i64::from);
    let output = Port::new("output", Kind::F32, &shape);
    Model::new(&[Port::new("images", Kind::F32, &[1, 3, 64, 64])]).constant(output, &shape, &values).bytes()
}
