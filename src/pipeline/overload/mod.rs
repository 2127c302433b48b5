//! Holding the bound on latency when the machine has too much to do: what gives way is the work, and never the time.
//!
//! ```text
//! each frame: how long it waited ─► Meter ─► Ladder ─► Relief: how often the detector looks, how much is encoded
//!                                              │
//!                 Load ◄── where each stream stands ──► the detector's cadence for all, and whether a new session may come
//! ```
//!
//! A frame's *wait* is the time from its last packet in to its encoded picture, less what its thread computed in that time: a
//! large picture is not an overload, a thread that does not get a core is. The order in which things give way is fixed: how
//! often the detector looks (for all streams alike, as they share the cores), then for each stream that still waits the effort
//! of its encode, its size, its frame rate; at the end new sessions are refused. A stream that fills a core by itself costs
//! the others nothing, and gives way alone.
//!
//! Belongs here: measuring and deciding, without a clock or a thread of its own. Does not belong here: carrying it out, which
//! the video thread does.

mod giver;
mod ladder;
mod load;
mod meter;

pub use ladder::Gives;
pub use load::Load;

pub(super) use giver::Giver;
pub(super) use ladder::{DETECTION_STEPS, Relief, relief};
pub(super) use load::Member;

use meter::Meter;

use std::time::Duration;

/// The time that the calling thread has computed so far.
fn computed() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}
