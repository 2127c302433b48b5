//! Whether a picture says that it is not live.

use sightline::media::{I420Frame, Plane};

/// Whether the middle rows are the banner's dark plate.
pub fn has_banner(picture: &I420Frame) -> bool {
    let (width, height) = (picture.width(), picture.height());
    let middle = &picture.plane(Plane::Y)[height / 2 * width..(height / 2 + 1) * width];
    middle.iter().filter(|&&sample| sample < 45).count() > width / 4
}
