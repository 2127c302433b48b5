//! Results to the outside world.
//!
//! Belongs here: what takes encoded pictures and detections out of the house (viewers over WebRTC, publishers), and
//! [`message`], the one JSON schema that all of them speak. Does not belong here: how a result came about, when a
//! picture is encoded, and who may ask for what; those are `pipeline`'s and `server`'s.

pub mod message;
