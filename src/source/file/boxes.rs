//! Boxes of ISO/IEC 14496-12 §4.2 and their fields, read without trust: what does not fit is `None`.

/// The type of a box.
pub(super) type FourCc = [u8; 4];

/// Big-endian fields one after the other; `None` past the end.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(count)?;
        self.0 = tail;
        Some(head)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, tail) = self.0.split_first_chunk()?;
        self.0 = tail;
        Some(*head)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    /// Version and flags of a full box.
    pub(super) fn version(&mut self) -> Option<(u8, u32)> {
        let word = self.u32()?;
        Some(((word >> 24) as u8, word & 0x00ff_ffff))
    }

    /// A time that is 64 bits wide in version 1.
    pub(super) fn time(&mut self, version: u8) -> Option<u64> {
        if version == 1 { self.u64() } else { self.u32().map(u64::from) }
    }
}

/// A box: its type, its content, and where in the file the box begins.
#[derive(Clone, Copy)]
pub(super) struct Atom<'a> {
    pub(super) kind: FourCc,
    pub(super) content: &'a [u8],
    pub(super) begin: usize,
}

/// The boxes that stand one after the other in `data`, which begins at `offset` in the file; ends at the first that does
/// not fit.
pub(super) fn atoms(data: &[u8], offset: usize) -> impl Iterator<Item = Atom<'_>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let mut fields = Fields(data.get(at..)?);
        let available = fields.0.len();
        let size = fields.u32()?;
        let kind = fields.array()?;
        let size = match size {
            0 => available,
            1 => usize::try_from(fields.u64()?).ok()?,
            size => usize::try_from(size).ok()?,
        };
        let header = available - fields.0.len();
        let content = fields.bytes(size.checked_sub(header)?)?;
        let atom = Atom { kind, content, begin: offset + at };
        at += size;
        Some(atom)
    })
}

pub(super) fn child<'a>(data: &'a [u8], kind: &FourCc) -> Option<&'a [u8]> {
    atoms(data, 0).find(|atom| &atom.kind == kind).map(|atom| atom.content)
}

pub(super) fn path<'a>(data: &'a [u8], kinds: &[&FourCc]) -> Option<&'a [u8]> {
    kinds.iter().try_fold(data, |data, kind| child(data, kind))
}
