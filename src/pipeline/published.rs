//! What of a stream is counted or held elsewhere, and brought to `/metrics` when somebody reads it.
//!
//! It is remembered what was shown: a count that began anew (with another model, with the publisher's next visit) goes on rising
//! there, and what is there no more does not stand at its last value.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use metrics::{Counter, Gauge, counter, gauge};

use super::status::StreamStatus;

/// The share of one stream.
#[derive(Debug, Default)]
pub(super) struct Published(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// By metric and label.
    totals: BTreeMap<(&'static str, String), u64>,
    shown: BTreeSet<Shown>,
}

/// What is there at times only.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Shown {
    /// An encode, by its kind and tier.
    Encode(&'static str, usize),
    /// What is inside of a region.
    Region(String),
    /// The way to a viewer whose bandwidth is known.
    Bandwidth,
}

impl Shown {
    fn gauges(&self, stream: &str) -> Vec<Gauge> {
        let stream = || stream.to_owned();
        match self {
            Self::Encode(video, tier) => ["sightline_encode_bitrate_bps", "sightline_encode_height"]
                .map(|name| gauge!(name, "stream" => stream(), "video" => *video, "tier" => tier.to_string()))
                .into(),
            Self::Region(region) => {
                vec![gauge!("sightline_region_inside", "stream" => stream(), "region" => region.clone())]
            }
            Self::Bandwidth => vec![gauge!("sightline_bandwidth_bps", "stream" => stream())],
        }
    }
}

impl Published {
    /// Brings the metrics of a stream up to date: its state, and what the narrowest way to a viewer carries.
    pub(super) fn update(&self, status: &StreamStatus, bandwidth_bps: Option<f64>) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let stream = || status.name.clone();
        for stage in &status.cascade {
            for (name, count) in
                [("sightline_cascade_looked_total", stage.looked), ("sightline_cascade_passed_total", stage.passed)]
            {
                let counter = counter!(name, "stream" => stream(), "stage" => stage.stage.clone());
                state.total(name, &stage.stage, count, &counter);
            }
        }
        let sampling = &status.sampling.counts;
        for (reason, count) in &sampling.reasons {
            let name = "sightline_sampling_frames_total";
            state.total(name, reason, *count, &counter!(name, "stream" => stream(), "reason" => *reason));
        }
        for (decision, count) in [("sampled", sampling.sampled), ("passed_over", sampling.passed_over)] {
            let name = "sightline_sampling_total";
            state.total(name, decision, count, &counter!(name, "stream" => stream(), "decision" => decision));
        }
        let mut shown = BTreeMap::new();
        for encode in &status.renditions {
            #[allow(clippy::cast_precision_loss)] // pixels
            let height = encode.height as f64;
            shown.insert(Shown::Encode(encode.video, encode.tier), vec![f64::from(encode.bitrate_bps), height]);
        }
        for (region, count) in &status.regions {
            #[allow(clippy::cast_precision_loss)] // a handful
            let inside = count.inside as f64;
            shown.insert(Shown::Region(region.clone()), vec![inside]);
        }
        if let Some(bps) = bandwidth_bps {
            shown.insert(Shown::Bandwidth, vec![bps]);
        }
        for gone in state.shown.iter().filter(|known| !shown.contains_key(*known)) {
            gone.gauges(&status.name).iter().for_each(|gauge| gauge.set(f64::NAN));
        }
        for (what, values) in &shown {
            what.gauges(&status.name).iter().zip(values).for_each(|(gauge, value)| gauge.set(*value));
        }
        state.shown = shown.into_keys().collect();
    }
}

impl State {
    fn total(&mut self, name: &'static str, label: &str, count: u64, counter: &Counter) {
        let before = self.totals.entry((name, label.to_owned())).or_default();
        // One that is less than before began anew.
        counter.increment(count.checked_sub(*before).unwrap_or(count));
        *before = count;
    }
}

#[cfg(test)]
mod tests {
    use metrics::with_local_recorder;
    use metrics_exporter_prometheus::PrometheusBuilder;

    use super::*;

    #[test]
    fn a_count_that_began_anew_goes_on_rising() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let mut state = State::default();
        with_local_recorder(&recorder, || {
            let counter = counter!("looks_total");
            for (count, expected) in [(5, 5), (9, 9), (2, 11), (2, 11), (3, 12)] {
                state.total("looks_total", "", count, &counter);
                let text = recorder.handle().render();
                assert!(text.contains(&format!("\nlooks_total {expected}\n")), "after {count}: {text}");
            }
        });
    }
}
