//! What runs a network: one file per runtime.
//!
//! Belongs here: finding and loading a runtime's library, sessions, and the runtime's types. Does not belong here:
//! what goes into a network and what its answers mean. `ort` is named in this room only.

mod library;
mod onnx;
mod tensor;

pub use library::find_library;
pub use onnx::{RuntimeInfo, Session, runtime};
