//! RTP packets to H.264 access units, sans-IO: packets and the time go in, access units and keyframe requests come out.
//!
//! Belongs here: sequence, loss, and RFC 6184. Does not belong here: sockets, clocks, SDP, RTCP (whoever owns the packets
//! sends the requests), and anything about other codecs. Nothing here panics or grows without a bound, whatever the
//! network brings; `fuzz/` holds that.

mod assemble;
mod depacketize;
mod lookahead;
mod outcome;
mod payload;
mod reorder;

pub use assemble::{Assembler, AssemblerConfig};
pub use depacketize::{Broken, Depacketizer};
pub use outcome::{Assembled, Counters, Reason};
pub use payload::{PayloadKind, UnitError};
pub use reorder::{Pushed, ReorderBuffer};
