//! The headers of a JPEG image: its size, how it is coded, and where its data begins (ITU-T T.81 annex B).

/// What stands before the coded data of an image (§B.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Headers {
    /// Width in pixels.
    pub width: u16,
    /// Height in pixels.
    pub height: u16,
    /// Bits of a sample.
    pub bits: u8,
    /// The last byte of the start-of-frame marker: 0xc0 baseline, 0xc1 extended, 0xc2 progressive, …
    frame: u8,
    /// Whether any Huffman table is there. Motion JPEG in AVI leaves them out.
    pub huffman_tables: bool,
    /// Where the marker of the first scan stands.
    pub scan: usize,
}

impl Headers {
    /// Reads the segments from the start of the image to its first scan. `None` if they are damaged or cut off.
    #[must_use]
    pub fn read(image: &[u8]) -> Option<Self> {
        const TABLES: u8 = 0xc4;
        const SCAN: u8 = 0xda;
        if image.get(..2) != Some(&[0xff, 0xd8]) {
            return None;
        }
        let mut found: Option<Self> = None;
        let mut huffman_tables = false;
        let mut at = 2;
        loop {
            let (marker, rest) = (image.get(at + 1)?, image.get(at + 2..)?);
            if image.get(at) != Some(&0xff) {
                return None;
            }
            match *marker {
                0xff => {
                    // A fill byte (§B.1.1.2).
                    at += 1;
                    continue;
                }
                SCAN => return found.map(|headers| Self { huffman_tables, scan: at, ..headers }),
                TABLES => huffman_tables = true,
                // Without a length, or out of place here.
                0x00 | 0x01 | 0xd0..=0xd9 => return None,
                // Start of frame: all of these but the tables above, an extension and arithmetic conditioning.
                frame @ 0xc0..=0xcf if !matches!(frame, 0xc8 | 0xcc) => {
                    let (&[_, _, bits, high0, high1, wide0, wide1], _) = rest.split_first_chunk::<7>()?;
                    let (width, height) = (u16::from_be_bytes([wide0, wide1]), u16::from_be_bytes([high0, high1]));
                    found = Some(Self { width, height, bits, frame, huffman_tables, scan: 0 });
                }
                _ => {}
            }
            let (&length, _) = rest.split_first_chunk::<2>()?;
            at += 2 + usize::from(u16::from_be_bytes(length)).max(2);
        }
    }

    /// Whether it is coded in one of the ways that are in use: Huffman codes, sequential or progressive.
    #[must_use]
    pub fn is_sequential_or_progressive(&self) -> bool {
        matches!(self.frame, 0xc0..=0xc2)
    }

    /// The name of the coding process.
    #[must_use]
    pub fn process(&self) -> &'static str {
        match self.frame {
            0xc0 => "Baseline",
            0xc1 => "Extended",
            0xc2 => "Progressive",
            0xc3 => "Lossless",
            _ => "Arithmetic or hierarchical",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// SOI, an APP0, a table that is fill bytes away, a frame of 640×480, the scan.
    const IMAGE: [u8; 33] = [
        0xff, 0xd8, 0xff, 0xe0, 0, 4, 1, 2, 0xff, 0xff, 0xff, 0xdb, 0, 3, 9, 0xff, 0xc0, 0, 11, 8, 1, 0xe0, 2, 0x80, 1,
        1, 0x11, 0, 0xff, 0xda, 0, 8, 1,
    ];

    #[test]
    fn size_process_and_scan_are_found() {
        let headers = Headers::read(&IMAGE).unwrap();
        assert_eq!((headers.width, headers.height, headers.bits), (640, 480, 8));
        assert_eq!((headers.process(), headers.huffman_tables, headers.scan), ("Baseline", false, 28));
    }

    #[test]
    fn huffman_tables_before_or_behind_the_frame_are_seen() {
        let table = [0xff, 0xc4, 0, 3, 0];
        for at in [15, 28] {
            let image = [&IMAGE[..at], &table, &IMAGE[at..]].concat();
            assert!(Headers::read(&image).unwrap().huffman_tables);
        }
    }

    #[test]
    fn an_image_without_frame_or_scan_has_no_headers() {
        assert_eq!(Headers::read(&IMAGE[..28]), None);
        assert_eq!(Headers::read(&[&IMAGE[..15], &IMAGE[28..]].concat()), None);
        assert_eq!(Headers::read(&IMAGE[2..]), None);
        assert_eq!(Headers::read(&[]), None);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic_and_the_scan_lies_within(tail in prop::collection::vec(prop_oneof![Just(0xffu8), Just(0xc0), Just(0xda), 0u8..4, any::<u8>()], 0..200)) {
            let image = [&[0xff, 0xd8], &tail[..]].concat();
            if let Some(headers) = Headers::read(&image) {
                prop_assert_eq!(image.get(headers.scan..headers.scan + 2), Some(&[0xff, 0xda][..]));
            }
        }
    }
}
