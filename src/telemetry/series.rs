//! The metrics of streams, kept apart so that they go with their stream.
//!
//! A library that forgets what was not counted for some time does not know what is alive: a camera without a viewer for ten minutes
//! would lose its latency for good, as the handle of it counts on into nothing, while a thousand sessions of ten seconds
//! stay until somebody looks. So whatever has the label `stream` is in a collection of that stream's own, which is dropped as a
//! whole when the stream has been gone for [`KEPT`]. Nothing else is ever forgotten.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusRecorder};

/// From half a millisecond to a second: the stages of a frame at one end, an overload at the other.
const LATENCY_BUCKETS: [f64; 16] =
    [0.0002, 0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.033, 0.05, 0.1, 0.2, 0.5, 1.0];

/// The series of a stream that is gone stay for this long, so that whoever reads them every minute sees their last state.
const KEPT: Duration = Duration::from_secs(90);

/// What a series is of.
const LABEL: &str = "stream";

/// All that is counted, for `/metrics` to show.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    /// What is of no stream.
    common: PrometheusRecorder,
    streams: Mutex<HashMap<String, OfStream>>,
    helps: Mutex<HashMap<String, String>>,
}

struct OfStream {
    recorder: Arc<PrometheusRecorder>,
    /// When the stream was last seen alive, or something asked for one of its series.
    seen: Instant,
}

/// What the text of one metric is made of: its type, and its series.
#[derive(Default)]
struct Family {
    kind: String,
    series: String,
}

impl Metrics {
    /// Nothing is counted yet.
    ///
    /// # Errors
    /// When the buckets are not taken.
    pub(super) fn new() -> Result<Self, String> {
        let common = recorder()?;
        Ok(Self(Arc::new(Inner { common, streams: Mutex::default(), helps: Mutex::default() })))
    }

    /// All series in Prometheus' text format 0.0.4, the metrics by name.
    #[must_use]
    pub fn render(&self) -> String {
        let streams: Vec<_> = self.streams().values().map(|stream| Arc::clone(&stream.recorder)).collect();
        let mut families: BTreeMap<String, Family> = BTreeMap::new();
        collect(&mut families, &self.0.common.handle().render());
        for stream in streams {
            collect(&mut families, &stream.handle().render());
        }
        let helps = lock(&self.0.helps);
        let mut text = String::new();
        for (name, family) in families {
            if let Some(help) = helps.get(&name) {
                // Writing to a string does not fail.
                let _ = writeln!(text, "# HELP {name} {help}");
            }
            let _ = writeln!(text, "# TYPE {name} {}", family.kind);
            text.push_str(&family.series);
            text.push('\n');
        }
        text
    }

    /// Sums up what was measured since the last time, and drops the series of streams that are gone: every few seconds.
    pub fn upkeep(&self, is_alive: impl Fn(&str) -> bool) {
        self.upkeep_at(is_alive, Instant::now());
    }

    fn upkeep_at(&self, is_alive: impl Fn(&str) -> bool, now: Instant) {
        let mut streams = self.streams();
        let gone: Vec<_> = streams
            .extract_if(|name, stream| {
                if is_alive(name) {
                    stream.seen = now;
                }
                now.saturating_duration_since(stream.seen) >= KEPT
            })
            .collect();
        let kept: Vec<_> = streams.values().map(|stream| Arc::clone(&stream.recorder)).collect();
        drop(streams);
        drop(gone);
        self.0.common.handle().run_upkeep();
        kept.iter().for_each(|stream| stream.handle().run_upkeep());
    }

    /// Lets the collection that `key` belongs to do something: the stream's own, where it has one.
    fn with<T>(&self, key: &Key, register: impl FnOnce(&PrometheusRecorder) -> T) -> T {
        let Some(label) = key.labels().find(|label| label.key() == LABEL) else { return register(&self.0.common) };
        let mut streams = self.streams();
        let now = Instant::now();
        let known = match streams.get_mut(label.value()) {
            Some(stream) => {
                stream.seen = now;
                Arc::clone(&stream.recorder)
            }
            None => match recorder() {
                Ok(recorder) => {
                    let recorder = Arc::new(recorder);
                    let stream = OfStream { recorder: Arc::clone(&recorder), seen: now };
                    streams.insert(label.value().to_owned(), stream);
                    recorder
                }
                // It was made once, with the same buckets.
                Err(_) => return register(&self.0.common),
            },
        };
        drop(streams);
        register(&known)
    }

    fn describe(&self, name: &KeyName, help: &SharedString) {
        lock(&self.0.helps).insert(name.as_str().to_owned(), help.to_string());
    }

    fn streams(&self) -> MutexGuard<'_, HashMap<String, OfStream>> {
        lock(&self.0.streams)
    }
}

impl Recorder for Metrics {
    fn describe_counter(&self, name: KeyName, _unit: Option<Unit>, help: SharedString) {
        self.describe(&name, &help);
    }

    fn describe_gauge(&self, name: KeyName, _unit: Option<Unit>, help: SharedString) {
        self.describe(&name, &help);
    }

    fn describe_histogram(&self, name: KeyName, _unit: Option<Unit>, help: SharedString) {
        self.describe(&name, &help);
    }

    fn register_counter(&self, key: &Key, metadata: &Metadata<'_>) -> Counter {
        self.with(key, |recorder| recorder.register_counter(key, metadata))
    }

    fn register_gauge(&self, key: &Key, metadata: &Metadata<'_>) -> Gauge {
        self.with(key, |recorder| recorder.register_gauge(key, metadata))
    }

    fn register_histogram(&self, key: &Key, metadata: &Metadata<'_>) -> Histogram {
        self.with(key, |recorder| recorder.register_histogram(key, metadata))
    }
}

fn recorder() -> Result<PrometheusRecorder, String> {
    let builder =
        PrometheusBuilder::new().set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &LATENCY_BUCKETS);
    Ok(builder.map_err(|error| error.to_string())?.build_recorder())
}

/// Puts the series of one text with those of others: a metric may have one block only.
fn collect(families: &mut BTreeMap<String, Family>, text: &str) {
    let mut current = None;
    for line in text.lines() {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|line| line.split_once(' ')) {
            let family = families.entry(name.to_owned()).or_default();
            kind.clone_into(&mut family.kind);
            current = Some(family);
        } else if let Some(family) = current.as_mut().filter(|_| !line.is_empty() && !line.starts_with('#')) {
            family.series.push_str(line);
            family.series.push('\n');
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use metrics::{counter, describe_counter, gauge, histogram, with_local_recorder};

    use super::*;

    /// Two streams, and something of none.
    fn some() -> Metrics {
        let metrics = Metrics::new().unwrap();
        with_local_recorder(&metrics, || {
            describe_counter!("frames_total", "Frames");
            counter!("sessions_total").increment(7);
            for stream in ["one", "two"] {
                counter!("frames_total", "stream" => stream).increment(3);
                gauge!("rate", "stream" => stream, "way" => "in").set(1.5);
                histogram!("took_seconds", "stream" => stream).record(0.004);
            }
        });
        metrics
    }

    #[test]
    fn a_metric_has_one_block_with_the_series_of_all_streams() {
        let text = some().render();
        for once in ["# HELP frames_total Frames\n", "# TYPE frames_total counter\n", "# TYPE took_seconds histogram\n"]
        {
            assert_eq!(text.matches(once).count(), 1, "{once}{text}");
        }
        for line in [
            "sessions_total 7",
            "frames_total{stream=\"one\"} 3",
            "frames_total{stream=\"two\"} 3",
            "rate{stream=\"one\",way=\"in\"} 1.5",
            "took_seconds_bucket{stream=\"two\",le=\"0.003\"} 0",
            "took_seconds_bucket{stream=\"two\",le=\"0.005\"} 1",
        ] {
            assert!(text.lines().any(|known| known == line), "{line} in\n{text}");
        }
        let blocks: Vec<_> = text.split("\n\n").filter(|block| !block.is_empty()).collect();
        assert_eq!(blocks.len(), 4, "{blocks:#?}");
    }

    #[test]
    fn a_stream_that_is_gone_takes_its_series_along_and_one_that_is_quiet_keeps_them() {
        let metrics = some();
        let quiet = with_local_recorder(&metrics, || counter!("frames_total", "stream" => "two"));
        let (now, is_alive) = (Instant::now(), |name: &str| name == "two");
        metrics.upkeep_at(is_alive, now + KEPT / 2);
        assert!(metrics.render().contains("\"one\""), "whoever reads seldom sees how it ended");
        for hour in 1..4 {
            metrics.upkeep_at(is_alive, now + hour * Duration::from_secs(3600));
        }
        quiet.increment(2);
        let text = metrics.render();
        assert!(!text.contains("\"one\"") && text.contains("frames_total{stream=\"two\"} 5"), "{text}");
        assert!(text.contains("sessions_total 7"), "what is of no stream stays");
    }

    #[test]
    fn a_stream_that_comes_again_is_counted_on_or_anew() {
        let metrics = some();
        let again = || with_local_recorder(&metrics, || counter!("frames_total", "stream" => "one").increment(1));
        again();
        assert!(metrics.render().contains("frames_total{stream=\"one\"} 4"));
        metrics.upkeep_at(|_| false, Instant::now() + 2 * KEPT);
        again();
        assert!(metrics.render().contains("frames_total{stream=\"one\"} 1"));
    }
}
