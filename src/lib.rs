//! Sightline: a WebRTC low-latency annotation server.
//!
//! ```text
//!            ┌────────┐   ┌────────┐  newest frame  ┌────────┐
//!  outside ─►│ source │──►│ decode │───────────────►│ detect │ (pool, beside the video)
//!   world    └────────┘   └───┬────┘                └───┬────┘
//!                             │ every frame             │ newest detections
//!                             ▼                         ▼
//!                        ┌──────────┐   ┌────────┐   ┌──────┐
//!                        │ annotate │──►│ encode │──►│ sink │─► viewers
//!                        └──────────┘   └────────┘   └──────┘
//! ```
//!
//! `pipeline` alone knows this order; `server` is the HTTP in front. Data flows one way; the only thing that travels
//! upstream is a keyframe request. The table of who may import whom is held by `tests/architecture.rs`:
//!
//! | room | may import |
//! |---|---|
//! | `media` | nothing of ours |
//! | `peer`, `decode`, `detect`, `annotate`, `encode` | `media` |
//! | `source`, `sink` | `media`, `peer` |
//! | `pipeline` | all of the above |
//! | `server` | `pipeline`, `media`, `peer`, `sink::message` |
//! | `config`, `telemetry`, `main` | anything |

// Pedantic, without what costs more reading than it saves: casts of picture sides and counts to floats are everywhere and
// exact; the futures of a session are large because a session is.
#![cfg_attr(not(test), warn(clippy::pedantic))]
#![allow(
    clippy::cast_precision_loss,
    clippy::doc_markdown,
    clippy::duration_suboptimal_units,
    clippy::large_futures,
    clippy::many_single_char_names,
    clippy::match_wildcard_for_single_variants,
    clippy::missing_fields_in_debug,
    clippy::needless_for_each,
    clippy::similar_names,
    clippy::struct_excessive_bools,
    clippy::trivially_copy_pass_by_ref
)]
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used))]

pub mod annotate;
pub mod config;
pub mod decode;
pub mod detect;
pub mod encode;
pub mod media;
pub mod peer;
pub mod pipeline;
pub mod server;
pub mod sink;
pub mod source;
pub mod telemetry;
