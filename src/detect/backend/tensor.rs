//! Numbers into and out of the ONNX Runtime's tensors.

use half::f16;
use ort::session::SessionInputValue;
use ort::value::{DynValue, TensorElementType, TensorRef};

use super::plug::{Fed, Numbers};

/// An input as a session takes it, without a copy.
pub(super) fn value<'a>(fed: &'a Fed<'a>) -> Result<(&'a str, SessionInputValue<'a>), String> {
    let shape = fed.shape.as_slice();
    let value = match fed.numbers {
        Numbers::F32(values) => TensorRef::from_array_view((shape, values)).map_err(text)?.into(),
        Numbers::F16(values) => TensorRef::from_array_view((shape, values)).map_err(text)?.into(),
        Numbers::U8(values) => TensorRef::from_array_view((shape, values)).map_err(text)?.into(),
        Numbers::I64(values) => TensorRef::from_array_view((shape, values)).map_err(text)?.into(),
        Numbers::I32(values) => TensorRef::from_array_view((shape, values)).map_err(text)?.into(),
    };
    Ok((fed.name, value))
}

#[allow(clippy::needless_pass_by_value)] // `map_err` hands it over
fn text(error: ort::Error) -> String {
    error.to_string()
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
