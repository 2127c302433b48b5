//! What a publisher's page tells of its own part of a frame's way, from capture to screen: for metrics and for the API. It is the
//! page's word, and nothing here depends on it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use metrics::{Counter, Histogram, counter, histogram};

use super::latency::LatencyBook;
use crate::sink::message::{BrowserStages, LedgerMessage};

/// The page's stages, in the order of [`of`].
pub(super) const BROWSER_STAGES: [&str; 7] =
    ["browser_encode", "uplink", "downlink", "jitter_buffer", "browser_decode", "display", "unaccounted"];

/// Pages report once a second; what comes sooner than this after a report is not counted.
const LEAST_INTERVAL: Duration = Duration::from_millis(400);

/// The histograms of what is reported about one stream.
pub(super) struct Glass {
    stages: [Histogram; BROWSER_STAGES.len()],
    whole: Histogram,
    ignored: Counter,
    newest: Mutex<Option<Instant>>,
}

impl Glass {
    pub(super) fn new(stream: &Arc<str>) -> Self {
        let label = || stream.to_string();
        Self {
            stages: BROWSER_STAGES
                .map(|stage| histogram!("video_processing_latency_seconds", "stream" => label(), "stage" => stage)),
            whole: histogram!("sightline_glass_to_glass_seconds", "stream" => label()),
            ignored: counter!("sightline_ledger_reports_ignored_total", "stream" => label()),
            newest: Mutex::default(),
        }
    }

    /// Takes a report that came at `now`, and notes it in `book` too.
    pub(super) fn reported(&self, report: &LedgerMessage, book: &LatencyBook, now: Instant) {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        if newest.is_some_and(|newest| now.saturating_duration_since(newest) < LEAST_INTERVAL) {
            self.ignored.increment(1);
            return;
        }
        *newest = Some(now);
        for frame in &report.frames {
            let whole = duration(frame.whole_ms);
            let stages = of(&frame.stages_ms).map(|ms| ms.map(duration));
            self.whole.record(whole);
            for (histogram, took) in self.stages.iter().zip(stages) {
                if let Some(took) = took {
                    histogram.record(took);
                }
            }
            book.presented(whole, stages, now);
        }
    }
}

/// The stages in the order of [`BROWSER_STAGES`].
fn of(stages: &BrowserStages) -> [Option<f64>; BROWSER_STAGES.len()] {
    let BrowserStages { browser_encode, uplink, downlink, jitter_buffer, browser_decode, display, unaccounted } =
        *stages;
    [browser_encode, uplink, downlink, jitter_buffer, browser_decode, display, unaccounted]
}

/// What is unaccounted may have either sign; how much it is counts. The message was checked: it is finite, and short.
fn duration(ms: f64) -> Duration {
    Duration::try_from_secs_f64(ms.abs() / 1000.0).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::message::ClientMessage;

    fn report(text: &str) -> LedgerMessage {
        match ClientMessage::parse(text) {
            Ok(ClientMessage::Ledger(report)) => report,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_a_page_reports_is_in_both_windows_with_each_stage() {
        let start = Instant::now();
        let (glass, book) = (Glass::new(&"cam".into()), LatencyBook::new(start));
        let told = report(
            r#"{"type":"ledger","frames":[{"whole_ms":40,"stages_ms":{"uplink":2,"display":20,"unaccounted":-1}}]}"#,
        );
        glass.reported(&told, &book, start);
        for window in &book.report("cam", start).windows {
            assert!((window.glass_to_glass_ms.unwrap().p50 - 40.0).abs() < 1.3);
            assert_eq!(window.browser_ms.keys().copied().collect::<Vec<_>>(), ["display", "unaccounted", "uplink"]);
            assert!((window.browser_ms["unaccounted"].p50 - 1.0).abs() < 0.04);
            assert_eq!(window.frames, 0, "frames are those that the server sent");
        }
    }

    #[test]
    fn a_page_that_reports_too_often_is_not_listened_to() {
        let start = Instant::now();
        let (glass, book) = (Glass::new(&"cam".into()), LatencyBook::new(start));
        for (after, whole) in [(0, 10), (100, 1000), (399, 1000), (400, 10)] {
            let told = report(&format!(r#"{{"type":"ledger","frames":[{{"whole_ms":{whole}}}]}}"#));
            glass.reported(&told, &book, start + Duration::from_millis(after));
        }
        let seen = book.report("cam", start + Duration::from_millis(500)).windows[0].glass_to_glass_ms.unwrap();
        assert!(seen.max < 11.0, "{seen:?}");
    }
}
