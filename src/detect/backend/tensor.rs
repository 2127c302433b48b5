//! Between our f32 and the number types of a graph's inputs and outputs.

use half::f16;
use ort::session::SessionInputValue;
use ort::value::{DynValue, TensorElementType, TensorRef};

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

impl Plug {
    /// What goes into the session for `tensor`, the `[n, 3, height, width]` of *n* pictures.
    pub fn inputs<'a>(
        &'a mut self,
        graph: &'a Graph,
        tensor: &'a [f32],
        (width, height): (usize, usize),
    ) -> Result<Vec<(&'a str, SessionInputValue<'a>)>, String> {
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
        let picture: SessionInputValue = match image.port.kind.as_str() {
            "f16" => {
                self.halves.clear();
                self.halves.extend(values.iter().map(|&value| f16::from_f32(value)));
                TensorRef::from_array_view((shape, self.halves.as_slice())).map_err(text)?.into()
            }
            "u8" => {
                self.bytes.clear();
                self.bytes.extend(values.iter().map(|&value| byte(value)));
                TensorRef::from_array_view((shape, self.bytes.as_slice())).map_err(text)?.into()
            }
            _ => TensorRef::from_array_view((shape, values)).map_err(text)?.into(),
        };
        let mut inputs = vec![(image.port.name.as_str(), picture)];
        if let Some(port) = graph.size_input() {
            // Asked for in pixels of the input: the way back to the picture is the same for all families.
            let size = [width, height].map(|side| i32::try_from(side).unwrap_or(i32::MAX));
            let float = size.map(|side| side as f32);
            self.sizes =
                Sizes { long: size.map(i64::from).repeat(batch), int: size.repeat(batch), float: float.repeat(batch) };
            let shape = [batch, 2];
            let value: SessionInputValue = match port.kind.as_str() {
                "i64" => TensorRef::from_array_view((shape, self.sizes.long.as_slice())).map_err(text)?.into(),
                "i32" => TensorRef::from_array_view((shape, self.sizes.int.as_slice())).map_err(text)?.into(),
                _ => TensorRef::from_array_view((shape, self.sizes.float.as_slice())).map_err(text)?.into(),
            };
            inputs.push((port.name.as_str(), value));
        }
        Ok(inputs)
    }
}

#[allow(clippy::needless_pass_by_value)] // `map_err` hands it over
fn text(error: ort::Error) -> String {
    error.to_string()
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

/// Writes an output's numbers into `buffer`, unless they are f32 already. Class ids as i64 are exact up to 2^24.
pub(super) fn convert(value: &DynValue, buffer: &mut Vec<f32>) -> Result<(), String> {
    fn fill<T: ort::value::PrimitiveTensorElementType + Copy>(
        value: &DynValue,
        buffer: &mut Vec<f32>,
        change: impl Fn(T) -> f32,
    ) -> Result<(), String> {
        let (_, data) = value.try_extract_tensor::<T>().map_err(text)?;
        buffer.extend(data.iter().map(|&number| change(number)));
        Ok(())
    }
    buffer.clear();
    let Some(&kind) = value.dtype().tensor_type().as_ref() else {
        return Err(format!("a tensor of numbers is expected, it is {}", value.dtype()));
    };
    #[allow(clippy::cast_possible_truncation)] // of what no score and no coordinate needs
    match kind {
        TensorElementType::Float32 => Ok(()),
        TensorElementType::Float16 => fill(value, buffer, f16::to_f32),
        TensorElementType::Float64 => fill(value, buffer, |number: f64| number as f32),
        TensorElementType::Int64 => fill(value, buffer, |number: i64| number as f32),
        TensorElementType::Int32 => fill(value, buffer, |number: i32| number as f32),
        TensorElementType::Uint8 => fill(value, buffer, |number: u8| f32::from(number)),
        other => Err(format!("numbers of f32, f16, f64, i64, i32 or u8 are expected, they are {other}")),
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
