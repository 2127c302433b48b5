//! Where the streams stand on a common timeline: what a consumer that fuses cameras needs to know.

use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::registry::Pipeline;
use super::status::{ClockSkew, Timeline};

/// A camera's clock is believed for the timeline when it stands between these around ours at the arrival of a picture: a
/// picture is captured before it arrives, by less than a network and a camera's encoder ever take, give or take what two
/// clocks under NTP are apart.
const BEHIND_LIMIT: Duration = Duration::from_secs(5);
const AHEAD_LIMIT: Duration = Duration::from_millis(500);

/// By which clock a picture is dated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    /// The camera's own, which its sender reports tell (RFC 3550 §6.4.1): the instant of capture.
    Ntp,
    /// Ours: the instant of arrival, which is later than the capture by a delay that is not known.
    Arrival,
}

/// All streams on the common timeline, which is Unix time.
#[derive(Clone, Debug, Serialize)]
pub struct SyncReport {
    /// When this was looked at, by the server's clock, in milliseconds since 1970-01-01 UTC.
    pub now_ms: f64,
    /// Each stream that has had a picture.
    pub streams: Vec<StreamSync>,
    /// Each two of them.
    pub pairs: Vec<PairSync>,
    /// The streams that have had no picture yet.
    pub waiting: Vec<String>,
}

/// One stream on the common timeline.
#[derive(Clone, Debug, Serialize)]
pub struct StreamSync {
    /// Its name.
    pub stream: String,
    /// By which clock its newest picture is dated.
    pub basis: Basis,
    /// Why it is not the camera's own, where that tells the time and is not believed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub doubt: Option<String>,
    /// The newest picture's RTP timestamp as the server sends it: its name in the messages.
    pub rtp_timestamp: u32,
    /// Where that picture stands on the timeline, in milliseconds since 1970-01-01 UTC.
    pub position_ms: f64,
    /// When its last packet arrived, in milliseconds since 1970-01-01 UTC.
    pub arrived_ms: f64,
    /// From its place on the timeline to its arrival: 0 where it is dated by its arrival.
    pub latency_ms: f64,
    /// How long ago it arrived: more than a frame or two, and the stream stands still.
    pub age_ms: f64,
    /// How the source's clock goes against ours, once measured. It is for whoever wants to judge the timeline: nothing here is
    /// corrected by it.
    pub clock: Option<ClockSkew>,
}

/// Two streams on the common timeline.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PairSync {
    /// The first.
    pub a: String,
    /// The second.
    pub b: String,
    /// `ntp` when both are dated by their cameras, else `arrival`, for both.
    pub basis: Basis,
    /// Of two pictures that arrive at one moment, how much later that of `a` was captured, in milliseconds: what to shift one
    /// stream by before joining it to the other. Absent where a capture time is not known, as the delays then are not.
    pub skew_ms: Option<f64>,
    /// How much later the newest picture of `a` is than the newest of `b`, in milliseconds: what a consumer is off by that takes
    /// the newest of each. Streams of different phase differ by up to a frame.
    pub newest_apart_ms: f64,
}

impl Pipeline {
    /// Where all streams stand on a common timeline.
    #[must_use]
    pub fn sync(&self) -> SyncReport {
        let mut seen = Vec::new();
        let mut waiting = Vec::new();
        for place in self.streams.all() {
            match place.stream.timeline() {
                Some(timeline) => seen.push((place.name().to_string(), timeline)),
                None => waiting.push(place.name().to_string()),
            }
        }
        report(&seen, waiting, SystemTime::now())
    }
}

fn report(seen: &[(String, Timeline)], waiting: Vec<String>, now: SystemTime) -> SyncReport {
    let mut pairs = Vec::new();
    for (index, first) in seen.iter().enumerate() {
        pairs.extend(seen.iter().skip(index + 1).map(|second| pair(first, second)));
    }
    let streams = seen.iter().map(|(name, timeline)| stream(name, timeline, now)).collect();
    SyncReport { now_ms: unix_ms(now), streams, pairs, waiting }
}

/// The capture time, if it can be believed; else why not, where there is one.
fn captured(timeline: &Timeline) -> Result<SystemTime, Option<String>> {
    let captured = timeline.captured.ok_or(None)?;
    let ahead_ms = apart_ms(captured, timeline.arrived);
    let limits = -millis(BEHIND_LIMIT)..=millis(AHEAD_LIMIT);
    if limits.contains(&ahead_ms) {
        return Ok(captured);
    }
    let (by, way) = (ahead_ms.abs() / 1000.0, if ahead_ms > 0.0 { "ahead of" } else { "behind" });
    Err(Some(format!("the camera's clock is {by:.1} s {way} the server's; set both by NTP")))
}

fn stream(name: &str, timeline: &Timeline, now: SystemTime) -> StreamSync {
    let (basis, position, doubt) = match captured(timeline) {
        Ok(captured) => (Basis::Ntp, captured, None),
        Err(doubt) => (Basis::Arrival, timeline.arrived, doubt),
    };
    StreamSync {
        stream: name.to_owned(),
        basis,
        doubt,
        rtp_timestamp: timeline.rtp_timestamp.output,
        position_ms: unix_ms(position),
        arrived_ms: unix_ms(timeline.arrived),
        latency_ms: apart_ms(timeline.arrived, position),
        age_ms: apart_ms(now, timeline.arrived),
        clock: timeline.skew,
    }
}

fn pair((a, first): &(String, Timeline), (b, second): &(String, Timeline)) -> PairSync {
    let (basis, skew_ms, newest_apart_ms) = match (captured(first), captured(second)) {
        (Ok(of_a), Ok(of_b)) => {
            let skew = apart_ms(second.arrived, of_b) - apart_ms(first.arrived, of_a);
            (Basis::Ntp, Some(skew), apart_ms(of_a, of_b))
        }
        _ => (Basis::Arrival, None, apart_ms(first.arrived, second.arrived)),
    };
    PairSync { a: a.clone(), b: b.clone(), basis, skew_ms, newest_apart_ms }
}

/// `a` minus `b`.
fn apart_ms(a: SystemTime, b: SystemTime) -> f64 {
    match a.duration_since(b) {
        Ok(later) => millis(later),
        Err(earlier) => -millis(earlier.duration()),
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

fn unix_ms(at: SystemTime) -> f64 {
    apart_ms(at, SystemTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::RtpTimestamp;

    fn at(ms: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000) + Duration::from_millis(ms)
    }

    fn timeline(captured: Option<u64>, arrived: u64) -> Timeline {
        Timeline {
            rtp_timestamp: RtpTimestamp { output: 9000, source: 1 },
            captured: captured.map(at),
            arrived: at(arrived),
            skew: None,
        }
    }

    fn of(streams: &[(&str, Timeline)]) -> SyncReport {
        let seen: Vec<_> = streams.iter().map(|(name, timeline)| ((*name).to_owned(), *timeline)).collect();
        report(&seen, vec!["dark".to_owned()], at(10_100))
    }

    fn near(left: f64, right: f64) -> bool {
        (left - right).abs() < 0.01
    }

    #[test]
    fn two_cameras_that_tell_the_time_are_compared_by_capture() {
        // One camera takes 80 ms to get here, the other 230 ms.
        let sync = of(&[("a", timeline(Some(9920), 10_000)), ("b", timeline(Some(9810), 10_040))]);
        let pair = &sync.pairs[0];
        assert_eq!(pair.basis, Basis::Ntp);
        assert!(near(pair.skew_ms.unwrap(), 150.0), "{pair:?}");
        assert!(near(pair.newest_apart_ms, 110.0), "{pair:?}");
        assert!(near(sync.streams[1].latency_ms, 230.0) && near(sync.streams[1].age_ms, 60.0));
        assert_eq!(sync.waiting, ["dark"]);
    }

    #[test]
    fn without_capture_times_only_the_arrivals_are_compared() {
        let sync = of(&[("a", timeline(None, 10_000)), ("b", timeline(Some(9900), 10_040))]);
        let bases: Vec<_> = sync.streams.iter().map(|stream| stream.basis).collect();
        assert_eq!(bases, [Basis::Arrival, Basis::Ntp]);
        assert_eq!((sync.pairs[0].basis, sync.pairs[0].skew_ms), (Basis::Arrival, None));
        assert!(near(sync.pairs[0].newest_apart_ms, -40.0));
    }

    #[test]
    fn a_clock_that_is_far_off_is_not_believed_and_that_is_said() {
        let sync = of(&[("a", timeline(Some(3_610_000), 10_000)), ("b", timeline(Some(4000), 10_000))]);
        assert_eq!(sync.streams[0].basis, Basis::Arrival);
        assert!(sync.streams[0].doubt.as_ref().unwrap().contains("3600.0 s ahead of"));
        assert!(sync.streams[1].doubt.as_ref().unwrap().contains("6.0 s behind"));
        assert!(near(sync.streams[0].position_ms, sync.streams[0].arrived_ms));
    }

    #[test]
    fn of_n_streams_there_are_all_pairs_once() {
        let one = timeline(None, 10_000);
        let sync = of(&[("a", one), ("b", one), ("c", one), ("d", one)]);
        assert_eq!(sync.pairs.len(), 6);
        assert_eq!((sync.pairs[5].a.as_str(), sync.pairs[5].b.as_str()), ("c", "d"));
    }
}
