//! Quantiles.

use serde::Serialize;

/// Quantiles by nearest rank, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Quantiles {
    /// How many there were.
    pub count: usize,
    /// The median.
    pub p50: f64,
    /// Nineteen of twenty are shorter.
    pub p95: f64,
    /// Ninety-nine of a hundred are shorter.
    pub p99: f64,
    /// The longest.
    pub max: f64,
}

impl Quantiles {
    /// Of these; `None` where there are none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let at = |per_cent: usize| sorted.get((sorted.len() * per_cent).div_ceil(100).saturating_sub(1)).copied();
        Some(Self {
            count: sorted.len(),
            p50: rounded(at(50)?),
            p95: rounded(at(95)?),
            p99: rounded(at(99)?),
            max: rounded(at(100)?),
        })
    }
}

/// To a thousandth: what is finer is the machine's noise.
pub fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_nearest_rank() {
        let found = Quantiles::of((1..=200).map(f64::from)).unwrap();
        assert_eq!(found, Quantiles { count: 200, p50: 100.0, p95: 190.0, p99: 198.0, max: 200.0 });
        let one = Quantiles::of([7.0004, f64::NAN]).unwrap();
        assert_eq!(one, Quantiles { count: 1, p50: 7.0, p95: 7.0, p99: 7.0, max: 7.0 });
        assert_eq!(Quantiles::of([]), None);
    }
}
