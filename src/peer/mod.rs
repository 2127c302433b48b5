//! The only room that names the WebRTC crates.
