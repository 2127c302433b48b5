//! What viewers see while no pictures come: the last one with a banner, twice a second.

use std::time::{Duration, Instant};

use crate::annotate::draw_banner;
use crate::media::I420Frame;

/// The time between two pictures: often enough that a viewer sees that the server is there.
const INTERVAL: Duration = Duration::from_millis(500);

/// The size of the picture where there was none yet.
const DARK_SIZE: (usize, usize) = (640, 360);

/// The lines that the reason may take.
const REASON_LINES: usize = 3;

/// A time without pictures.
#[derive(Debug)]
pub(super) struct Silence {
    reason: String,
    since: Instant,
    shown: Option<Instant>,
}

impl Silence {
    /// No pictures since `since`, for a reason in a few words.
    pub(super) fn new(reason: String, since: Instant) -> Self {
        Self { reason, since, shown: None }
    }

    /// The reason has become another one.
    pub(super) fn reword(&mut self, reason: String) {
        self.reason = reason;
        self.shown = None;
    }

    /// When the next picture is due.
    pub(super) fn due(&self) -> Instant {
        self.shown.map_or(self.since, |shown| shown + INTERVAL)
    }

    /// A picture where there was none yet.
    pub(super) fn darkness() -> I420Frame {
        I420Frame::black(DARK_SIZE.0, DARK_SIZE.1)
    }

    /// Draws the banner of `now`.
    pub(super) fn draw(&mut self, mut picture: I420Frame, now: Instant) -> I420Frame {
        self.shown = Some(now);
        let long = elapsed(now.saturating_duration_since(self.since));
        // A letter is 9 pixels wide, and on large pictures about a 50th of the shorter side.
        let letter = (picture.width().min(picture.height()) / 50).max(9);
        let room = (picture.width() / letter).saturating_sub(2).clamp(10, 90);
        let mut lines = wrapped(&self.reason, room);
        lines.push(format!("for {long}"));
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        draw_banner(&mut picture, "no signal", &lines);
        picture
    }
}

/// A duration as people read it: `0:07`, `12:30`, `3:05:00`.
fn elapsed(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

/// A text in lines of at most `room` letters, broken between words.
fn wrapped(text: &str, room: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        let full = lines.len() == REASON_LINES;
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= room => {
                line.push(' ');
                line.push_str(word);
            }
            _ if full => break,
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_is_told_as_people_read_it() {
        let told = [7, 750, 11_100].map(|seconds| elapsed(Duration::from_secs(seconds)));
        assert_eq!(told, ["0:07", "12:30", "3:05:00"]);
    }

    #[test]
    fn a_long_reason_is_broken_between_words_and_ends() {
        assert_eq!(wrapped("one two three", 8), ["one two", "three"]);
        assert_eq!(wrapped(&"word ".repeat(100), 9).len(), REASON_LINES);
        assert!(wrapped("", 9).is_empty());
    }

    #[test]
    fn the_banner_is_due_at_once_and_then_twice_a_second() {
        let start = Instant::now();
        let mut silence = Silence::new("no answer".into(), start);
        assert_eq!(silence.due(), start);
        let picture = silence.draw(Silence::darkness(), start);
        assert_eq!((picture.width(), picture.height()), DARK_SIZE);
        assert_eq!(silence.due(), start + INTERVAL);
        silence.reword("refused".into());
        assert_eq!(silence.due(), start, "another reason is shown at once");
    }
}
