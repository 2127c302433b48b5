//! A colour for every class.

use std::fmt;

/// A colour as the page shows it; displays as `#rrggbb`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rgb(pub [u8; 3]);

/// The same colour as it stands in the planes: BT.601, limited range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Yuv {
    /// Luma, 16 to 235.
    pub y: u8,
    /// Blue difference, 16 to 240.
    pub u: u8,
    /// Red difference, 16 to 240.
    pub v: u8,
}

const fn rgb(hex: u32) -> Rgb {
    let [_, r, g, b] = hex.to_be_bytes();
    Rgb([r, g, b])
}

/// The colours of classes 0 to 15; class 16 begins again. Each was chosen as the one farthest from those before it in
/// OKLab, seen with normal vision and with each kind of colour blindness (Machado et al. 2009).
pub const PALETTE: [Rgb; 16] = [
    rgb(0x1f_e0a0),
    rgb(0xff_5a5f),
    rgb(0x3d_8bff),
    rgb(0xff_c20a),
    rgb(0xbb_22aa),
    rgb(0xcc_aaff),
    rgb(0x99_6611),
    rgb(0xff_11ee),
    rgb(0xbb_77aa),
    rgb(0x66_ffff),
    rgb(0xaa_ff88),
    rgb(0xff_8800),
    rgb(0xcc_3366),
    rgb(0xff_77cc),
    rgb(0x33_aa77),
    rgb(0x88_55cc),
];

/// White text.
pub const LIGHT_INK: Yuv = Yuv { y: 235, u: 128, v: 128 };

/// Black text.
pub const DARK_INK: Yuv = Yuv { y: 16, u: 128, v: 128 };

/// The colour of a class.
#[must_use]
pub fn rgb_of(class_id: u32) -> Rgb {
    PALETTE[class_id as usize % PALETTE.len()]
}

/// The colour of a class as it stands in the planes.
#[must_use]
pub fn colour(class_id: u32) -> Yuv {
    rgb_of(class_id).yuv()
}

impl Rgb {
    /// Converts by ITU-R BT.601 to limited range, rounded.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // 16 to 240 by construction
    pub fn yuv(self) -> Yuv {
        let [r, g, b] = self.0.map(i32::from);
        Yuv {
            y: (((66 * r + 129 * g + 25 * b + 128) >> 8) + 16) as u8,
            u: (((-38 * r - 74 * g + 112 * b + 128) >> 8) + 128) as u8,
            v: (((112 * r - 94 * g - 18 * b + 128) >> 8) + 128) as u8,
        }
    }

    /// The ink that stands out more on a plate of this colour, by the contrast ratio of WCAG 2.
    #[must_use]
    pub fn ink(self) -> Yuv {
        let luminance = self.luminance() + 0.05;
        if 1.05 / luminance > luminance / 0.05 { LIGHT_INK } else { DARK_INK }
    }

    fn luminance(self) -> f32 {
        let [r, g, b] = self.linear();
        0.2126 * r + 0.7152 * g + 0.0722 * b
    }

    fn linear(self) -> [f32; 3] {
        self.0.map(|value| {
            let value = f32::from(value) / 255.0;
            if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
        })
    }
}

impl fmt::Display for Rgb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [r, g, b] = self.0;
        write!(f, "#{r:02x}{g:02x}{b:02x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Matrix = [[f32; 3]; 3];

    const NORMAL: Matrix = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
    // Machado, Oliveira, Fernandes 2009, severity 1.
    const DEUTERANOPIA: Matrix = [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]];
    const PROTANOPIA: Matrix = [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]];

    fn times(matrix: &Matrix, colour: [f32; 3]) -> [f32; 3] {
        matrix.map(|row| row.iter().zip(colour).map(|(a, b)| a * b).sum::<f32>().clamp(0.0, 1.0))
    }

    fn oklab(colour: [f32; 3]) -> [f32; 3] {
        let cone = [[0.4122, 0.5363, 0.0514], [0.2119, 0.6807, 0.1074], [0.0883, 0.2817, 0.6300]];
        let lab = [[0.2105, 0.7936, -0.0041], [1.9780, -2.4286, 0.4506], [0.0259, 0.7828, -0.8087]];
        let cones = times(&cone, colour).map(f32::cbrt);
        lab.map(|row| row.iter().zip(cones).map(|(a, b)| a * b).sum())
    }

    #[test]
    fn the_colours_of_any_two_classes_differ_for_every_eye() {
        for (vision, least) in [(NORMAL, 0.10), (DEUTERANOPIA, 0.06), (PROTANOPIA, 0.05)] {
            for (n, a) in PALETTE.iter().enumerate() {
                for b in &PALETTE[..n] {
                    let [p, q] = [a, b].map(|colour| oklab(times(&vision, colour.linear())));
                    let distance = p.iter().zip(q).map(|(p, q)| (p - q).powi(2)).sum::<f32>().sqrt();
                    assert!(distance > least, "{a} and {b}: {distance:.3}");
                }
            }
        }
    }

    #[test]
    fn text_stands_out_on_every_plate() {
        for plate in PALETTE {
            let luminance = plate.luminance() + 0.05;
            let contrast = if plate.ink() == LIGHT_INK { 1.05 / luminance } else { luminance / 0.05 };
            assert!(contrast >= 4.5, "{plate}: {contrast:.1} (WCAG 2 asks for 4.5)");
        }
    }

    #[test]
    fn black_white_and_the_primaries_convert_to_the_values_of_the_standard() {
        let yuv = |r, g, b| {
            let Yuv { y, u, v } = Rgb([r, g, b]).yuv();
            (y, u, v)
        };
        assert_eq!(yuv(0, 0, 0), (16, 128, 128));
        assert_eq!(yuv(255, 255, 255), (235, 128, 128));
        assert_eq!(yuv(255, 0, 0), (82, 90, 240));
        assert_eq!(yuv(0, 0, 255), (41, 240, 110));
    }

    #[test]
    fn classes_beyond_the_palette_begin_again_and_display_as_the_page_wants() {
        assert_eq!(rgb_of(16), rgb_of(0));
        assert_eq!(rgb_of(u32::MAX).to_string().len(), 7);
        assert_eq!(rgb_of(0).to_string(), "#1fe0a0");
    }
}
