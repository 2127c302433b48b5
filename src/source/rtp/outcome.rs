//! What an assembler gives, and what it counts.

use crate::media::AccessUnit;

/// What comes out.
#[derive(Clone, Debug)]
pub enum Assembled {
    /// The next picture. Each one that depends on others comes after all of them.
    AccessUnit(AccessUnit),
    /// Nothing can be shown until an IDR comes: send a PLI.
    KeyframeNeeded(Reason),
}

/// Why a keyframe is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The stream began in the middle.
    Start,
    /// Packets were lost for good, or the sender restarted.
    Loss,
    /// An access unit came whole and cannot be used.
    Broken,
    /// The keyframe that was asked for did not come in time.
    Again,
}

impl Reason {
    /// The name in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Loss => "loss",
            Self::Broken => "broken",
            Self::Again => "again",
        }
    }
}

/// What happened so far, for metrics. All of them only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets pushed, of any kind.
    pub packets: u64,
    /// Packets that were here already.
    pub duplicates: u64,
    /// Packets that came after they had been given up.
    pub late: u64,
    /// Packets far outside the window.
    pub strays: u64,
    /// Packets without a payload (bandwidth probes).
    pub padding: u64,
    /// Packets that never came in time.
    pub lost: u64,
    /// Times that the sender began a new sequence.
    pub restarts: u64,
    /// Access units emitted.
    pub units: u64,
    /// IDRs among them.
    pub idrs: u64,
    /// Access units that lacked a packet or were malformed.
    pub broken: u64,
    /// Whole access units thrown away because no IDR had come yet.
    pub dropped: u64,
    /// Gaps left behind because an IDR stood beyond them.
    pub jumps: u64,
    /// Keyframes asked for.
    pub keyframe_requests: u64,
}
