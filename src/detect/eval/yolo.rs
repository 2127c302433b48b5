//! Labels in the format of the YOLO tools: a text file for each picture, `class cx cy w h` a line, in shares of its sides
//! (docs.ultralytics.com/datasets/detect).

use super::{Label, Rect};

/// Reads the labels of a picture of `width`×`height` pixels. A line of more numbers is an outline, `class x y x y …`, whose box is
/// taken. An empty text is a picture without objects.
///
/// # Errors
/// The line's number and what is wrong with it.
pub fn yolo_labels(text: &str, width: f64, height: f64) -> Result<Vec<Label>, String> {
    let mut labels = Vec::new();
    for (line, number) in text.lines().zip(1..) {
        let wrong = |what: &str| format!("line {number}, {line:?}: {what}");
        let mut words = line.split_whitespace();
        let Some(class) = words.next() else { continue };
        let class = class.parse().map_err(|_| wrong("it begins with the class's number"))?;
        let numbers: Result<Vec<f64>, _> = words.map(str::parse).collect();
        let numbers = numbers.map_err(|_| wrong("numbers follow the class"))?;
        let shares = match numbers.as_slice() {
            &[cx, cy, w, h] => Rect { x: cx - w / 2.0, y: cy - h / 2.0, w, h },
            outline if outline.len() >= 6 && outline.len().is_multiple_of(2) => around(outline),
            _ => return Err(wrong("`class cx cy w h` is expected")),
        };
        let rect = Rect { x: shares.x * width, y: shares.y * height, w: shares.w * width, h: shares.h * height };
        if !rect.is_valid() {
            return Err(wrong("it is no box"));
        }
        labels.push(Label { class, rect, crowd: false });
    }
    Ok(labels)
}

fn around(outline: &[f64]) -> Rect {
    let (mut left, mut top, mut right, mut bottom) = (f64::MAX, f64::MAX, f64::MIN, f64::MIN);
    for corner in outline.chunks_exact(2) {
        if let &[x, y] = corner {
            (left, right) = (left.min(x), right.max(x));
            (top, bottom) = (top.min(y), bottom.max(y));
        }
    }
    Rect { x: left, y: top, w: right - left, h: bottom - top }
}

/// The class names of a `classes.txt`: one a line.
#[must_use]
pub fn class_names(text: &str) -> Vec<String> {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

/// The class names of a `data.yaml`: its `names`, as a list in brackets or of dashes, or by number. `None` where there are none
/// that can be read.
#[must_use]
pub fn yaml_names(text: &str) -> Option<Vec<String>> {
    let mut lines = text.lines().map(without_comment);
    let first = lines.by_ref().find_map(|line| line.strip_prefix("names:"))?.trim().to_owned();
    let names: Vec<String> = if first.is_empty() {
        // Until the next key of the file itself.
        lines
            .take_while(|line| line.trim().is_empty() || line.starts_with([' ', '\t', '-']))
            .filter(|line| !line.trim().is_empty())
            .enumerate()
            .map(|(number, line)| entry(line.trim(), number))
            .collect::<Option<_>>()?
    } else {
        // A list may go on over several lines.
        let whole = std::iter::once(first.as_str()).chain(lines).collect::<Vec<_>>().join(" ");
        let close = match first.chars().next()? {
            '[' => ']',
            '{' => '}',
            _ => return None,
        };
        let inner = whole.get(1..whole.find(close)?)?;
        let parts = inner.split(',').map(str::trim).filter(|part| !part.is_empty());
        parts.enumerate().map(|(number, part)| entry(part, number)).collect::<Option<_>>()?
    };
    (!names.is_empty()).then_some(names)
}

/// `- person`, `3: person` or `person`, of which the number has to be the one that is next.
fn entry(text: &str, number: usize) -> Option<String> {
    let text = text.strip_prefix("- ").map_or(text, str::trim);
    let name = match text.split_once(':') {
        Some((key, name)) if key.trim().parse() == Ok(number) => name.trim(),
        Some(_) => return None,
        None => text,
    };
    let name = name.trim_matches(|c| matches!(c, '"' | '\''));
    (!name.is_empty()).then(|| name.to_owned())
}

fn without_comment(line: &str) -> &str {
    let end = if line.starts_with('#') { Some(0) } else { line.find(" #") };
    end.and_then(|end| line.get(..end)).unwrap_or(line)
}
