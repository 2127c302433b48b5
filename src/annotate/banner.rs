//! The banner of a picture that is not live.

use super::label::{Font, Label};
use super::palette::{LIGHT_INK, Yuv};
use super::{Rect, fill, paste};
use crate::media::I420Frame;

/// Nearly black, so that the letters stand out on any picture.
const PLATE: Yuv = Yuv { y: 28, u: 128, v: 128 };

/// Draws `title` in large letters and `lines` in small ones under it, on a dark bar across the middle of the picture. What
/// has no room is cut; a picture lower than the letters is left as it is.
pub fn draw_banner(picture: &mut I420Frame, title: &str, lines: &[&str]) {
    let (width, height) = (picture.width() & !1, picture.height() & !1);
    let side = width.min(height);
    let (large, small) = (Font::for_picture(side * 2), Font::for_picture(side));
    let texts = std::iter::once((title, large)).chain(lines.iter().map(|line| (*line, small)));
    let labels: Vec<Label> = texts.filter_map(|(text, font)| label(text, font, width)).collect();
    let padding = large.padding().next_multiple_of(2);
    let text_height: usize = labels.iter().map(|label| label.height).sum();
    let bar = text_height + 2 * padding;
    if bar > height {
        return;
    }
    let top = ((height - bar) / 2) & !1;
    fill(picture, Rect { left: 0, top, right: picture.width(), bottom: top + bar }, PLATE);
    let mut y = top + padding;
    for label in &labels {
        paste(picture, label, ((width - label.width) / 2) & !1, y);
        y += label.height;
    }
}

fn label(text: &str, font: Font, width: usize) -> Option<Label> {
    let room = width.checked_sub(2 * font.padding() + 2)? / font.letter_width();
    if room == 0 || text.is_empty() {
        return None;
    }
    let mut label = Label::default();
    label.draw(text, room, font, PLATE, LIGHT_INK);
    Some(label)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::media::Plane;

    fn grey(width: usize, height: usize) -> I420Frame {
        let mut frame = I420Frame::black(width, height);
        frame.planes_mut().0.fill(120);
        frame
    }

    #[test]
    fn the_bar_lies_in_the_middle_with_light_letters_and_the_rest_is_untouched() {
        let mut frame = grey(640, 360);
        draw_banner(&mut frame, "no signal", &["connection lost", "for 0:12"]);
        let luma = frame.plane(Plane::Y);
        let row = |y: usize| &luma[y * 640..(y + 1) * 640];
        let touched: Vec<usize> = (0..360).filter(|&y| row(y).iter().any(|&sample| sample != 120)).collect();
        let (first, last) = (touched[0], touched[touched.len() - 1]);
        assert!((first + last).abs_diff(359) <= 2, "{first} to {last} of 360");
        assert!(touched.len() < 180, "the picture can still be seen");
        let light = (first..=last).filter(|&y| row(y).iter().any(|&sample| sample > 200)).count();
        assert!(light > 30, "three lines of letters: {light} rows");
        assert!(frame.plane(Plane::U).iter().all(|&sample| sample == 128));
    }

    proptest! {
        #[test]
        fn any_text_on_any_size_stays_within_the_picture(
            width in 1usize..900, height in 1usize..700, title in ".{0,40}", line in ".{0,300}",
        ) {
            draw_banner(&mut grey(width, height), &title, &[&line]);
        }
    }
}
