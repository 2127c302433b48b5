//! The SHA-256 by which files of models are known.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use sha2::{Digest, Sha256};

/// Of bytes at hand, lower-case hex.
pub(super) fn of(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}

/// Of a file, which is read in pieces: a model may be larger than the memory that is free.
///
/// # Errors
/// What the system says.
pub(super) fn of_file(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut sum = Sha256::new();
    let mut piece = vec![0; 1 << 20];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(format!("{:x}", sum.finalize())),
            read => sum.update(piece.get(..read).unwrap_or_default()),
        }
    }
}

/// Whether the file has this SHA-256, in hex; one that cannot be read has not.
#[must_use]
pub fn has_digest(path: &Path, sum: &str) -> bool {
    of_file(path).is_ok_and(|got| got.eq_ignore_ascii_case(sum))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_the_digest_of_its_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        for length in [0, 1, (1 << 20) - 1, 1 << 20, (2 << 20) + 7] {
            let bytes: Vec<u8> = (0..length).map(|n| u8::try_from(n % 251).unwrap()).collect();
            std::fs::write(&path, &bytes).unwrap();
            assert_eq!(of_file(&path).unwrap(), of(&bytes));
        }
        // FIPS 180-4's own example.
        assert_eq!(of(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert!(of_file(Path::new("/nonexistent")).is_err());
    }
}
