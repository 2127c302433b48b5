//! Draws detections on I420 planes.
