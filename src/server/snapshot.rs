//! `GET /api/v1/streams/{name}/snapshot.jpg`: the newest picture of a stream, as a wall of cameras shows it.
//!
//! Scaled on the planes, so that RGB exists at the size of the JPEG only; made off the async threads, at most two at a
//! time; kept for a moment, so that many pages cost one encode.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::header;
use axum::response::IntoResponse;
use image::codecs::jpeg::JpegEncoder;
use image::imageops::thumbnail;
use image::{ExtendedColorType, ImageBuffer, Luma};
use tokio::sync::{Mutex as AsyncMutex, Semaphore};
use yuv::{YuvPlanarImage, YuvRange, YuvStandardMatrix, yuv420_to_rgb};

use super::App;
use super::error::ApiError;
use crate::media::{I420Frame, Plane};
use crate::pipeline::PipelineError;

/// How long a picture is as good as a new one.
const FRESH: Duration = Duration::from_millis(200);
/// How many are made at the same time.
const AT_ONCE: usize = 2;
/// How many may wait for that.
const WAITING: usize = 64;
/// From 0 to 100: a thumbnail is looked at, not measured.
const QUALITY: u8 = 80;
/// The narrowest picture that is made, in pixels.
const MIN_WIDTH: usize = 16;

/// Which picture.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Wish {
    pub(super) stream: String,
    pub(super) annotated: bool,
    /// Pixels; `None`, or more than there are: as wide as it is.
    pub(super) width: Option<usize>,
}

/// The picture of one wish, once there is one; whoever holds the lock makes it for all who wait.
type Cell = Arc<AsyncMutex<Option<(Instant, Bytes)>>>;

/// Makes pictures, and keeps each for a moment.
#[derive(Debug)]
pub(super) struct Snapshots {
    cells: Mutex<HashMap<Wish, Cell>>,
    room: Semaphore,
    makers: Arc<Semaphore>,
}

pub(super) async fn show(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    Query(query): Query<HashMap<String, String>>,
) -> Result<impl IntoResponse, ApiError> {
    let annotated = match query.get("video").map(String::as_str) {
        None | Some("annotated") => true,
        Some("original") => false,
        Some(_) => return Err(ApiError::bad_request("video: annotated or original is possible")),
    };
    let width = query.get("width").map(|width| width.parse::<usize>().ok().filter(|width| *width > 0)).map_or(
        Ok(None),
        |width| {
            width.map(Some).ok_or_else(|| ApiError::bad_request("width: a number of pixels is expected, from 16 on"))
        },
    )?;
    let stream = app.pipeline.stream(&name).ok_or_else(|| PipelineError::NoSuchStream(name.clone()))?;
    let wish = Wish { stream: name, annotated, width };
    let take = move || stream.snapshot(annotated).map(|snapshot| snapshot.picture);
    let jpeg = app.snapshots.get(wish, take).await?;
    Ok(([(header::CONTENT_TYPE, "image/jpeg"), (header::CACHE_CONTROL, "no-store")], jpeg))
}

impl Default for Snapshots {
    fn default() -> Self {
        Self {
            cells: Mutex::default(),
            room: Semaphore::new(AT_ONCE + WAITING),
            makers: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }
}

impl Snapshots {
    /// The JPEG of a wish: the one that was made just now, or a new one of what `take` gives.
    ///
    /// `take` runs on a thread that may work; `None` from it is a stream without a picture.
    pub(super) async fn get(
        &self,
        wish: Wish,
        take: impl FnOnce() -> Option<I420Frame> + Send + 'static,
    ) -> Result<Bytes, ApiError> {
        let _place = self.room.try_acquire().map_err(|_| ApiError::busy("many snapshots are being made"))?;
        let width = wish.width;
        let cell = self.cell(wish);
        let mut kept = cell.lock().await;
        if let Some((made, jpeg)) = kept.as_ref().filter(|(made, _)| made.elapsed() < FRESH) {
            tracing::trace!(age = ?made.elapsed(), "snapshot from the cache");
            return Ok(jpeg.clone());
        }
        let permit = Arc::clone(&self.makers).acquire_owned().await;
        let made = Instant::now();
        // The permit goes with the work, which goes on when the client has hung up.
        let work = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            take().map(|picture| jpeg(&picture, width))
        });
        let jpeg = work
            .await
            .map_err(|error| ApiError::fault(format!("the snapshot could not be made: {error}")))?
            .ok_or_else(|| ApiError::not_found("there is no picture of this stream yet"))?
            .map_err(|error| ApiError::fault(format!("the snapshot could not be made: {error}")))?;
        *kept = Some((made, jpeg.clone()));
        Ok(jpeg)
    }

    fn cell(&self, wish: Wish) -> Cell {
        let mut cells = self.cells.lock().unwrap_or_else(PoisonError::into_inner);
        // What nobody uses and nobody would be given any more goes.
        cells.retain(|_, cell| {
            Arc::strong_count(cell) > 1
                || cell.try_lock().is_ok_and(|kept| kept.as_ref().is_some_and(|(made, _)| made.elapsed() < FRESH))
        });
        Arc::clone(cells.entry(wish).or_default())
    }
}

/// A JPEG of a picture, `width` pixels wide or as wide as the picture is.
fn jpeg(picture: &I420Frame, width: Option<usize>) -> Result<Bytes, String> {
    let scaled = match width.map(|width| width.max(MIN_WIDTH)).filter(|width| *width < picture.width()) {
        Some(width) => Some(smaller(picture, width)?),
        None => None,
    };
    let picture = scaled.as_ref().unwrap_or(picture);
    let side = |side: usize| u32::try_from(side).map_err(|error| error.to_string());
    let (width, height, chroma) = (side(picture.width())?, side(picture.height())?, picture.width().div_ceil(2));
    let (y_plane, u_plane, v_plane) = picture.planes();
    let planes = YuvPlanarImage {
        y_plane,
        y_stride: width,
        u_plane,
        u_stride: side(chroma)?,
        v_plane,
        v_stride: side(chroma)?,
        width,
        height,
    };
    let mut rgb = vec![0; picture.width() * picture.height() * 3];
    yuv420_to_rgb(&planes, &mut rgb, width * 3, YuvRange::Limited, YuvStandardMatrix::Bt601)
        .map_err(|error| error.to_string())?;
    let mut jpeg = Vec::with_capacity(rgb.len() / 8);
    JpegEncoder::new_with_quality(&mut jpeg, QUALITY)
        .encode(&rgb, width, height, ExtendedColorType::Rgb8)
        .map_err(|error| error.to_string())?;
    Ok(jpeg.into())
}

/// The picture at a smaller width and the height that goes with it; each sample the mean of those it stands for.
fn smaller(picture: &I420Frame, width: usize) -> Result<I420Frame, String> {
    let height = (picture.height() * width + picture.width() / 2) / picture.width();
    let mut scaled = I420Frame::black(width, height.max(1));
    for plane in [Plane::Y, Plane::U, Plane::V] {
        let side = |side: usize| u32::try_from(side).map_err(|error| error.to_string());
        let ((from_width, from_height), (to_width, to_height)) = (picture.plane_size(plane), scaled.plane_size(plane));
        let from = ImageBuffer::<Luma<u8>, _>::from_raw(side(from_width)?, side(from_height)?, picture.plane(plane))
            .ok_or("a plane is shorter than its size")?;
        let to = thumbnail(&from, side(to_width)?, side(to_height)?);
        scaled.copy_plane_from(plane, &to, to_width);
    }
    Ok(scaled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn wish(width: usize) -> Wish {
        Wish { stream: "cam".to_owned(), annotated: true, width: Some(width) }
    }

    /// Black, with a right half of full red.
    fn half_red(width: usize, height: usize) -> I420Frame {
        let mut picture = I420Frame::black(width, height);
        for (plane, value) in [(Plane::Y, 81), (Plane::U, 90), (Plane::V, 240)] {
            let (plane_width, _) = picture.plane_size(plane);
            let (y, u, v) = picture.planes_mut();
            let samples = match plane {
                Plane::Y => y,
                Plane::U => u,
                Plane::V => v,
            };
            for row in samples.chunks_mut(plane_width) {
                row[plane_width / 2..].fill(value);
            }
        }
        picture
    }

    #[test]
    fn a_jpeg_shows_the_picture_at_the_size_that_was_asked_for() {
        let picture = half_red(640, 360);
        for (width, size) in
            [(None, (640, 360)), (Some(320), (320, 180)), (Some(100), (100, 56)), (Some(9999), (640, 360))]
        {
            let jpeg = jpeg(&picture, width).unwrap();
            let shown = image::load_from_memory(&jpeg).unwrap().into_rgb8();
            assert_eq!(shown.dimensions(), size, "{width:?}");
            let at = |share: f32| shown.get_pixel((size.0 as f32 * share) as u32, size.1 / 2).0;
            assert!(at(0.25).iter().all(|value| *value < 12), "black: {:?}", at(0.25));
            let red = at(0.75);
            assert!(red[0] > 240 && red[1] < 16 && red[2] < 16, "{red:?}");
        }
    }

    #[tokio::test]
    async fn a_wall_of_pages_costs_one_encode() {
        let snapshots = Arc::new(Snapshots::default());
        let taken = Arc::new(AtomicUsize::new(0));
        let asking: Vec<_> = (0..20)
            .map(|_| {
                let (snapshots, taken) = (Arc::clone(&snapshots), Arc::clone(&taken));
                tokio::spawn(async move {
                    let take = move || {
                        taken.fetch_add(1, Ordering::SeqCst);
                        Some(half_red(64, 36))
                    };
                    snapshots.get(wish(32), take).await.unwrap()
                })
            })
            .collect();
        let mut pictures = Vec::new();
        for asked in asking {
            pictures.push(asked.await.unwrap());
        }
        assert!(pictures.windows(2).all(|pair| pair[0] == pair[1]));
        assert_eq!(taken.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn what_nobody_asks_for_is_forgotten() {
        let snapshots = Snapshots::default();
        for width in 0..50 {
            snapshots.get(wish(16 + width), || Some(half_red(64, 36))).await.unwrap();
        }
        tokio::time::sleep(FRESH).await;
        let again = snapshots.get(wish(16), || Some(I420Frame::black(64, 36))).await.unwrap();
        assert_eq!(snapshots.cells.lock().unwrap().len(), 1);
        let shown = image::load_from_memory(&again).unwrap().into_rgb8();
        assert!(shown.pixels().all(|pixel| pixel.0[0] < 12), "a new one was made");
    }

    #[tokio::test]
    async fn a_stream_without_a_picture_is_not_found() {
        let refused = Snapshots::default().get(wish(32), || None).await.unwrap_err();
        assert_eq!(refused, ApiError::not_found("there is no picture of this stream yet"));
    }

    #[tokio::test]
    async fn too_many_are_told_to_come_back() {
        let snapshots = Snapshots::default();
        let _taken = snapshots.room.try_acquire_many((AT_ONCE + WAITING) as u32).unwrap();
        assert!(snapshots.get(wish(32), || None).await.is_err_and(|error| format!("{error:?}").contains("503")));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn every_size_gives_a_picture(width in 1usize..70, height in 1usize..70, wanted in 0usize..200) {
            let jpeg = jpeg(&I420Frame::black(width, height), Some(wanted)).unwrap();
            let shown = image::load_from_memory(&jpeg).unwrap();
            prop_assert!(shown.width() as usize <= width.max(MIN_WIDTH));
        }
    }
}
