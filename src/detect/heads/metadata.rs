//! The notes that Ultralytics' exporter writes into a model, in Python's notation.

use crate::detect::manifest::MAX_KEYPOINTS;

/// More classes than any published model has; a longer list is refused.
const MAX_CLASSES: usize = 20_000;

/// Reads `names`: `{0: 'person', 1: "driver's seat"}`, or a list of strings; ids must run from 0 without gaps, in
/// whatever order.
pub fn names(text: &str) -> Option<Vec<String>> {
    let mut rest = text.trim();
    let (close, keyed) = match rest.as_bytes().first()? {
        b'{' => ('}', true),
        b'[' => (']', false),
        _ => return None,
    };
    rest = rest.get(1..)?.trim_start();
    let mut found: Vec<(usize, String)> = Vec::new();
    while !rest.starts_with(close) {
        let id = if keyed {
            let colon = rest.find(':')?;
            let id = rest.get(..colon)?.trim().trim_matches(['\'', '"']).parse().ok()?;
            rest = rest.get(colon + 1..)?.trim_start();
            id
        } else {
            found.len()
        };
        let (name, after) = string(rest)?;
        found.push((id, name));
        if found.len() > MAX_CLASSES {
            return None;
        }
        rest = after.trim_start();
        if let Some(after) = rest.strip_prefix(',') {
            rest = after.trim_start();
        } else if !rest.starts_with(close) {
            return None;
        }
    }
    found.sort_by_key(|(id, _)| *id);
    let complete = !found.is_empty() && found.iter().enumerate().all(|(at, (id, _))| at == *id);
    complete.then(|| found.into_iter().map(|(_, name)| name).collect())
}

/// A quoted string at the start of `text`, and what follows it.
fn string(text: &str) -> Option<(String, &str)> {
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    let mut name = String::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => name.push(chars.next()?.1),
            c if c == quote => return Some((name, text.get(at + 1..)?)),
            c => name.push(c),
        }
    }
    None
}

/// Reads `imgsz`: `[height, width]`, or one number for both. Gives (width, height).
pub fn image_size(text: &str) -> Option<(usize, usize)> {
    let inner = text.trim().trim_start_matches(['[', '(']).trim_end_matches([']', ')']);
    let mut sides = inner.split(',').map(str::trim).filter(|side| !side.is_empty()).map(str::parse::<usize>);
    let height = sides.next()?.ok()?;
    let width = match sides.next() {
        Some(width) => width.ok()?,
        None => height,
    };
    sides.next().is_none().then_some((width, height))
}

/// Reads `kpt_shape`: `[17, 3]`, how many points and how many values of each.
pub fn keypoint_shape(text: &str) -> Option<[usize; 2]> {
    let (values, count) = image_size(text).filter(|_| text.contains(','))?;
    ((1..=MAX_KEYPOINTS).contains(&count) && (2..=3).contains(&values)).then_some([count, values])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_come_in_pythons_notation() {
        assert_eq!(names("{0: 'person', 1: 'hot dog'}").unwrap(), ["person", "hot dog"]);
        assert_eq!(names(r#"{0: "driver's seat", 1: 'a\'b, c: {d}'}"#).unwrap(), ["driver's seat", "a'b, c: {d}"]);
        assert_eq!(names(r#"["a", 'b',]"#).unwrap(), ["a", "b"]);
        assert_eq!(names("{1: 'b', 0: 'a'}").unwrap(), ["a", "b"]);
        assert_eq!(names(r#"{"0": "crack"}"#).unwrap(), ["crack"]);
    }

    #[test]
    fn names_with_gaps_or_without_an_end_are_refused() {
        for text in ["", "{", "{}", "{0: 'a'", "{0: 'a}", "{0 'a'}", "{0: 'a', 2: 'b'}", "{0: 'a' 1: 'b'}", "{x: 'a'}"]
        {
            assert_eq!(names(text), None, "{text}");
        }
    }

    #[test]
    fn the_image_size_is_height_then_width() {
        assert_eq!(image_size("[320, 640]"), Some((640, 320)));
        assert_eq!(image_size("640"), Some((640, 640)));
        for text in ["", "[]", "[a, 3]", "[1, 2, 3]", "[-1, 2]"] {
            assert_eq!(image_size(text), None, "{text}");
        }
    }

    #[test]
    fn the_points_are_their_number_then_their_values() {
        assert_eq!(keypoint_shape("[17, 3]"), Some([17, 3]));
        assert_eq!(keypoint_shape("[5, 2]"), Some([5, 2]));
        for text in ["17", "[17, 4]", "[0, 3]", "[100000, 3]", "", "[17, 3, 1]"] {
            assert_eq!(keypoint_shape(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,60}", braces in "[{}\\[\\]:,'\"\\\\0-9a]{0,30}") {
            let _ = (names(&text), image_size(&text), names(&braces), image_size(&braces), keypoint_shape(&braces));
        }

        #[test]
        fn what_python_prints_comes_back(list in prop::collection::vec("[a-zA-Z \\-]{0,12}", 1..20)) {
            let body: Vec<_> = list.iter().enumerate().map(|(id, name)| format!("{id}: '{name}'")).collect();
            prop_assert_eq!(names(&format!("{{{}}}", body.join(", "))), Some(list));
        }
    }
}
