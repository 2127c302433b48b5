//! Plots as SVG, by hand: a page that needs nothing from anywhere.

use std::fmt::Write;

/// Pixels of a plot, before it is scaled to the page.
const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 56.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 44.0;

/// Values over the runs. `None`: there is none.
pub struct Series {
    /// For the legend.
    pub name: String,
    /// One for each run.
    pub values: Vec<Option<f64>>,
}

/// A plot over the runs.
pub struct Plot<'a> {
    /// What stands above it.
    pub title: &'a str,
    /// What the values are.
    pub unit: &'a str,
    /// The names of the runs.
    pub runs: &'a [String],
    /// What is drawn.
    pub series: Vec<Series>,
    /// A bound, dashed.
    pub bound: Option<f64>,
    /// Steps of 1, 3, 10, 30 …: for what differs by orders of magnitude.
    pub logarithmic: bool,
}

/// Text with nothing in it that means something to HTML.
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A number as short as it can be read.
pub fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// A colour of the page's palette.
fn colour(n: usize) -> String {
    format!("var(--c{})", n % 7)
}

fn legend(names: impl Iterator<Item = String>) -> String {
    let one = |(n, name): (usize, String)| {
        format!("<span><i style=\"background:{}\"></i>{}</span>", colour(n), escaped(&name))
    };
    let all: Vec<_> = names.enumerate().map(one).collect();
    format!("<p class=legend>{}</p>", all.join(""))
}

/// The axis of the values.
struct Axis {
    ticks: Vec<f64>,
    low: f64,
    high: f64,
    logarithmic: bool,
}

impl Axis {
    fn new(values: impl Iterator<Item = f64>, logarithmic: bool) -> Self {
        let values: Vec<f64> = values.filter(|value| value.is_finite() && (!logarithmic || *value > 0.0)).collect();
        let (low, high) = values.iter().fold((f64::INFINITY, 0.0f64), |(l, h), &value| (l.min(value), h.max(value)));
        if logarithmic {
            let all = (-3..7).flat_map(|ten| [10f64.powi(ten), 3.0 * 10f64.powi(ten)]);
            let ticks: Vec<f64> = all.filter(|tick| *tick > low / 3.4 && *tick < high * 3.4).collect();
            let (Some(&low), Some(&high)) = (ticks.first(), ticks.last()) else {
                return Self::new([].into_iter(), false);
            };
            return Self { ticks, low, high, logarithmic };
        }
        let high = if high > 0.0 { high } else { 1.0 };
        let ten = 10f64.powf((high / 4.0).log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|n| n * ten).into_iter().find(|step| high / step <= 5.0).unwrap_or(high);
        let count = (high / step).ceil() as usize;
        Self { ticks: (0..=count).map(|n| n as f64 * step).collect(), low: 0.0, high: count as f64 * step, logarithmic }
    }

    /// Where a value stands.
    fn y(&self, value: f64) -> f64 {
        let share = if self.logarithmic {
            (value.max(self.low) / self.low).ln() / (self.high / self.low).ln().max(f64::EPSILON)
        } else {
            value / self.high
        };
        HEIGHT - BOTTOM - share.clamp(0.0, 1.0) * (HEIGHT - BOTTOM - TOP)
    }
}

impl Plot<'_> {
    fn x(&self, n: usize) -> f64 {
        LEFT + (WIDTH - LEFT - RIGHT) * (n as f64 + 0.5) / self.runs.len().max(1) as f64
    }

    fn frame(&self, axis: &Axis, drawn: &str) -> String {
        let caption = format!("{} <span class=dim>{}</span>", escaped(self.title), escaped(self.unit));
        let mut svg = format!("<figure><figcaption>{caption}</figcaption>");
        let _ = write!(svg, "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=img aria-label=\"{}\">", escaped(self.title));
        for &tick in &axis.ticks {
            let y = axis.y(tick);
            let _ = write!(svg, "<line class=grid x1={LEFT} x2={} y1={y:.1} y2={y:.1} />", WIDTH - RIGHT);
            let label = if tick >= 10.0 || tick.fract() == 0.0 { format!("{tick:.0}") } else { format!("{tick}") };
            let _ = write!(svg, "<text x={} y={:.1} text-anchor=end>{label}</text>", LEFT - 6.0, y + 4.0);
        }
        for (n, run) in self.runs.iter().enumerate() {
            let (x, y) = (self.x(n), HEIGHT - BOTTOM + 18.0);
            let _ = write!(svg, "<text x={x:.1} y={y:.1} text-anchor=middle>{}</text>", escaped(run));
        }
        let (x, y) = (f64::midpoint(LEFT, WIDTH - RIGHT), HEIGHT - 6.0);
        let _ = write!(svg, "<text class=dim x={x} y={y} text-anchor=middle>sessions</text>");
        if let Some(bound) = self.bound {
            let y = axis.y(bound);
            let _ = write!(svg, "<line class=bound x1={LEFT} x2={} y1={y:.1} y2={y:.1} />", WIDTH - RIGHT);
        }
        svg.push_str(drawn);
        svg.push_str("</svg>");
        svg.push_str(&legend(self.series.iter().map(|series| series.name.clone())));
        svg.push_str("</figure>\n");
        svg
    }

    /// A line for each series.
    pub fn lines(&self) -> String {
        let values = self.series.iter().flat_map(|series| series.values.iter().flatten().copied());
        let axis = Axis::new(values.chain(self.bound), self.logarithmic);
        let mut drawn = String::new();
        for (n, series) in self.series.iter().enumerate() {
            let points: Vec<(f64, f64, f64)> = series
                .values
                .iter()
                .enumerate()
                .filter_map(|(run, value)| value.map(|value| (self.x(run), axis.y(value), value)))
                .collect();
            let path: Vec<_> = points.iter().map(|(x, y, _)| format!("{x:.1},{y:.1}")).collect();
            let _ = write!(drawn, "<polyline points=\"{}\" style=\"stroke:{}\" />", path.join(" "), colour(n));
            for (x, y, value) in points {
                let title = format!("{} {} {}", series.name, short(value), self.unit);
                let _ = write!(
                    drawn,
                    "<circle cx={x:.1} cy={y:.1} r=4 style=\"fill:{}\"><title>{}</title></circle>",
                    colour(n),
                    escaped(&title)
                );
            }
        }
        self.frame(&axis, &drawn)
    }

    /// A bar for each run, the series piled up.
    pub fn bars(&self) -> String {
        let sum = |run: usize| -> f64 { self.series.iter().filter_map(|one| one.values.get(run).copied()?).sum() };
        let axis = Axis::new((0..self.runs.len()).map(sum).chain(self.bound), false);
        let width = ((WIDTH - LEFT - RIGHT) / self.runs.len().max(1) as f64 * 0.6).min(70.0);
        let mut drawn = String::new();
        for run in 0..self.runs.len() {
            let mut below = 0.0;
            for (n, series) in self.series.iter().enumerate() {
                let Some(value) = series.values.get(run).copied().flatten() else { continue };
                let (top, bottom) = (axis.y(below + value), axis.y(below));
                below += value;
                let title = format!("{} {} {}", series.name, short(value), self.unit);
                let _ = write!(
                    drawn,
                    "<rect x={:.1} y={top:.1} width={width:.1} height={:.1} style=\"fill:{}\"><title>{}</title></rect>",
                    self.x(run) - width / 2.0,
                    bottom - top,
                    colour(n),
                    escaped(&title)
                );
            }
        }
        self.frame(&axis, &drawn)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn plot(values: Vec<Vec<Option<f64>>>, runs: &[String], bound: Option<f64>, logarithmic: bool) -> Plot<'_> {
        let series = values.into_iter().map(|values| Series { name: "<one> & \"two\"".into(), values }).collect();
        Plot { title: "a < b", unit: "ms", runs, series, bound, logarithmic }
    }

    proptest! {
        #[test]
        fn any_values_give_a_plot_that_stays_in_its_frame(
            values in prop::collection::vec(prop::collection::vec(prop::option::of(0.0f64..1e6), 0..6), 0..4),
            runs in prop::collection::vec("[a-z0-9]{0,4}", 0..6),
            bound in prop::option::of(0.0f64..1e4),
            logarithmic: bool,
        ) {
            let plot = plot(values, &runs, bound, logarithmic);
            for svg in [plot.lines(), plot.bars()] {
                prop_assert!(!svg.contains("NaN") && !svg.contains("inf") && !svg.contains("<one>"), "{}", svg);
                prop_assert_eq!(svg.matches("<figure>").count(), 1);
                for y in svg.split("y1=").skip(1).map(|rest| rest.split(' ').next().unwrap_or_default()) {
                    let y: f64 = y.parse().unwrap();
                    prop_assert!((TOP - 0.1..=HEIGHT - BOTTOM + 0.1).contains(&y), "{}", y);
                }
            }
        }
    }

    #[test]
    fn a_higher_value_stands_higher() {
        for logarithmic in [false, true] {
            let axis = Axis::new([1.0, 250.0].into_iter(), logarithmic);
            let y: Vec<f64> = [1.0, 3.0, 30.0, 250.0].map(|value| axis.y(value)).to_vec();
            assert!(y.windows(2).all(|pair| pair[1] < pair[0]), "{y:?}");
        }
    }
}
