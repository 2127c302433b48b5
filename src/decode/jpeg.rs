//! Motion JPEG by zune-jpeg: every access unit is one image (ITU-T T.81), and stands alone.

use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::{DecodeError, Decoder, Picture, range};
use crate::media::jpeg::Headers;
use crate::media::{AccessUnit, FramePool, I420Frame, MAX_ACCESS_UNIT_BYTES, MAX_SIDE};

/// More pixels are refused: 8K UHD has 33,177,600.
const MAX_PIXELS: usize = 1 << 25;

/// A block of 64 samples takes a bit at least, in any scan: an image of fewer bytes than this many pixels each is cut off,
/// or lies about its size to make us allocate.
const PIXELS_PER_BYTE: usize = 64 * 8;

/// A decoder of Motion JPEG: sequential and progressive, `YCbCr` of any subsampling or grey, 8 bits.
///
/// JPEG is full range by its own definition (JFIF: BT.601). The pictures that come out are limited range, 4:2:0.
#[derive(Debug, Default)]
pub struct MjpegDecoder {
    /// The image with Huffman tables put in, where it came without.
    completed: Vec<u8>,
    /// What the codec gives: a sample, or `Y Cb Cr`, for each pixel.
    pixels: Vec<u8>,
}

impl MjpegDecoder {
    /// A decoder; there is nothing to wait for.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn picture(&mut self, image: &[u8], pool: &FramePool) -> Result<I420Frame, DecodeError> {
        let headers = Headers::read(image).ok_or_else(|| broken("its headers are damaged"))?;
        let (width, height) = checked_size(&headers, image.len())?;
        if !headers.is_sequential_or_progressive() || headers.bits != 8 {
            let (process, bits) = (headers.process(), headers.bits);
            let what = format!("JPEG, {process}, {bits} bits a sample (set the camera to baseline JPEG)");
            return Err(DecodeError::Unsupported(what));
        }
        if !ends(image.get(headers.scan..).unwrap_or_default()) {
            return Err(broken("the image is cut off"));
        }
        let image = if headers.huffman_tables {
            image
        } else {
            complete(&headers, image, &mut self.completed);
            &self.completed[..]
        };
        // Strict: a damaged image is an error, never filled up with grey.
        let options = DecoderOptions::default().set_strict_mode(true).set_max_width(MAX_SIDE).set_max_height(MAX_SIDE);
        let mut codec =
            JpegDecoder::new_with_options(ZCursor::new(image), options.jpeg_set_out_colorspace(ColorSpace::YCbCr));
        codec.decode_headers().map_err(|error| broken(&error.to_string()))?;
        let (space, samples) = match codec.input_colorspace() {
            Some(ColorSpace::Luma) => (ColorSpace::Luma, 1),
            Some(ColorSpace::YCbCr) => (ColorSpace::YCbCr, 3),
            other => {
                let name = other.map_or_else(|| "unknown colours".into(), |space| format!("{space:?}"));
                return Err(DecodeError::Unsupported(format!("Motion JPEG in {name} (set the camera to YCbCr)")));
            }
        };
        let options = codec.options().jpeg_set_out_colorspace(space);
        codec.set_options(options);
        self.pixels.resize(width * height * samples, 0);
        codec.decode_into(&mut self.pixels).map_err(|error| broken(&error.to_string()))?;
        let mut frame = pool.frame(width, height);
        if space == ColorSpace::Luma {
            range::from_luma(&self.pixels, &mut frame);
        } else {
            range::from_ycbcr(&self.pixels, &mut frame);
        }
        Ok(frame)
    }
}

impl Decoder for MjpegDecoder {
    fn decode(&mut self, unit: &AccessUnit, pool: &FramePool) -> Result<Option<Picture>, DecodeError> {
        if unit.data.len() > MAX_ACCESS_UNIT_BYTES {
            return Err(broken(&format!("{} bytes are too many", unit.data.len())));
        }
        let picture = self.picture(&unit.data, pool)?;
        let AccessUnit { rtp_timestamp, first_packet, last_packet, captured, .. } = *unit;
        Ok(Some(Picture { picture, rtp_timestamp, first_packet, last_packet, captured }))
    }

    fn flush(&mut self) -> Option<Picture> {
        None
    }
}

fn broken(why: &str) -> DecodeError {
    DecodeError::Broken(format!("JPEG: {why}"))
}

/// Whether the coded data runs to its end-of-image marker. Inside a scan `ff d9` cannot stand (§B.1.1.5); zeros or a line
/// break behind it come from the transport.
fn ends(scan: &[u8]) -> bool {
    scan.windows(2).rev().any(|pair| pair == [0xff, 0xd9])
}

/// The size, if a picture may have it and `len` bytes may hold it.
fn checked_size(headers: &Headers, len: usize) -> Result<(usize, usize), DecodeError> {
    let (width, height) = (usize::from(headers.width), usize::from(headers.height));
    let possible = (1..=MAX_SIDE).contains(&width) && (1..=MAX_SIDE).contains(&height);
    if !possible || width * height > MAX_PIXELS {
        return Err(broken(&format!("a picture of {width}×{height} is not possible")));
    }
    if width * height / PIXELS_PER_BYTE > len {
        return Err(broken(&format!("{len} bytes cannot hold a picture of {width}×{height}")));
    }
    Ok((width, height))
}

/// Writes the image with the standard's own Huffman tables before its first scan.
fn complete(headers: &Headers, image: &[u8], out: &mut Vec<u8>) {
    out.clear();
    let (before, scan) = image.split_at(headers.scan.min(image.len()));
    for part in [before, &STANDARD_TABLES, scan] {
        out.extend_from_slice(part);
    }
}

/// The four "typical" Huffman tables of ITU-T T.81 §K.3.3 as one DHT segment: the ones that Motion JPEG means when it
/// brings none.
#[rustfmt::skip]
const STANDARD_TABLES: [u8; 420] = [
    0xff, 0xc4, 0x01, 0xa2,
    // Table K.3: luminance, DC
    0x00, 0, 1, 5, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0,
    0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11,
    // Table K.5: luminance, AC
    0x10, 0, 2, 1, 3, 3, 2, 4, 3, 5, 5, 4, 4, 0, 0, 1, 0x7d,
    0x01, 0x02, 0x03, 0x00, 0x04, 0x11, 0x05, 0x12, 0x21, 0x31, 0x41, 0x06, 0x13, 0x51, 0x61, 0x07, 0x22, 0x71,
    0x14, 0x32, 0x81, 0x91, 0xa1, 0x08, 0x23, 0x42, 0xb1, 0xc1, 0x15, 0x52, 0xd1, 0xf0, 0x24, 0x33, 0x62, 0x72,
    0x82, 0x09, 0x0a, 0x16, 0x17, 0x18, 0x19, 0x1a, 0x25, 0x26, 0x27, 0x28, 0x29, 0x2a, 0x34, 0x35, 0x36, 0x37,
    0x38, 0x39, 0x3a, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48, 0x49, 0x4a, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58, 0x59,
    0x5a, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x79, 0x7a, 0x83,
    0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x92, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9a, 0xa2, 0xa3,
    0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xb2, 0xb3, 0xb4, 0xb5, 0xb6, 0xb7, 0xb8, 0xb9, 0xba, 0xc2, 0xc3,
    0xc4, 0xc5, 0xc6, 0xc7, 0xc8, 0xc9, 0xca, 0xd2, 0xd3, 0xd4, 0xd5, 0xd6, 0xd7, 0xd8, 0xd9, 0xda, 0xe1, 0xe2,
    0xe3, 0xe4, 0xe5, 0xe6, 0xe7, 0xe8, 0xe9, 0xea, 0xf1, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf7, 0xf8, 0xf9, 0xfa,
    // Table K.4: chrominance, DC
    0x01, 0, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0,
    0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11,
    // Table K.6: chrominance, AC
    0x11, 0, 2, 1, 2, 4, 4, 3, 4, 7, 5, 4, 4, 0, 1, 2, 0x77,
    0x00, 0x01, 0x02, 0x03, 0x11, 0x04, 0x05, 0x21, 0x31, 0x06, 0x12, 0x41, 0x51, 0x07, 0x61, 0x71, 0x13, 0x22,
    0x32, 0x81, 0x08, 0x14, 0x42, 0x91, 0xa1, 0xb1, 0xc1, 0x09, 0x23, 0x33, 0x52, 0xf0, 0x15, 0x62, 0x72, 0xd1,
    0x0a, 0x16, 0x24, 0x34, 0xe1, 0x25, 0xf1, 0x17, 0x18, 0x19, 0x1a, 0x26, 0x27, 0x28, 0x29, 0x2a, 0x35, 0x36,
    0x37, 0x38, 0x39, 0x3a, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48, 0x49, 0x4a, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58,
    0x59, 0x5a, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x79, 0x7a,
    0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x92, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9a,
    0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xb2, 0xb3, 0xb4, 0xb5, 0xb6, 0xb7, 0xb8, 0xb9, 0xba,
    0xc2, 0xc3, 0xc4, 0xc5, 0xc6, 0xc7, 0xc8, 0xc9, 0xca, 0xd2, 0xd3, 0xd4, 0xd5, 0xd6, 0xd7, 0xd8, 0xd9, 0xda,
    0xe2, 0xe3, 0xe4, 0xe5, 0xe6, 0xe7, 0xe8, 0xe9, 0xea, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf7, 0xf8, 0xf9, 0xfa,
];

#[cfg(test)]
#[path = "jpeg_tests.rs"]
mod tests;
