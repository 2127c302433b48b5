//! When a frame passed which door: contiguous stages, so that nothing is hidden between them.

use std::time::{Duration, Instant};

/// The doors of the server's video path, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Mark {
    /// The frame's first packet arrived.
    FirstPacket,
    /// The frame's last packet arrived.
    LastPacket,
    /// The video thread took the access unit.
    Dequeued,
    /// The decoder gave the picture.
    Decoded,
    /// Drawing began.
    RenderStarted,
    /// The boxes stand.
    Drawn,
    /// The encoder gave the access unit.
    Encoded,
    /// The last packet went out.
    Sent,
    /// The first packet went out. It lies inside the stage `send`, and bounds none.
    FirstSent,
}

/// A stage between two neighbouring doors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stage {
    /// The name in messages and metrics.
    pub name: &'static str,
    from: Mark,
    to: Mark,
}

const fn stage(name: &'static str, from: Mark, to: Mark) -> Stage {
    Stage { name, from, to }
}

/// The server's stages in order: each begins where the one before ends.
pub const STAGES: [Stage; 7] = [
    stage("receive", Mark::FirstPacket, Mark::LastPacket),
    stage("queue", Mark::LastPacket, Mark::Dequeued),
    stage("decode", Mark::Dequeued, Mark::Decoded),
    stage("render_wait", Mark::Decoded, Mark::RenderStarted),
    stage("draw", Mark::RenderStarted, Mark::Drawn),
    stage("encode", Mark::Drawn, Mark::Encoded),
    stage("send", Mark::Encoded, Mark::Sent),
];

const MARKS: usize = STAGES.len() + 2;

/// The instants at which one frame passed the doors.
#[derive(Clone, Copy, Debug, Default)]
pub struct FrameLedger {
    marks: [Option<Instant>; MARKS],
}

impl FrameLedger {
    /// A ledger that begins with the frame's arrival.
    #[must_use]
    pub fn arrived(first_packet: Instant, last_packet: Instant) -> Self {
        let mut ledger = Self::default();
        ledger.mark_at(Mark::FirstPacket, first_packet);
        ledger.mark_at(Mark::LastPacket, last_packet);
        ledger
    }

    /// Notes that the frame passes `door` now.
    pub fn mark(&mut self, door: Mark) {
        self.mark_at(door, Instant::now());
    }

    /// Notes that the frame passed `door` at `instant`.
    pub fn mark_at(&mut self, door: Mark, instant: Instant) {
        self.marks[door as usize] = Some(instant);
    }

    /// When the frame passed `door`, if it did.
    #[must_use]
    pub fn at(&self, door: Mark) -> Option<Instant> {
        self.marks[door as usize]
    }

    /// The time between two doors, if the frame passed both.
    #[must_use]
    pub fn between(&self, from: Mark, to: Mark) -> Option<Duration> {
        Some(self.at(to)?.saturating_duration_since(self.at(from)?))
    }

    /// How long a stage took, if the frame has finished it.
    #[must_use]
    pub fn took(&self, stage: &Stage) -> Option<Duration> {
        self.between(stage.from, stage.to)
    }

    /// The stages that the frame has finished, with their durations, in order.
    pub fn stages(&self) -> impl Iterator<Item = (&'static str, Duration)> + '_ {
        STAGES.iter().filter_map(|stage| Some((stage.name, self.took(stage)?)))
    }

    /// What the server added: last packet in to first packet out. What lies between the first and the last packet out is the
    /// network's, as it is on the way in.
    #[must_use]
    pub fn server_added(&self) -> Option<Duration> {
        self.between(Mark::LastPacket, Mark::FirstSent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_are_contiguous() {
        for pair in STAGES.windows(2) {
            assert_eq!(pair[0].to, pair[1].from, "{} → {}", pair[0].name, pair[1].name);
        }
    }

    #[test]
    fn the_stages_add_up_to_the_whole() {
        let start = Instant::now();
        let mut ledger = FrameLedger::default();
        let doors = [
            Mark::FirstPacket,
            Mark::LastPacket,
            Mark::Dequeued,
            Mark::Decoded,
            Mark::RenderStarted,
            Mark::Drawn,
            Mark::Encoded,
            Mark::Sent,
        ];
        for (n, door) in doors.into_iter().enumerate() {
            let n = u64::try_from(n).unwrap();
            ledger.mark_at(door, start + Duration::from_millis(n * n));
        }
        ledger.mark_at(Mark::FirstSent, start + Duration::from_millis(40));
        let sum: Duration = ledger.stages().map(|(_, took)| took).sum();
        assert_eq!(sum, Duration::from_millis(49));
        assert_eq!(ledger.server_added(), Some(Duration::from_millis(39)), "to the first packet out");
    }

    #[test]
    fn an_unfinished_frame_has_only_the_stages_it_passed() {
        let now = Instant::now();
        let names: Vec<_> = FrameLedger::arrived(now, now).stages().map(|(name, _)| name).collect();
        assert_eq!(names, ["receive"]);
    }
}
