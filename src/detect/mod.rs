//! Pictures to detections.
