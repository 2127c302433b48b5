//! `sampling = "motion"`, or `sampling = { mode = "motion", threshold = 0.02 }`.

use std::fmt;
use std::ops::RangeInclusive;

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

/// Which frames the detector looks at. Times are in milliseconds, shares 0 to 1 of the picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(tag = "mode", rename_all = "snake_case")]
pub enum Sampling {
    /// Every one, as far as it keeps up.
    #[default]
    Every,
    /// Every n-th.
    EveryN {
        /// 1 to 1000; 1 is `every`.
        n: u32,
    },
    /// Those of the source's IDR access units: all of them for Motion JPEG.
    Keyframes,
    /// Those in which something moves, and for a while after.
    Motion {
        /// The share of the picture that has to change, after blur.
        threshold: f32,
        /// The least time between two looks.
        min_interval_ms: u64,
        /// It goes on looking for this long after the last motion: what has stopped is still told of.
        cooldown_ms: u64,
        /// A look at least this often though nothing moves; 0: never.
        max_interval_ms: u64,
    },
    /// Those that differ from the one that was looked at last.
    SceneChange {
        /// The share of the picture that has to differ, after blur.
        threshold: f32,
        /// The least time between two looks.
        min_interval_ms: u64,
        /// A look at least this often though nothing differs; 0: never.
        max_interval_ms: u64,
    },
    /// At a rate that follows the activity: what was found and what moves, averaged over time.
    Adaptive {
        /// Frames per second at middling activity, and at the start.
        base_fps: f32,
        /// Frames per second while nothing happens.
        min_fps: f32,
        /// Frames per second at full activity.
        max_fps: f32,
        /// The share of the picture that changes at full motion.
        threshold: f32,
        /// The time over which activity is averaged.
        smoothing_ms: u64,
    },
}

/// What may be written; which of it a mode takes is checked afterwards, so that a key too many is named.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Table {
    mode: Option<String>,
    n: Option<u32>,
    threshold: Option<f32>,
    min_interval_ms: Option<u64>,
    cooldown_ms: Option<u64>,
    max_interval_ms: Option<u64>,
    base_fps: Option<f32>,
    min_fps: Option<f32>,
    max_fps: Option<f32>,
    smoothing_ms: Option<u64>,
}

const MODES: &str = "every, every_n, keyframes, motion, scene_change, adaptive";

impl Sampling {
    /// `motion` with its defaults.
    pub const MOTION: Self =
        Self::Motion { threshold: 0.005, min_interval_ms: 0, cooldown_ms: 2000, max_interval_ms: 10_000 };

    /// A mode by its name, with its defaults.
    fn of(mode: &str) -> Option<Self> {
        Some(match mode {
            "every" => Self::Every,
            "every_n" => Self::EveryN { n: 5 },
            "keyframes" => Self::Keyframes,
            "motion" => Self::MOTION,
            "scene_change" => Self::SceneChange { threshold: 0.3, min_interval_ms: 500, max_interval_ms: 10_000 },
            "adaptive" => {
                Self::Adaptive { base_fps: 5.0, min_fps: 1.0, max_fps: 15.0, threshold: 0.02, smoothing_ms: 2000 }
            }
            _ => return None,
        })
    }

    /// The mode's name.
    #[must_use]
    pub fn mode(&self) -> &'static str {
        match self {
            Self::Every => "every",
            Self::EveryN { .. } => "every_n",
            Self::Keyframes => "keyframes",
            Self::Motion { .. } => "motion",
            Self::SceneChange { .. } => "scene_change",
            Self::Adaptive { .. } => "adaptive",
        }
    }

    /// Checks the ranges.
    ///
    /// # Errors
    /// Names the key, the value and what is possible.
    pub fn validate(&self) -> Result<(), String> {
        self.check().map_err(|error| format!("sampling: {error}"))
    }

    fn check(&self) -> Result<(), String> {
        let share = |threshold: f32| within("threshold", threshold, 0.0001..=1.0);
        let time = |key: &str, ms: u64| {
            if ms > 3_600_000 { Err(format!("{key} = {ms}: from 0 to 3600000 is possible")) } else { Ok(()) }
        };
        match *self {
            Self::Every | Self::Keyframes | Self::EveryN { n: 1..=1000 } => Ok(()),
            Self::EveryN { n } => Err(format!("n = {n}: from 1 to 1000 is possible")),
            Self::Motion { threshold, min_interval_ms, cooldown_ms, max_interval_ms } => {
                share(threshold)?;
                time("min_interval_ms", min_interval_ms)?;
                time("cooldown_ms", cooldown_ms)?;
                longest(min_interval_ms, max_interval_ms)
            }
            Self::SceneChange { threshold, min_interval_ms, max_interval_ms } => {
                share(threshold)?;
                time("min_interval_ms", min_interval_ms)?;
                longest(min_interval_ms, max_interval_ms)
            }
            Self::Adaptive { base_fps, min_fps, max_fps, threshold, smoothing_ms } => {
                for (key, fps) in [("base_fps", base_fps), ("min_fps", min_fps), ("max_fps", max_fps)] {
                    within(key, fps, 0.01..=120.0)?;
                }
                if !(min_fps <= base_fps && base_fps <= max_fps) {
                    return Err(format!(
                        "min_fps = {min_fps}, base_fps = {base_fps}, max_fps = {max_fps}: they have to rise in this order"
                    ));
                }
                share(threshold)?;
                if !(1..=600_000).contains(&smoothing_ms) {
                    return Err(format!("smoothing_ms = {smoothing_ms}: from 1 to 600000 is possible"));
                }
                Ok(())
            }
        }
    }
}

fn within(key: &str, value: f32, range: RangeInclusive<f32>) -> Result<(), String> {
    if range.contains(&value) {
        return Ok(());
    }
    Err(format!("{key} = {value}: from {} to {} is possible", range.start(), range.end()))
}

fn longest(min: u64, max: u64) -> Result<(), String> {
    if max > 3_600_000 || (max != 0 && max < min) {
        return Err(format!("max_interval_ms = {max}: 0, or from min_interval_ms ({min}) to 3600000 is possible"));
    }
    Ok(())
}

fn set<T>(target: &mut T, value: &mut Option<T>) {
    if let Some(value) = value.take() {
        *target = value;
    }
}

impl Table {
    fn read(mut self) -> Result<Sampling, String> {
        let mode = self.mode.take().ok_or_else(|| format!("mode is missing: {MODES}"))?;
        let mut sampling = Sampling::of(&mode).ok_or_else(|| format!("{mode:?} is no mode: {MODES}"))?;
        match &mut sampling {
            Sampling::Every | Sampling::Keyframes => {}
            Sampling::EveryN { n } => set(n, &mut self.n),
            Sampling::Motion { threshold, min_interval_ms, cooldown_ms, max_interval_ms } => {
                set(threshold, &mut self.threshold);
                set(min_interval_ms, &mut self.min_interval_ms);
                set(cooldown_ms, &mut self.cooldown_ms);
                set(max_interval_ms, &mut self.max_interval_ms);
            }
            Sampling::SceneChange { threshold, min_interval_ms, max_interval_ms } => {
                set(threshold, &mut self.threshold);
                set(min_interval_ms, &mut self.min_interval_ms);
                set(max_interval_ms, &mut self.max_interval_ms);
            }
            Sampling::Adaptive { base_fps, min_fps, max_fps, threshold, smoothing_ms } => {
                set(base_fps, &mut self.base_fps);
                set(min_fps, &mut self.min_fps);
                set(max_fps, &mut self.max_fps);
                set(threshold, &mut self.threshold);
                set(smoothing_ms, &mut self.smoothing_ms);
            }
        }
        let left = [
            ("n", self.n.is_some()),
            ("threshold", self.threshold.is_some()),
            ("min_interval_ms", self.min_interval_ms.is_some()),
            ("cooldown_ms", self.cooldown_ms.is_some()),
            ("max_interval_ms", self.max_interval_ms.is_some()),
            ("base_fps", self.base_fps.is_some()),
            ("min_fps", self.min_fps.is_some()),
            ("max_fps", self.max_fps.is_some()),
            ("smoothing_ms", self.smoothing_ms.is_some()),
        ];
        match left.iter().find(|(_, given)| *given) {
            Some((key, _)) => Err(format!("{key}: sampling by {mode:?} has no such parameter")),
            None => Ok(sampling),
        }
    }
}

impl<'de> Deserialize<'de> for Sampling {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Sampling;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "sampling: one of {MODES}, or a table with `mode` and its parameters")
            }

            fn visit_str<E: de::Error>(self, mode: &str) -> Result<Sampling, E> {
                Sampling::of(mode).ok_or_else(|| E::custom(format!("sampling = {mode:?}: {MODES} are possible")))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Sampling, A::Error> {
                let table = Table::deserialize(MapAccessDeserializer::new(map))?;
                table.read().map_err(|error| de::Error::custom(format!("sampling: {error}")))
            }
        }
        deserializer.deserialize_any(Read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Holder {
        sampling: Sampling,
    }

    fn read(text: &str) -> Result<Sampling, String> {
        let holder: Holder = toml::from_str(text).map_err(|error| error.to_string())?;
        holder.sampling.validate().map(|()| holder.sampling)
    }

    #[test]
    fn a_word_is_a_mode_with_its_defaults_and_a_table_changes_some() {
        for mode in MODES.split(", ") {
            assert_eq!(read(&format!("sampling = \"{mode}\"")).unwrap().mode(), mode);
        }
        let changed = read("sampling = { mode = \"motion\", threshold = 0.02, cooldown_ms = 0 }").unwrap();
        let expected =
            Sampling::Motion { threshold: 0.02, cooldown_ms: 0, min_interval_ms: 0, max_interval_ms: 10_000 };
        assert_eq!(changed, expected);
        assert_eq!(read("sampling = { mode = \"every_n\", n = 3 }"), Ok(Sampling::EveryN { n: 3 }));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, hint) in [
            ("sampling = \"sometimes\"", "every_n"),
            ("sampling = 3", "one of every"),
            ("sampling = { n = 3 }", "mode is missing"),
            ("sampling = { mode = \"x\" }", "no mode"),
            ("sampling = { mode = \"motion\", n = 3 }", "n: sampling by \"motion\""),
            ("sampling = { mode = \"motion\", treshold = 0.1 }", "treshold"),
            ("sampling = { mode = \"every_n\", n = 0 }", "n = 0"),
            ("sampling = { mode = \"motion\", threshold = 0.0 }", "threshold = 0"),
            ("sampling = { mode = \"motion\", threshold = nan }", "threshold = NaN"),
            ("sampling = { mode = \"scene_change\", min_interval_ms = 900, max_interval_ms = 800 }", "= 800"),
            ("sampling = { mode = \"adaptive\", min_fps = 9 }", "rise in this order"),
            ("sampling = { mode = \"adaptive\", smoothing_ms = 0 }", "smoothing_ms = 0"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(hint), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(mode in 0usize..6, threshold in 0.001f32..1.0, n in 1u32..1000, ms in 0u64..5000) {
            let sampling = match Sampling::of(MODES.split(", ").nth(mode).unwrap()).unwrap() {
                Sampling::EveryN { .. } => Sampling::EveryN { n },
                Sampling::Motion { .. } => Sampling::Motion { threshold, min_interval_ms: ms, cooldown_ms: 1, max_interval_ms: 0 },
                other => other,
            };
            let toml = toml::to_string(&Holder { sampling }).unwrap();
            prop_assert_eq!(read(&toml), Ok(sampling));
            let json = serde_json::to_string(&sampling).unwrap();
            prop_assert_eq!(serde_json::from_str::<Sampling>(&json).unwrap(), sampling);
        }
    }
}
