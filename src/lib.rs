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
