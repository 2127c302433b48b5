//! Logs and metrics: set up once, before anything else.

mod series;

use std::io::{self, IsTerminal};

use serde::Deserialize;
use tracing_subscriber::EnvFilter;

pub use series::Metrics;

/// The form of the log.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl std::str::FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err("`text` or `json` is possible".to_owned()),
        }
    }
}

/// What is logged, and how.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `text` or `json`.
    pub format: Format,
    /// Which events: a level, or directives as in `info,sightline=debug`. The variable `RUST_LOG` wins over it.
    pub filter: String,
}

impl Default for Config {
    fn default() -> Self {
        Self { format: Format::Text, filter: "info".to_owned() }
    }
}

/// The WebRTC stack warns of what is ordinary: candidates that do not answer, alerts and aborts of peers that left. What
/// matters of it reaches us as the state of the connection.
///
/// What the RTSP client says below an error may have a camera's address with its query, where passwords stand too; what a
/// camera's trouble is, its supervisor says.
const NOISE: [&str; 9] = [
    "rtc=error",
    "rtc_ice=error",
    "rtc_dtls=error",
    "rtc_sctp=off",
    "rtc_srtp=error",
    "rtc_interceptor=error",
    "webrtc=error",
    "ort=warn",
    "retina=error",
];

/// Starts logging to standard error.
///
/// # Errors
/// When the filter cannot be read; the message names it.
pub fn init_logs(config: &Config) -> Result<(), String> {
    let directives = std::env::var("RUST_LOG").unwrap_or_else(|_| config.filter.clone());
    let filter = filter(&directives)?;
    // What cannot be written is lost, without a word: the word would go to standard error as well, by a macro that panics
    // when nobody reads it any more, and take the task that logged with it.
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).log_internal_errors(false);
    let result = match config.format {
        Format::Text => builder.with_ansi(io::stderr().is_terminal()).with_target(false).try_init(),
        Format::Json => builder.json().flatten_event(true).try_init(),
    };
    result.map_err(|error| error.to_string())
}

fn filter(directives: &str) -> Result<EnvFilter, String> {
    // The user's own directives come last, and so win.
    let all = NOISE.iter().copied().chain([directives]).collect::<Vec<_>>().join(",");
    EnvFilter::try_new(all).map_err(|error| format!("log filter {directives:?}: {error}"))
}

/// Starts to collect metrics, for `/metrics` to show.
///
/// # Errors
/// When metrics are collected already.
pub fn init_metrics() -> Result<Metrics, String> {
    let metrics = Metrics::new()?;
    metrics::set_global_recorder(metrics.clone()).map_err(|error| error.to_string())?;
    describe();
    Ok(metrics)
}

fn describe() {
    use metrics::{describe_counter, describe_gauge, describe_histogram};
    describe_counter!("video_frames_processed_total", "Frames sent to viewers");
    describe_counter!("video_detections_total", "Objects detected, by class");
    describe_counter!("video_frames_dropped_total", "Frames that were not shown, by reason");
    describe_histogram!("video_processing_latency_seconds", "Time that frames spent in each stage");
    describe_gauge!("video_pipeline_fps", "Frames sent per second, over two seconds");
    describe_histogram!("sightline_glass_to_glass_seconds", "Capture to screen, as the publisher's page reports it");
    describe_counter!(
        "sightline_ledger_reports_ignored_total",
        "Reports of pages that came too soon after the one before"
    );
    describe_histogram!("sightline_server_added_seconds", "Last packet of a frame in to first packet of it out");
    describe_counter!("sightline_frames_in_total", "Access units that came in whole");
    describe_counter!("sightline_frames_decoded_total", "Pictures decoded");
    describe_counter!("sightline_keyframes_out_total", "IDRs encoded");
    describe_counter!("sightline_video_bytes_out_total", "Bytes of encoded video");
    describe_counter!("sightline_sessions_total", "Sessions that began");
    describe_gauge!("sightline_sessions", "Sessions at the moment");
    describe_gauge!("sightline_tasks", "Tasks of the runtime at the moment");
    describe_gauge!(
        "sightline_bitrate_bps",
        "Bits per second of a stream's sessions together, with all overhead above UDP"
    );
    describe_gauge!("sightline_rtt_seconds", "Longest round trip to a peer of the stream, by its receiver reports");
    describe_gauge!("sightline_loss_ratio", "Largest share of our packets that a peer of the stream lost lately");
    describe_gauge!(
        "sightline_bandwidth_bps",
        "What the narrowest way to a viewer of the stream carries, by its feedback"
    );
    describe_gauge!(
        "sightline_link_queue_seconds",
        "Longest time that packets to a viewer of the stream queue on the way"
    );
    describe_gauge!("sightline_encode_bitrate_bps", "What an encode aims at");
    describe_gauge!("sightline_encode_height", "Height of an encode's pictures, in pixels");
    describe_gauge!(
        "video_camera_status",
        "0 disabled, 1 live, 2 connecting, 3 stalled, 4 backoff, 5 unauthorized, 6 unsupported, 7 idle"
    );
    describe_counter!("sightline_camera_restarts_total", "How often a camera's pictures came again after a loss");
    describe_gauge!("sightline_camera_last_frame_seconds", "Time since a camera's last picture");
    describe_counter!("sightline_packets_in_total", "Video packets that came");
    describe_counter!("sightline_packets_lost_total", "Video packets that never came in time");
    describe_counter!("sightline_packets_late_total", "Video packets that came after they were given up");
    describe_counter!("sightline_keyframes_asked_total", "Keyframes asked of the publisher after a loss");
    describe_counter!("sightline_keyframe_requests_in_total", "PLI and FIR of viewers");
    describe_counter!("sightline_messages_dropped_total", "Messages that a datachannel was too slow for");
    describe_counter!("sightline_messages_thinned_total", "Messages that were left out because the link is narrow");
    describe_counter!("sightline_viewer_frames_lost_total", "Frames that viewers were too slow for");
    describe_counter!("sightline_datagrams_lost_total", "Datagrams that reached nobody, by reason");
    describe_counter!("sightline_detector_frames_total", "Frames that the detector looked at");
    describe_counter!("sightline_detector_panics_total", "Panics of the detector");
    describe_gauge!("sightline_detector_busy_seconds", "Time that the detector's threads have worked");
    describe_gauge!("sightline_detector_workers", "Threads of the detector");
    describe_counter!(
        "sightline_detector_batched_frames_total",
        "Frames looked at together with those of other streams"
    );
    describe_gauge!("sightline_remote_up", "Whether the server that runs the model is there");
    describe_counter!("sightline_remote_frames_total", "Runs that the server answered");
    describe_counter!("sightline_remote_failures_total", "Runs that the server failed");
    describe_counter!("sightline_remote_retries_total", "Second attempts at the server");
    describe_counter!("sightline_remote_fallbacks_total", "Frames that the model here looked at in the server's place");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_malformed_filter_is_named() {
        assert!(filter("info,sightline=debug").is_ok());
        assert!(filter("sightline=loud").unwrap_err().contains("sightline=loud"));
    }

    #[test]
    fn what_may_have_a_cameras_address_is_logged_only_where_it_is_asked_for_by_name() {
        use tracing_subscriber::layer::SubscriberExt;
        let warns = |directives: &str| {
            let subscriber = tracing_subscriber::registry().with(filter(directives).unwrap());
            tracing::subscriber::with_default(subscriber, || {
                let retina = tracing::enabled!(target: "retina::client::parse", tracing::Level::WARN);
                (retina, tracing::enabled!(target: "sightline", tracing::Level::WARN))
            })
        };
        assert_eq!(warns("info"), (false, true));
        assert_eq!(warns("debug"), (false, true));
        assert_eq!(warns("info,retina=debug"), (true, true));
    }
}
