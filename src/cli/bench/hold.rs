//! What a server is to hold, and the search for the most sessions at which it does.

use std::fmt;
use std::str::FromStr;

use super::load::Step;
use super::numbers::Quantiles;

/// A figure that every session has to keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Figure {
    P50,
    P95,
    P99,
    Max,
    Fps,
    Detections,
    Missing,
}

const FIGURES: [(&str, Figure); 7] = [
    ("p50", Figure::P50),
    ("p95", Figure::P95),
    ("p99", Figure::P99),
    ("max", Figure::Max),
    ("fps", Figure::Fps),
    ("detections", Figure::Detections),
    ("missing", Figure::Missing),
];

impl Figure {
    fn name(self) -> &'static str {
        FIGURES.iter().find(|(_, figure)| *figure == self).map_or("", |(name, _)| *name)
    }

    /// Whether more of it is better.
    fn is_a_rate(self) -> bool {
        matches!(self, Self::Fps | Self::Detections)
    }

    fn unit(self) -> &'static str {
        match self {
            Self::P50 | Self::P95 | Self::P99 | Self::Max => "ms",
            Self::Missing => "%",
            Self::Fps | Self::Detections => "",
        }
    }

    /// Of the session that has it worst.
    fn of(self, step: &Step) -> f64 {
        let latency = |pick: fn(&Quantiles) -> f64| {
            step.most(|session| session.added().map_or(f64::INFINITY, |added| pick(&added)))
        };
        match self {
            Self::P50 => latency(|added| added.p50),
            Self::P95 => latency(|added| added.p95),
            Self::P99 => latency(|added| added.p99),
            Self::Max => latency(|added| added.max),
            Self::Fps => step.least(|session| session.fps),
            Self::Detections => step.least(|session| session.detections),
            Self::Missing => step.most(|session| session.missing) * 100.0,
        }
    }
}

/// One figure and its bound.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Condition {
    figure: Figure,
    bound: f64,
}

/// All that is to hold: `p95=33ms,fps=29,detections=2`.
#[derive(Clone, Debug, PartialEq)]
pub struct Hold(Vec<Condition>);

impl FromStr for Hold {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let conditions = text.split(',').map(|part| {
            let (name, value) = part.split_once('=').ok_or_else(|| format!("`{part}`: NAME=VALUE is expected"))?;
            let known = FIGURES.iter().find(|(known, _)| *known == name.trim());
            let Some((_, figure)) = known else {
                let names: Vec<_> = FIGURES.iter().map(|(name, _)| *name).collect();
                return Err(format!("`{}`: one of {} is expected", name.trim(), names.join(", ")));
            };
            let value = value.trim();
            let number = value.strip_suffix(figure.unit()).unwrap_or(value).trim();
            let bound = number.parse::<f64>().ok().filter(|bound| bound.is_finite() && *bound >= 0.0);
            let unit = figure.unit();
            let bound = bound.ok_or_else(|| format!("`{part}`: a number is expected, as in {name}=30{unit}"))?;
            Ok(Condition { figure: *figure, bound })
        });
        conditions.collect::<Result<Vec<_>, _>>().map(Self)
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.figure.is_a_rate() { '≥' } else { '≤' };
        let space = if self.figure.unit() == "ms" { " " } else { "" };
        write!(f, "{} {sign} {}{space}{}", self.figure.name(), self.bound, self.figure.unit())
    }
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let conditions: Vec<_> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&conditions.join(", "))
    }
}

impl Hold {
    /// What a step does not hold, in words; empty when it holds all.
    pub fn broken_by(&self, step: &Step) -> Vec<String> {
        if let Some(why) = &step.failed {
            return vec![why.clone()];
        }
        let mut broken: Vec<String> = Vec::new();
        for Condition { figure, bound } in &self.0 {
            let found = figure.of(step);
            let holds = if figure.is_a_rate() { found >= *bound } else { found <= *bound };
            if !holds {
                broken.push(format!("{} is {found:.1}{}", figure.name(), figure.unit()));
            }
        }
        broken
    }

    /// The bound of the latency at this quantile, to be drawn.
    pub fn p95(&self) -> Option<f64> {
        self.0.iter().find(|condition| condition.figure == Figure::P95).map(|condition| condition.bound)
    }
}

/// The search: twice as many until it breaks, then between the most that held and the least that did not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Search {
    /// The most sessions that held.
    pub held: usize,
    /// The fewest that did not.
    pub broke: Option<usize>,
}

impl Search {
    /// Takes the outcome of a step in.
    pub fn note(&mut self, sessions: usize, holds: bool) {
        if holds && self.broke.is_none_or(|broke| sessions < broke) {
            self.held = self.held.max(sessions);
        } else if !holds {
            self.broke = Some(self.broke.map_or(sessions, |broke| broke.min(sessions)));
            // On a machine that is not quiet more may hold than did a moment ago: what broke decides.
            self.held = self.held.min(sessions.saturating_sub(1));
        }
    }

    /// How many to try next; `None` when the most is known, or `limit` holds.
    pub fn next(&self, limit: usize) -> Option<usize> {
        match self.broke {
            Some(broke) => (broke > self.held + 1).then(|| self.held.midpoint(broke)),
            None => (self.held < limit).then(|| (self.held * 2).clamp(1, limit)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_target_is_read_with_and_without_its_units() {
        let hold: Hold = "p95=33ms, fps=29,detections=2,missing=1%".parse().unwrap();
        assert_eq!(hold.to_string(), "p95 ≤ 33 ms, fps ≥ 29, detections ≥ 2, missing ≤ 1%");
        assert_eq!("p95=33".parse::<Hold>(), "p95=33 ms".parse());
        assert_eq!(hold.p95(), Some(33.0));
    }

    #[test]
    fn a_target_that_cannot_be_read_is_named() {
        for (text, said) in [
            ("p95", "NAME=VALUE"),
            ("p90=3ms", "one of p50, p95"),
            ("p95=fast", "a number is expected"),
            ("fps=30ms", "a number is expected"),
            ("p95=-1ms", "a number is expected"),
            ("p95=NaN", "a number is expected"),
            ("", "NAME=VALUE"),
        ] {
            let error = text.parse::<Hold>().unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn the_most_that_holds_is_found(most in 0usize..80, limit in 1usize..64) {
            let mut search = Search::default();
            let mut steps = 0;
            while let Some(sessions) = search.next(limit) {
                prop_assert!(sessions >= 1 && sessions <= limit);
                search.note(sessions, sessions <= most);
                steps += 1;
                prop_assert!(steps <= 14);
            }
            prop_assert_eq!(search.held, most.min(limit));
        }

        #[test]
        fn anything_is_read_or_refused(text in "\\PC{0,40}") {
            let _ = text.parse::<Hold>();
        }
    }
}
