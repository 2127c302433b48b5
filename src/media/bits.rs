//! The bits of a NAL unit's payload, as H.264 and H.265 write them: fixed fields and Exp-Golomb codes, with emulation
//! prevention bytes between them (ITU-T H.264 §7.4.1, §9.1; H.265 has the same).

/// Reads bits, most significant first, and passes over emulation prevention bytes. A read past the end is `None`.
#[derive(Clone, Debug)]
pub(crate) struct Bits<'a> {
    bytes: &'a [u8],
    position: usize,
    zeros: u32,
    current: u8,
    left: u32,
    consumed: usize,
}

impl<'a> Bits<'a> {
    /// The bits of a payload, which begins behind the NAL unit's header.
    pub(crate) fn new(payload: &'a [u8]) -> Self {
        Self { bytes: payload, position: 0, zeros: 0, current: 0, left: 0, consumed: 0 }
    }

    /// How many bits were read, emulation prevention bytes not counted.
    pub(crate) fn consumed(&self) -> usize {
        self.consumed
    }

    /// The next bit.
    pub(crate) fn flag(&mut self) -> Option<bool> {
        if self.left == 0 {
            let mut byte = self.next_byte()?;
            if self.zeros >= 2 && byte == 3 {
                self.zeros = 0;
                byte = self.next_byte()?;
            }
            self.zeros = if byte == 0 { self.zeros + 1 } else { 0 };
            (self.current, self.left) = (byte, 8);
        }
        self.left -= 1;
        self.consumed += 1;
        Some(self.current >> self.left & 1 == 1)
    }

    fn next_byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.position)?;
        self.position += 1;
        Some(byte)
    }

    /// The next `count` bits, at most 32, as an unsigned number.
    pub(crate) fn take(&mut self, count: u32) -> Option<u32> {
        (0..count).try_fold(0, |value, _| Some(value << 1 | u32::from(self.flag()?)))
    }

    /// Passes over `count` bits.
    pub(crate) fn skip(&mut self, count: u32) -> Option<()> {
        (0..count).try_for_each(|_| self.flag().map(drop))
    }

    /// Exp-Golomb, unsigned (§9.1), up to 2³² − 2.
    pub(crate) fn ue(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while !self.flag()? {
            zeros += 1;
            if zeros > 31 {
                return None;
            }
        }
        Some((1u32 << zeros) - 1 + self.take(zeros)?)
    }

    /// Exp-Golomb, signed (§9.1.1).
    pub(crate) fn se(&mut self) -> Option<i64> {
        let code = i64::from(self.ue()?);
        Some(if code % 2 == 0 { -(code / 2) } else { code / 2 + 1 })
    }
}

/// Collects bits into a NAL unit.
#[derive(Debug, Default)]
pub(crate) struct BitWriter {
    bytes: Vec<u8>,
    used: u32,
}

impl BitWriter {
    /// Appends a bit.
    pub(crate) fn push(&mut self, bit: bool) {
        if self.used.is_multiple_of(8) {
            self.bytes.push(0);
        }
        if let Some(last) = self.bytes.last_mut() {
            *last |= u8::from(bit) << (7 - self.used % 8);
        }
        self.used += 1;
    }

    /// The NAL unit of `header` and the bits, the last byte filled with zeros, with emulation prevention bytes put in.
    pub(crate) fn into_nal(self, header: u8) -> Vec<u8> {
        let mut nal = vec![header];
        let mut zeros = 0;
        for byte in self.bytes {
            if zeros >= 2 && byte <= 3 {
                nal.push(3);
                zeros = 0;
            }
            zeros = if byte == 0 { zeros + 1 } else { 0 };
            nal.push(byte);
        }
        nal
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn put_ue(out: &mut BitWriter, value: u32) {
        let code = u64::from(value) + 1;
        let length = 64 - code.leading_zeros();
        (1..length).for_each(|_| out.push(false));
        (0..length).rev().for_each(|bit| out.push(code >> bit & 1 == 1));
    }

    #[test]
    fn signed_codes_alternate() {
        // 1, 010, 011, 00100, 00101: the values 0, 1, −1, 2, −2
        let mut bits = Bits::new(&[0b1010_0110, 0b0100_0010, 0b1000_0000]);
        assert_eq!([(); 5].map(|()| bits.se()), [0, 1, -1, 2, -2].map(Some));
    }

    proptest! {
        #[test]
        fn exp_golomb_codes_read_back_whatever_they_emulate(values in prop::collection::vec(prop_oneof![0u32..4, 0..u32::MAX], 1..20)) {
            let mut out = BitWriter::default();
            values.iter().for_each(|&value| put_ue(&mut out, value));
            let nal = out.into_nal(0x67);
            prop_assert!(!nal.windows(3).any(|w| w[0] == 0 && w[1] == 0 && w[2] < 3), "a start code is emulated");
            let mut bits = Bits::new(&nal[1..]);
            for value in values {
                prop_assert_eq!(bits.ue(), Some(value));
            }
        }

        #[test]
        fn no_payload_is_read_past_its_end(payload in prop::collection::vec(0u8..5, 0..40), reads in prop::collection::vec(0u8..4, 0..60)) {
            let mut bits = Bits::new(&payload);
            for read in reads {
                let _ = match read {
                    0 => bits.flag().map(drop),
                    1 => bits.take(32).map(drop),
                    2 => bits.ue().map(drop),
                    _ => bits.se().map(drop),
                };
                prop_assert!(bits.consumed() <= payload.len() * 8);
            }
        }
    }
}
