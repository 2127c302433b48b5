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

/// The input's width and height as the graph's second input takes them.
#[derive(Debug, Default)]
struct Sizes {
    long: [i64; 2],
    int: [i32; 2],
    float: [f32; 2],
}

impl Plug {
    /// What goes into the session for `tensor`, `[1, 3, height, width]`.
    pub fn inputs<'a>(
        &'a mut self,
        graph: &'a Graph,
        tensor: &'a [f32],
        (width, height): (usize, usize),
    ) -> Result<Vec<(&'a str, SessionInputValue<'a>)>, String> {
        let image = graph.image_input(self.layout)?;
        let nhwc = self.layout.or(image.layout) == Some(Layout::Nhwc);
        let shape = if nhwc { [1, height, width, 3] } else { [1, 3, height, width] };
        let values: &[f32] = if nhwc {
            interleave(tensor, &mut self.floats);
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
            self.sizes = Sizes { long: size.map(i64::from), int: size, float };
            let value: SessionInputValue = match port.kind.as_str() {
                "i64" => TensorRef::from_array_view(([1, 2], self.sizes.long.as_slice())).map_err(text)?.into(),
                "i32" => TensorRef::from_array_view(([1, 2], self.sizes.int.as_slice())).map_err(text)?.into(),
                _ => TensorRef::from_array_view(([1, 2], self.sizes.float.as_slice())).map_err(text)?.into(),
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

/// Three planes to pixels.
fn interleave(planes: &[f32], out: &mut Vec<f32>) {
    out.clear();
    out.resize(planes.len(), 0.0);
    let area = planes.len() / 3;
    for (channel, plane) in planes.chunks_exact(area.max(1)).take(3).enumerate() {
        for (pixel, &value) in out.chunks_exact_mut(3).zip(plane) {
            if let Some(place) = pixel.get_mut(channel) {
                *place = value;
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

    proptest! {
        #[test]
        fn interleaving_puts_each_sample_beside_its_pixels_others(pixels in prop::collection::vec(any::<[u8; 3]>(), 0..60)) {
            let planes: Vec<f32> = (0..3).flat_map(|channel| pixels.iter().map(move |pixel| f32::from(pixel[channel]))).collect();
            let mut out = vec![7.0; 5];
            interleave(&planes, &mut out);
            let expected: Vec<f32> = pixels.iter().flatten().map(|&sample| f32::from(sample)).collect();
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
