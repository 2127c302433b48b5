//! Labels as small pictures, kept while they are in use.

use std::fmt::Write as _;
use std::sync::Arc;

use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};

use super::palette::{Yuv, rgb_of};
use crate::media::Detection;

/// How many labels are kept: ten objects, each with the dozen scores that it wavers between. A label is 3 kB at 640×480
/// and 20 kB at 1920×1080.
const CAPACITY: usize = 128;

const WEIGHT: FontWeight = FontWeight::Bold;

/// The letters of a picture: a raster of the font and how many times each of its pixels is repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Font {
    raster: RasterHeight,
    scale: usize,
}

impl Font {
    /// The letters for a picture whose shorter side is `side`: about a 30th of it, and never smaller than can be read.
    pub fn for_picture(side: usize) -> Self {
        let (raster, scale) = match side {
            0..500 => (RasterHeight::Size16, 1),
            500..640 => (RasterHeight::Size20, 1),
            640..900 => (RasterHeight::Size24, 1),
            900..1500 => (RasterHeight::Size32, 1),
            _ => (RasterHeight::Size32, 2),
        };
        Self { raster, scale }
    }

    pub fn height(self) -> usize {
        self.raster.val() * self.scale
    }

    pub fn letter_width(self) -> usize {
        get_raster_width(WEIGHT, self.raster) * self.scale
    }

    /// The space left and right of the text.
    pub fn padding(self) -> usize {
        self.height() / 4
    }
}

/// A label drawn in I420 on a plate of the class's colour; both sides are even.
#[derive(Debug, Default)]
pub struct Label {
    pub width: usize,
    pub height: usize,
    pub y: Vec<u8>,
    pub u: Vec<u8>,
    pub v: Vec<u8>,
}

/// The labels in use, for pictures of one size; the least recently used one makes room.
#[derive(Debug)]
pub struct LabelCache {
    font: Font,
    max_width: usize,
    entries: Vec<Entry>,
    clock: u64,
    text: String,
}

#[derive(Debug)]
struct Entry {
    key: Key,
    used: u64,
    label: Label,
}

#[derive(Clone, Debug, PartialEq)]
struct Key {
    class_id: u32,
    percent: u8,
    track_id: Option<u64>,
    class_name: Arc<str>,
}

impl LabelCache {
    /// An empty cache for labels in `font`, at most `max_width` pixels wide.
    pub fn new(font: Font, max_width: usize) -> Self {
        Self { font, max_width, entries: Vec::new(), clock: 0, text: String::new() }
    }

    /// The label of a detection; `None` if not one letter has room.
    pub fn get(&mut self, detection: &Detection) -> Option<&Label> {
        self.clock += 1;
        let key = Key {
            class_id: detection.class_id,
            percent: percent(detection.confidence),
            track_id: detection.track_id,
            class_name: Arc::clone(&detection.class_name),
        };
        let at = match self.entries.iter().position(|entry| entry.key == key) {
            Some(at) => at,
            None => self.add(key)?,
        };
        let entry = self.entries.get_mut(at)?;
        entry.used = self.clock;
        Some(&entry.label)
    }

    fn add(&mut self, key: Key) -> Option<usize> {
        self.text.clear();
        let _ = write!(self.text, "{} {}%", key.class_name, key.percent); // a String takes everything
        if let Some(track_id) = key.track_id {
            let _ = write!(self.text, " #{track_id}");
        }
        let room = self.max_width.checked_sub(2 * self.font.padding())? / self.font.letter_width();
        if room == 0 {
            return None;
        }
        let at = if self.entries.len() < CAPACITY {
            self.entries.push(Entry { key, used: 0, label: Label::default() });
            self.entries.len() - 1
        } else {
            let (at, entry) = self.entries.iter_mut().enumerate().min_by_key(|(_, entry)| entry.used)?;
            entry.key = key;
            at
        };
        let entry = self.entries.get_mut(at)?;
        let plate = rgb_of(entry.key.class_id);
        entry.label.draw(&self.text, room, self.font, plate.yuv(), plate.ink());
        Some(at)
    }
}

/// A score as whole per cent; what is no number is 0.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // `as` saturates, and makes NaN 0
fn percent(confidence: f32) -> u8 {
    (confidence * 100.0).round().clamp(0.0, 100.0) as u8
}

impl Label {
    /// Draws `text`, cut to `room` letters.
    pub fn draw(&mut self, text: &str, room: usize, font: Font, plate: Yuv, ink: Yuv) {
        let letters = text.chars().count().min(room);
        self.width = (letters * font.letter_width() + 2 * font.padding()).next_multiple_of(2);
        self.height = font.height().next_multiple_of(2);
        refill(&mut self.y, self.width * self.height, plate.y);
        for (n, letter) in text.chars().take(letters).enumerate() {
            let raster = get_raster(letter, WEIGHT, font.raster)
                .or_else(|| get_raster('\u{fffd}', WEIGHT, font.raster))
                .or_else(|| get_raster('?', WEIGHT, font.raster));
            let left = font.padding() + n * font.letter_width();
            for (y, row) in raster.iter().flat_map(noto_sans_mono_bitmap::RasterizedChar::rows).enumerate() {
                for (x, &coverage) in row.iter().enumerate().filter(|(_, coverage)| **coverage > 0) {
                    self.dot(left + x * font.scale, y * font.scale, font.scale, mix(plate.y, ink.y, coverage));
                }
            }
        }
        self.draw_chroma(plate, ink);
    }

    /// A square of `side` pixels.
    fn dot(&mut self, x: usize, y: usize, side: usize, luma: u8) {
        for row in y..y + side {
            let start = row * self.width + x;
            if let Some(samples) = self.y.get_mut(start..start + side) {
                samples.fill(luma);
            }
        }
    }

    /// Gives the letters the ink's colour where they cover most of the four pixels of a chroma sample: a plate's colour
    /// in the letters would make white pink and black brown.
    fn draw_chroma(&mut self, plate: Yuv, ink: Yuv) {
        let (width, height) = (self.width / 2, self.height / 2);
        refill(&mut self.u, width * height, plate.u);
        refill(&mut self.v, width * height, plate.v);
        let (low, high) = (plate.y.min(ink.y), plate.y.max(ink.y));
        let span = u32::from(high - low).max(1);
        for (at, (u, v)) in self.u.iter_mut().zip(&mut self.v).enumerate() {
            let corner = (at / width * 2) * self.width + at % width * 2;
            let four = [corner, corner + 1, corner + self.width, corner + self.width + 1];
            let luma: u32 = four.iter().filter_map(|&at| self.y.get(at)).map(|&y| u32::from(y.abs_diff(plate.y))).sum();
            let coverage = u8::try_from(luma * 255 / (4 * span)).unwrap_or(255);
            *u = mix(plate.u, ink.u, coverage);
            *v = mix(plate.v, ink.v, coverage);
        }
    }
}

/// Fills a buffer that keeps its memory.
fn refill(buffer: &mut Vec<u8>, len: usize, value: u8) {
    buffer.clear();
    buffer.resize(len, value);
}

/// `from` at coverage 0, `to` at 255.
fn mix(from: u8, to: u8, coverage: u8) -> u8 {
    let (from, to, coverage) = (u32::from(from), u32::from(to), u32::from(coverage));
    u8::try_from((from * (255 - coverage) + to * coverage + 127) / 255).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::BBox;

    fn detection(confidence: f32, track_id: Option<u64>, name: &str) -> Detection {
        Detection {
            bbox: BBox::default(),
            confidence,
            class_id: 0,
            class_name: name.into(),
            track_id,
            ..Detection::default()
        }
    }

    fn cache() -> LabelCache {
        LabelCache::new(Font::for_picture(480), 640)
    }

    #[test]
    fn a_label_in_use_is_drawn_once() {
        let mut cache = cache();
        let first = cache.get(&detection(0.871, Some(3), "person")).unwrap().y.as_ptr();
        let again = cache.get(&detection(0.869, Some(3), "person")).unwrap().y.as_ptr();
        assert_eq!(first, again, "the same text");
        assert_ne!(first, cache.get(&detection(0.88, Some(3), "person")).unwrap().y.as_ptr());
        assert_eq!(cache.entries.len(), 2);
    }

    #[test]
    fn the_least_recently_used_label_makes_room() {
        let mut cache = cache();
        for id in 0..1000 {
            cache.get(&detection(0.5, Some(id), "car")).unwrap();
            cache.get(&detection(0.9, None, "person")).unwrap();
        }
        assert_eq!(cache.entries.len(), CAPACITY);
        assert!(cache.entries.iter().any(|entry| &*entry.key.class_name == "person"));
        assert!(cache.entries.iter().all(|entry| entry.key.track_id.is_none_or(|id| id > 800)));
    }

    #[test]
    fn the_letters_are_those_of_the_text_and_leave_the_plate_around_them() {
        let mut cache = cache();
        let one = cache.get(&detection(0.5, None, "a")).unwrap();
        let (width, height, plate) = (one.width, one.height, rgb_of(0).yuv());
        let a = one.y.clone();
        assert!(a[..width].iter().all(|&y| y == plate.y), "the top row is plate");
        assert!(a.iter().any(|&y| y == rgb_of(0).ink().y), "and there is ink");
        assert_eq!(one.u.len(), width / 2 * height / 2);
        let b = &cache.get(&detection(0.5, None, "b")).unwrap().y;
        assert_ne!(&a, b);
    }

    #[test]
    fn a_letter_that_the_font_lacks_is_shown_as_missing() {
        let mut cache = cache();
        let known = cache.get(&detection(0.5, None, "é")).unwrap().y.clone();
        let unknown = cache.get(&detection(0.5, None, "猫")).unwrap().y.clone();
        assert_eq!(known.len(), unknown.len());
        assert_ne!(known, unknown);
    }

    #[test]
    fn text_is_cut_to_the_room_and_no_room_is_no_label() {
        let long = "a very long name of a class, ".repeat(20);
        for max_width in [0, 5, 16, 40, 640] {
            let mut cache = LabelCache::new(Font::for_picture(240), max_width);
            let width = cache.get(&detection(f32::NAN, Some(u64::MAX), &long)).map(|label| label.width);
            assert!(width.is_none_or(|width| width <= max_width.next_multiple_of(2)), "{width:?} of {max_width}");
            assert_eq!(width.is_some(), max_width >= 16);
        }
    }
}
