//! The encodes of one stream, as the fan-out tells them apart: of the pictures with boxes and of those as they are, by tier.

use super::frame::Bitstream;
use super::tiers::TIERS;
use crate::media::KeyframeRequest;

/// Who is asked for an IDR of what.
#[derive(Clone, Debug)]
pub struct KeyframeRequests {
    /// The encodes of the pictures with boxes, by tier.
    pub annotated: [KeyframeRequest; TIERS],
    /// The encodes of the pictures as they are, by tier.
    pub plain: [KeyframeRequest; TIERS],
    /// The source; `None` when it cannot be asked.
    pub source: Option<KeyframeRequest>,
}

/// Which encodes are needed now, and by how many viewers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Demand {
    /// Who gets the pictures with boxes.
    pub annotated: usize,
    /// Who gets an encode of the pictures as they are.
    pub plain: usize,
}

/// Something for each encode.
#[derive(Debug, Default)]
pub(super) struct Encodes<T> {
    pub(super) annotated: [T; TIERS],
    pub(super) plain: [T; TIERS],
}

impl<T> Encodes<T> {
    /// For each what `make` makes.
    pub(super) fn each(mut make: impl FnMut() -> T) -> Self {
        Self { annotated: std::array::from_fn(|_| make()), plain: std::array::from_fn(|_| make()) }
    }

    /// Of the source's own there is none.
    pub(super) fn get(&self, bitstream: Bitstream, tier: usize) -> Option<&T> {
        match bitstream {
            Bitstream::Annotated => self.annotated.get(tier),
            Bitstream::Plain => self.plain.get(tier),
            Bitstream::Source => None,
        }
    }

    /// As [`get`](Self::get).
    pub(super) fn get_mut(&mut self, bitstream: Bitstream, tier: usize) -> Option<&mut T> {
        match bitstream {
            Bitstream::Annotated => self.annotated.get_mut(tier),
            Bitstream::Plain => self.plain.get_mut(tier),
            Bitstream::Source => None,
        }
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &T> {
        self.annotated.iter().chain(&self.plain)
    }

    pub(super) fn all_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.annotated.iter_mut().chain(&mut self.plain)
    }
}

/// Whom to ask once the lock is free.
#[derive(Debug, Default)]
pub(super) struct Asks {
    encodes: Encodes<bool>,
    pub(super) source: bool,
}

impl Asks {
    /// An IDR of this encode is wanted.
    pub(super) fn ask(&mut self, bitstream: Bitstream, tier: usize) {
        if let Some(asked) = self.encodes.get_mut(bitstream, tier) {
            *asked = true;
        }
    }

    /// Asks.
    pub(super) fn send(&self, requests: &KeyframeRequests) {
        let encodes = requests.annotated.iter().chain(&requests.plain);
        encodes.zip(self.encodes.all()).filter(|(_, asked)| **asked).for_each(|(request, _)| request.request());
        if let Some(source) = requests.source.as_ref().filter(|_| self.source) {
            source.request();
        }
    }
}
