//! Between our f32 and the number types of a graph's inputs, wherever the graph runs.

use half::f16;

use crate::detect::Layout;
use crate::detect::heads::Graph;

/// Gives a picture's tensor the layout and the number type that the graph takes. Keeps its buffers.
#[derive(Debug, Default)]
pub(super) struct Plug {
    /// The order of the axes, where the graph leaves it open.
    pub layout: Option<Layout>,
    floats: Vec<f32>,
    halves: Vec<f16>,
    bytes: Vec<u8>,
    sizes: Sizes,
}

/// The input's width and height as the graph's second input takes them, once for each picture.
#[derive(Debug, Default)]
struct Sizes {
    long: Vec<i64>,
    int: Vec<i32>,
    float: Vec<f32>,
}

/// The numbers of an input, of the type that the graph takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Numbers<'a> {
    F32(&'a [f32]),
    F16(&'a [f16]),
    U8(&'a [u8]),
    I64(&'a [i64]),
    I32(&'a [i32]),
}

/// What goes into one input of a graph.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Fed<'a> {
    pub name: &'a str,
    pub shape: Vec<usize>,
    pub numbers: Numbers<'a>,
}

impl Plug {
    /// What goes into the graph for `tensor`, the `[n, 3, height, width]` of *n* pictures.
    ///
    /// # Errors
    /// Says what an image input is, when there is none.
    pub fn inputs<'a>(
        &'a mut self,
        graph: &'a Graph,
        tensor: &'a [f32],
        (width, height): (usize, usize),
    ) -> Result<Vec<Fed<'a>>, String> {
        let image = graph.image_input(self.layout)?;
        let nhwc = self.layout.or(image.layout) == Some(Layout::Nhwc);
        let batch = tensor.len() / (3 * width * height).max(1);
        let shape = if nhwc { [batch, height, width, 3] } else { [batch, 3, height, width] };
        let values: &[f32] = if nhwc {
            interleave(tensor, batch, &mut self.floats);
            &self.floats
        } else {
            tensor
        };
        let numbers = match image.port.kind.as_str() {
            "f16" => {
                self.halves.clear();
                self.halves.extend(values.iter().map(|&value| f16::from_f32(value)));
                Numbers::F16(&self.halves)
            }
            "u8" => {
                self.bytes.clear();
                self.bytes.extend(values.iter().map(|&value| byte(value)));
                Numbers::U8(&self.bytes)
            }
            _ => Numbers::F32(values),
        };
        let mut inputs = vec![Fed { name: &image.port.name, shape: shape.into(), numbers }];
        if let Some(port) = graph.size_input() {
            // Asked for in pixels of the input: the way back to the picture is the same for all families.
            let size = [width, height].map(|side| i32::try_from(side).unwrap_or(i32::MAX));
            let float = size.map(|side| side as f32);
            self.sizes =
                Sizes { long: size.map(i64::from).repeat(batch), int: size.repeat(batch), float: float.repeat(batch) };
            let numbers = match port.kind.as_str() {
                "i64" => Numbers::I64(&self.sizes.long),
                "i32" => Numbers::I32(&self.sizes.int),
                _ => Numbers::F32(&self.sizes.float),
            };
            inputs.push(Fed { name: &port.name, shape: vec![batch, 2], numbers });
        }
        Ok(inputs)
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // `as` saturates
fn byte(value: f32) -> u8 {
    value.round_ties_even() as u8
}

/// The three planes of each of `batch` pictures to pixels.
fn interleave(planes: &[f32], batch: usize, out: &mut Vec<f32>) {
    out.clear();
    out.resize(planes.len(), 0.0);
    let area = planes.len() / (3 * batch).max(1);
    let pictures = planes.chunks_exact((3 * area).max(1)).zip(out.chunks_exact_mut((3 * area).max(1)));
    for (planes, pixels) in pictures {
        for (channel, plane) in planes.chunks_exact(area).enumerate() {
            for (pixel, &value) in pixels.chunks_exact_mut(3).zip(plane) {
                if let Some(place) = pixel.get_mut(channel) {
                    *place = value;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Some pictures of as many pixels each.
    fn pictures() -> impl Strategy<Value = Vec<Vec<[u8; 3]>>> {
        let picture = |len: usize| prop::collection::vec(prop::collection::vec(any::<[u8; 3]>(), len), 1..4);
        (0usize..20).prop_flat_map(picture)
    }

    proptest! {
        #[test]
        fn interleaving_puts_each_sample_beside_its_pixels_others(pictures in pictures()) {
            let planes = |picture: &Vec<[u8; 3]>| {
                (0..3).flat_map(|channel| picture.iter().map(move |pixel| f32::from(pixel[channel]))).collect::<Vec<_>>()
            };
            let planes: Vec<f32> = pictures.iter().flat_map(planes).collect();
            let mut out = vec![7.0; 5];
            interleave(&planes, pictures.len(), &mut out);
            let expected: Vec<f32> = pictures.iter().flatten().flatten().map(|&sample| f32::from(sample)).collect();
            prop_assert_eq!(out, expected);
        }

        #[test]
        fn a_sample_that_is_a_byte_stays_that_byte(sample: u8) {
            prop_assert_eq!(byte(f32::from(sample)), sample);
        }
    }

    #[test]
    fn what_is_no_byte_saturates() {
        assert_eq!([-1.0, 255.6, f32::NAN, f32::INFINITY, 0.5, 1.5].map(byte), [0, 255, 0, 255, 0, 2]);
    }
}
