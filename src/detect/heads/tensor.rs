//! Output tensors, and what heads ask of their shapes.

/// One output tensor, row-major.
#[derive(Clone, Copy, Debug)]
pub struct Output<'a> {
    /// Its sides.
    pub shape: &'a [i64],
    /// Its values.
    pub data: &'a [f32],
}

/// The sides of an output as unsigned numbers, if its data has that many values.
pub(super) fn sides<const N: usize>(output: &Output<'_>) -> Option<[usize; N]> {
    let mut sides = [0; N];
    if output.shape.len() != N {
        return None;
    }
    for (side, &given) in sides.iter_mut().zip(output.shape) {
        *side = usize::try_from(given).ok()?;
    }
    let len = sides.iter().try_fold(1usize, |len, &side| len.checked_mul(side))?;
    (len == output.data.len()).then_some(sides)
}

/// The lines of `columns` numbers of an output `[count, columns]`, with or without a batch of one in front.
pub(super) fn lines<'a>(output: &Output<'a>, columns: usize) -> Option<std::slice::ChunksExact<'a, f32>> {
    let found = match sides::<3>(output) {
        Some([1, _, found]) => found,
        Some(_) => return None,
        None => sides::<2>(output)?[1],
    };
    (found == columns && columns > 0).then(|| output.data.chunks_exact(columns))
}

/// The numbers of an output of `[count]`, with sides of one before or behind.
pub(super) fn list<'a>(output: &Output<'a>) -> Option<&'a [f32]> {
    let long = output.shape.iter().filter(|&&side| side != 1).count();
    let len = output.shape.iter().try_fold(1usize, |len, &side| len.checked_mul(usize::try_from(side).ok()?))?;
    (long <= 1 && len == output.data.len()).then_some(output.data)
}

/// A class's number that a network gives as a float.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // checked
pub(super) fn class(value: f32) -> Option<usize> {
    /// Whole numbers above this are not exact in an f32.
    const MOST: f32 = 16_777_216.0;
    (-0.5..MOST).contains(&value).then(|| value.round().max(0.0) as usize)
}

/// The logistic function.
pub(super) fn sigmoid(value: f32) -> f32 {
    1.0 / (1.0 + (-value).exp())
}

/// The shapes that came, for an error.
pub(super) fn shapes(outputs: &[Output<'_>]) -> String {
    outputs.iter().map(|output| format!("{:?}", output.shape)).collect::<Vec<_>>().join(", ")
}
