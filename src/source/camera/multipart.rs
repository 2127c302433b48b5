//! `multipart/x-mixed-replace` as cameras send it, taken apart into JPEG images: bytes in, images out.
//!
//! Real ones are sloppy: the boundary of the header has its `--` already or lacks them, lines end without a carriage
//! return, `Content-Length` is absent or wrong. A part lasts as long as its length says, or until the next boundary, and is
//! an image if it begins and ends like one.

use bytes::{Buf, Bytes, BytesMut};

use crate::media::MAX_ACCESS_UNIT_BYTES;

/// More between two images is no camera's header.
const MAX_HEADER_BYTES: usize = 16 << 10;

/// A stream that is damaged beyond waiting for the next boundary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Damaged(pub(super) &'static str);

/// What one part turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// From SOI to EOI.
    Jpeg(Bytes),
    /// Cut off, or something else.
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Lines are skipped until a boundary.
    Between,
    Headers {
        length: Option<usize>,
    },
    /// `None`: until the next boundary.
    Body {
        length: Option<usize>,
    },
}

/// See the module.
#[derive(Debug)]
pub(super) struct Multipart {
    /// Without its dashes; the first line that begins with two, where the header names none.
    boundary: Option<Vec<u8>>,
    buffer: BytesMut,
    state: State,
    /// Bytes passed over since the last image or boundary.
    skipped: usize,
    /// Before this nothing in the buffer ends the body.
    searched: usize,
}

impl Multipart {
    /// With the boundary as the header names it.
    pub(super) fn new(boundary: Option<&str>) -> Self {
        let boundary = boundary.map(|name| name.trim().trim_matches('"').trim_start_matches('-').as_bytes().to_vec());
        Self {
            boundary: boundary.filter(|name| !name.is_empty()),
            buffer: BytesMut::new(),
            state: State::Between,
            skipped: 0,
            searched: 0,
        }
    }

    /// Takes bytes of the stream.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Whether the first byte of an image, or of what stands in its place, has come.
    pub(super) fn in_body(&self) -> bool {
        matches!(self.state, State::Body { .. }) && !self.buffer.is_empty()
    }

    /// The next part that is complete.
    pub(super) fn next(&mut self) -> Result<Option<Part>, Damaged> {
        loop {
            match self.state {
                State::Between => {
                    let Some(line) = self.line()? else { return Ok(None) };
                    if self.is_boundary(&line) {
                        self.skipped = 0;
                        self.state = State::Headers { length: None };
                    }
                }
                State::Headers { length } => {
                    let Some(line) = self.line()? else { return Ok(None) };
                    if line.is_empty() {
                        self.skipped = 0;
                        self.searched = 0;
                        self.state = State::Body { length };
                    } else if let Some(length) = content_length(&line) {
                        if length > MAX_ACCESS_UNIT_BYTES {
                            return Err(Damaged("it announces an image of more than 4 MiB"));
                        }
                        self.state = State::Headers { length: Some(length) };
                    }
                }
                State::Body { length: Some(length) } => {
                    if self.buffer.len() < length {
                        return Ok(None);
                    }
                    let body = self.buffer.split_to(length).freeze();
                    self.state = State::Between;
                    return Ok(Some(part(&body)));
                }
                State::Body { length: None } => {
                    let Some((end, next)) = self.find_boundary() else {
                        if self.buffer.len() > MAX_ACCESS_UNIT_BYTES {
                            return Err(Damaged("an image of more than 4 MiB has no end"));
                        }
                        return Ok(None);
                    };
                    let body = self.buffer.split_to(end).freeze();
                    self.buffer.advance(next - end);
                    self.state = State::Between;
                    return Ok(Some(part(&body)));
                }
            }
        }
    }

    /// A whole line without its end.
    fn line(&mut self) -> Result<Option<Bytes>, Damaged> {
        let Some(end) = self.buffer.iter().position(|&byte| byte == b'\n') else {
            if self.buffer.len() + self.skipped > MAX_ACCESS_UNIT_BYTES {
                return Err(Damaged("no boundary comes"));
            }
            if !matches!(self.state, State::Between) && self.buffer.len() > MAX_HEADER_BYTES {
                return Err(Damaged("a header has no end"));
            }
            return Ok(None);
        };
        let mut line = self.buffer.split_to(end + 1);
        self.skipped += line.len();
        let limit = if self.state == State::Between { MAX_ACCESS_UNIT_BYTES } else { MAX_HEADER_BYTES };
        if self.skipped > limit {
            return Err(Damaged("no boundary comes, or its headers have no end"));
        }
        line.truncate(line.trim_ascii_end().len());
        Ok(Some(line.freeze()))
    }

    fn is_boundary(&mut self, line: &[u8]) -> bool {
        let dashes = line.iter().take_while(|&&byte| byte == b'-').count();
        let name = line.get(dashes..).unwrap_or_default();
        match &self.boundary {
            Some(boundary) => {
                name.strip_prefix(boundary.as_slice()).is_some_and(|rest| rest.iter().all(|&byte| byte == b'-'))
            }
            None if dashes >= 2 && !name.is_empty() && name.len() <= 200 => {
                self.boundary = Some(name.to_vec());
                true
            }
            None => false,
        }
    }

    /// Where the body ends and where the boundary's line begins.
    fn find_boundary(&mut self) -> Option<(usize, usize)> {
        let boundary = self.boundary.as_deref()?;
        let mut from = self.searched;
        while let Some(found) = find(self.buffer.get(from..)?, boundary) {
            let at = from + found;
            let before = self.buffer.get(..at)?;
            let dashes = before.iter().rev().take_while(|&&byte| byte == b'-').count();
            let line = before.get(..at - dashes)?;
            if let Some(body) = line.strip_suffix(b"\n") {
                let body = body.strip_suffix(b"\r").unwrap_or(body);
                return Some((body.len(), line.len()));
            }
            from = at + 1;
        }
        self.searched = self.buffer.len().saturating_sub(boundary.len());
        None
    }
}

fn find(text: &[u8], word: &[u8]) -> Option<usize> {
    let (&first, _) = word.split_first()?;
    let mut from = 0;
    while let Some(step) = text.get(from..)?.iter().position(|&byte| byte == first) {
        if text.get(from + step..)?.starts_with(word) {
            return Some(from + step);
        }
        from += step + 1;
    }
    None
}

fn content_length(line: &[u8]) -> Option<usize> {
    let (name, value) = std::str::from_utf8(line).ok()?.split_once(':')?;
    name.trim().eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
}

/// Some send an empty line before the headers, which then stand before the image.
fn part(body: &Bytes) -> Part {
    let start = body.windows(2).take(512).position(|pair| pair == [0xff, 0xd8]);
    let end = body.windows(2).rposition(|pair| pair == [0xff, 0xd9]);
    match (start, end) {
        (Some(start), Some(end)) if start < end => Part::Jpeg(body.slice(start..end + 2)),
        _ => Part::Other,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// An image whose content is not like any boundary.
    fn jpeg(content: &[u8]) -> Vec<u8> {
        [&[0xff, 0xd8], content, &[0xff, 0xd9]].concat()
    }

    fn all(parser: &mut Multipart) -> Vec<Part> {
        std::iter::from_fn(|| parser.next().unwrap()).collect()
    }

    #[derive(Clone, Copy, Debug)]
    struct Habits {
        dashes_in_header: bool,
        dashes_on_line: bool,
        lengths: bool,
        carriage_returns: bool,
        boundary_named: bool,
        preamble: bool,
    }

    fn habits() -> impl Strategy<Value = Habits> {
        any::<(bool, bool, bool, bool, bool, bool)>().prop_map(|(a, b, lengths, carriage_returns, named, preamble)| {
            Habits {
                dashes_in_header: a,
                // Who names no boundary shows it by its dashes.
                dashes_on_line: b || !named,
                lengths,
                carriage_returns,
                boundary_named: named,
                preamble,
            }
        })
    }

    fn stream(habits: Habits, images: &[Vec<u8>]) -> Vec<u8> {
        let end: &[u8] = if habits.carriage_returns { b"\r\n" } else { b"\n" };
        let mut out = Vec::new();
        if habits.preamble {
            out.extend([b"ignored", end].concat());
        }
        for image in images {
            out.extend([if habits.dashes_on_line { &b"--"[..] } else { b"" }, b"frame_X", end].concat());
            out.extend([b"Content-Type: image/jpeg", end].concat());
            if habits.lengths {
                out.extend([format!("content-length:  {}", image.len()).as_bytes(), end].concat());
            }
            out.extend([end, image, end].concat());
        }
        out.extend([if habits.dashes_on_line { &b"--"[..] } else { b"" }, b"frame_X", end].concat());
        out
    }

    #[test]
    fn a_wrong_length_costs_its_image_only() {
        let mut parser = Multipart::new(Some("b"));
        let good = jpeg(b"good");
        for (length, body) in [(3, jpeg(b"length too small")), (good.len(), good.clone())] {
            parser.push(format!("--b\r\nContent-Length: {length}\r\n\r\n").as_bytes());
            parser.push(&body);
            parser.push(b"\r\n");
        }
        assert_eq!(all(&mut parser), [Part::Other, Part::Jpeg(good.into())]);
    }

    #[test]
    fn what_never_ends_is_refused() {
        for begin in ["", "--b\r\n", "--b\r\n\r\n", "--b\r\nContent-Length: 99999999\r\n\r\n"] {
            let mut parser = Multipart::new(Some("b"));
            parser.push(begin.as_bytes());
            let refused = (0..2000).any(|_| {
                parser.push(&[b'x'; 4096]);
                parser.next().is_err()
            });
            assert!(refused, "{begin:?}");
        }
    }

    proptest! {
        #[test]
        fn every_habit_gives_the_images_however_the_bytes_are_cut(
            habits in habits(),
            images in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..5),
            cuts in prop::collection::vec(1usize..60, 1..20),
        ) {
            // A boundary by chance in random bytes would be one in reality too.
            let images: Vec<_> = images.iter().map(|content| jpeg(content)).collect();
            let bytes = stream(habits, &images);
            let name = if habits.dashes_in_header { "--frame_X" } else { "\"frame_X\"" };
            let mut parser = Multipart::new(habits.boundary_named.then_some(name));
            let mut found = Vec::new();
            let mut rest = bytes.as_slice();
            for cut in cuts.into_iter().cycle() {
                if rest.is_empty() { break }
                let (now, later) = rest.split_at(cut.min(rest.len()));
                parser.push(now);
                rest = later;
                found.extend(all(&mut parser));
            }
            let expected: Vec<_> = images.into_iter().map(|image| Part::Jpeg(image.into())).collect();
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn arbitrary_bytes_neither_panic_nor_loop(
            pieces in prop::collection::vec(prop_oneof![
                prop::collection::vec(any::<u8>(), 0..40),
                Just(b"\r\n--b\r\n".to_vec()),
                Just(b"Content-Length: 7\r\n\r\n".to_vec()),
                Just(b"\n\n".to_vec()),
                Just(b"--b--".to_vec()),
            ], 0..40),
            named in any::<bool>(),
        ) {
            let mut parser = Multipart::new(named.then_some("b"));
            let mut length = 0;
            for piece in &pieces {
                parser.push(piece);
                length += piece.len();
                while let Ok(Some(part)) = parser.next() {
                    if let Part::Jpeg(image) = part { prop_assert!(image.len() <= length); }
                }
            }
        }
    }
}
