//! Access units to pictures.
