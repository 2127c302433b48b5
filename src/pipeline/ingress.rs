//! What happens to an access unit as it comes: it gets its name and its time, and goes to the viewers of the original.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::original::Original;
use super::status::{ClockSkew, Timeline, VideoStatus};
use crate::media::{AccessUnit, FrameLedger, Mark, RtpTimestamp, SkewMeter, StreamClock};
use crate::peer::packetize;
use crate::sink::{Bitstream, EncodedFrame, Fanout};

/// The frames whose names are remembered: two seconds at 60 frames a second, longer than any decoder and detector holds one.
const REMEMBERED: usize = 128;

/// A frame of the sub-stream further than this from every frame of the main stream is not of the same moment.
const FARTHEST: Duration = Duration::from_secs(1);

/// An access unit with its name.
#[derive(Clone, Debug)]
pub(super) struct Named {
    /// Its `rtp_timestamp` is the output's: what a decoder makes of it can be told apart over epochs.
    pub(super) unit: AccessUnit,
    pub(super) name: Name,
    /// It is on its way to a viewer as it came.
    pub(super) forwarded: bool,
}

/// What a frame is called, and when it came.
#[derive(Clone, Copy, Debug)]
pub(super) struct Name {
    pub(super) id: u64,
    pub(super) rtp_timestamp: RtpTimestamp,
    pub(super) captured: Option<SystemTime>,
    pub(super) arrived: Instant,
    /// It is a picture that refers to none before.
    pub(super) idr: bool,
}

/// The door of a stream.
#[derive(Debug, Default)]
pub(super) struct Ingress(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    clock: StreamClock,
    skew: SkewMeter,
    original: Original,
    next_id: u64,
    names: VecDeque<Name>,
    /// Something is hidden on the pictures: the source's own go to nobody.
    private: bool,
}

/// Why the source's own units are not forwarded where something is hidden.
const PRIVATE: &str = "parts of its pictures are hidden, so it is encoded anew";

impl Ingress {
    /// Names a unit and sends it to the viewers of the original, if it is one that they can take.
    pub(super) fn take(&self, mut unit: AccessUnit, fanout: &Fanout) -> Named {
        let now = Instant::now();
        let mut state = self.lock();
        let rtp_timestamp = state.clock.stamp(unit.rtp_timestamp, unit.last_packet);
        let name = Name {
            id: state.next_id,
            rtp_timestamp,
            captured: unit.captured,
            arrived: unit.last_packet,
            idr: unit.idr,
        };
        state.next_id += 1;
        if state.names.len() == REMEMBERED {
            state.names.pop_front();
        }
        state.names.push_back(name);
        state.skew.put(unit.rtp_timestamp, unit.captured, name.arrived, wall_clock(name.arrived, now));
        // Judged all the same: what it says of itself is told, and it may be shown again later.
        let passed = state.original.pass(&unit, rtp_timestamp.output).filter(|_| !state.private);
        fanout.set_forwards(!state.private && state.original.why_not().is_none());
        let mut forwarded = false;
        if let Some(data) = passed {
            let mut ledger = FrameLedger::arrived(unit.first_packet, unit.last_packet);
            // Nothing is decoded, drawn or encoded: the queue's end is the sending's beginning.
            ledger.mark_at(Mark::Dequeued, now);
            ledger.mark_at(Mark::Encoded, now);
            forwarded = fanout.send(&Arc::new(EncodedFrame {
                bitstream: Bitstream::Source,
                tier: 0,
                payloads: packetize(&data),
                idr: unit.idr,
                frame_id: name.id,
                rtp_timestamp,
                captured: unit.captured,
                ledger,
                boxes: Vec::new(),
                result: None,
            }));
        }
        drop(state);
        unit.rtp_timestamp = rtp_timestamp.output;
        Named { unit, name, forwarded }
    }

    /// Says whether anything is hidden on the pictures. From then on none of the source's own goes out, neither a new one nor
    /// one that was kept.
    pub(super) fn set_private(&self, private: bool, fanout: &Fanout) {
        let mut state = self.lock();
        state.private = private;
        // What is not private is forwarded from the next unit on, if it may.
        if private {
            fanout.set_forwards(false);
            fanout.forget_encodes();
        }
    }

    /// The source is back, or another one.
    pub(super) fn begin_epoch(&self) {
        let mut state = self.lock();
        state.clock.begin_epoch();
        state.skew.begin_epoch();
        state.original.begin_epoch();
    }

    /// A name for a picture of our own making.
    pub(super) fn name_of_our_own(&self, now: Instant) -> Name {
        let mut state = self.lock();
        let id = state.next_id;
        state.next_id += 1;
        Name { id, rtp_timestamp: state.clock.synthesise(now), captured: None, arrived: now, idr: false }
    }

    /// The name of the frame with this output timestamp.
    pub(super) fn name_of(&self, output: u32) -> Option<Name> {
        self.lock().names.iter().rev().find(|name| name.rtp_timestamp.output == output).copied()
    }

    /// The frame that was captured when `other`, a frame of another stream of the same camera, was: by the camera's own clock
    /// where both tell it, else by arrival.
    pub(super) fn nearest(&self, captured: Option<SystemTime>, arrived: Instant) -> Option<Name> {
        let state = self.lock();
        let by_capture = captured.and_then(|captured| {
            let dated = state.names.iter().filter_map(|name| Some((name, apart(name.captured?, captured))));
            dated.min_by_key(|(_, apart)| *apart)
        });
        let by_arrival = || {
            let all = state.names.iter().map(|name| {
                let apart = name.arrived.saturating_duration_since(arrived);
                (name, apart.max(arrived.saturating_duration_since(name.arrived)))
            });
            all.min_by_key(|(_, apart)| *apart)
        };
        let near = |(_, apart): &(&Name, Duration)| *apart <= FARTHEST;
        by_capture.filter(near).or_else(|| by_arrival().filter(near)).map(|(name, _)| *name)
    }

    /// Where the stream is in time, once something came.
    pub(super) fn timeline(&self) -> Option<Timeline> {
        let state = self.lock();
        let newest = state.names.back().copied()?;
        let skew = clock_skew(&state.skew);
        drop(state);
        Some(Timeline {
            rtp_timestamp: newest.rtp_timestamp,
            captured: newest.captured,
            arrived: wall_clock(newest.arrived, Instant::now()),
            skew,
        })
    }

    /// How the source's clock goes, once measured.
    pub(super) fn skew(&self) -> Option<ClockSkew> {
        clock_skew(&self.lock().skew)
    }

    /// What comes in, once something came.
    pub(super) fn video(&self) -> Option<VideoStatus> {
        let state = self.lock();
        let original = &state.original;
        Some(VideoStatus {
            codec: original.codec()?.name(),
            profile: original.info().map(|info| info.profile),
            reorders: original.reorders(),
            forwarded: !state.private && original.why_not().is_none(),
            why_not: if state.private { Some(PRIVATE.to_owned()) } else { original.why_not().map(str::to_owned) },
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn clock_skew(meter: &SkewMeter) -> Option<ClockSkew> {
    meter.skew().map(|skew| ClockSkew {
        offset_ms: skew.offset.map(|offset| offset * 1000.0),
        drift_ppm: skew.drift_ppm,
        measured_s: skew.measured.as_secs_f64(),
    })
}

/// What our wall clock said at `instant`, a moment ago.
pub(super) fn wall_clock(instant: Instant, now: Instant) -> SystemTime {
    let wall = SystemTime::now();
    wall.checked_sub(now.saturating_duration_since(instant)).unwrap_or(wall)
}

fn apart(one: SystemTime, other: SystemTime) -> Duration {
    one.duration_since(other).unwrap_or_else(|error| error.duration())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::media::{KeyframeRequest, VideoCodec};
    use crate::sink::{KeyframeRequests, TIERS};

    fn fanout() -> Fanout {
        let ignored = KeyframeRequest::ignored;
        let encodes = || [(); TIERS].map(|()| ignored());
        Fanout::new(KeyframeRequests { annotated: encodes(), plain: encodes(), source: None })
    }

    fn unit(rtp_timestamp: u32, arrived: Instant, captured: Option<SystemTime>) -> AccessUnit {
        AccessUnit {
            codec: VideoCodec::Jpeg,
            data: Bytes::new(),
            rtp_timestamp,
            idr: true,
            first_packet: arrived,
            last_packet: arrived,
            captured,
        }
    }

    #[test]
    fn a_frame_of_another_stream_is_joined_by_capture_where_both_tell_it_and_by_arrival_else() {
        let (ingress, fanout, start, wall) = (Ingress::default(), fanout(), Instant::now(), SystemTime::now());
        let ms = Duration::from_millis;
        for n in 0..10u32 {
            let at = ms(u64::from(n) * 40);
            // The main stream arrives 200 ms after its capture.
            ingress.take(unit(n * 3600, start + ms(200) + at, Some(wall + at)), &fanout);
        }
        let id = |captured, arrived| ingress.nearest(captured, arrived).map(|name| name.id);
        assert_eq!(id(Some(wall + ms(125)), start), Some(3));
        assert_eq!(id(None, start + ms(200 + 125)), Some(3));
        assert_eq!(id(None, start + ms(3000)), None, "another moment");
    }

    #[test]
    fn names_survive_the_decoder_and_epochs_do_not_mix_them_up() {
        let (ingress, fanout, start) = (Ingress::default(), fanout(), Instant::now());
        let first = ingress.take(unit(5000, start, None), &fanout);
        ingress.begin_epoch();
        let second = ingress.take(unit(5000, start + Duration::from_millis(40), None), &fanout);
        assert_eq!(second.unit.rtp_timestamp, 8600);
        assert_eq!(ingress.name_of(first.unit.rtp_timestamp).unwrap().id, 0);
        let name = ingress.name_of(8600).unwrap();
        assert_eq!((name.id, name.rtp_timestamp.source), (1, 5000));
        assert_eq!(ingress.timeline().unwrap().rtp_timestamp.output, 8600);
        assert!(!ingress.video().unwrap().forwarded);
    }
}
