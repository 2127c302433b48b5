//! Names of streams and ids of sessions.

use super::options::PipelineError;
use super::redact::hide_secrets;

/// The longest name of a stream.
const MAX_NAME: usize = 64;

/// A wished name, if it fits an address, a label of a metric and a key of the configuration.
pub(super) fn checked_name(name: String) -> Result<String, PipelineError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let reason = if name.is_empty() {
        "a name has at least one character; leave it out to be given one"
    } else if name.len() > MAX_NAME {
        "a name has at most 64 characters"
    } else if !name.chars().all(allowed) || name.starts_with('.') {
        "a name is made of letters, digits, '-', '_' and '.', and does not begin with '.'"
    } else {
        return Ok(name);
    };
    // Somebody may have written an address in its place.
    Err(PipelineError::BadName { name: hide_secrets(&name).chars().take(MAX_NAME).collect(), reason })
}

/// Whether a stream can have this name.
///
/// # Errors
/// [`PipelineError::BadName`].
pub fn check_name(name: &str) -> Result<(), PipelineError> {
    checked_name(name.to_owned()).map(drop)
}

/// Letters and digits that are not mistaken for each other.
pub(super) fn random_name(length: usize) -> String {
    const LETTERS: &[u8] = b"abcdefghjkmnpqrstuvwxyz23456789";
    (0..length).map(|_| char::from(LETTERS[rand::random_range(0..LETTERS.len())])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_that_fit_a_path_and_a_label_are_taken() {
        for good in ["cam-1", "Front_Door", "a.b"] {
            assert_eq!(checked_name(good.to_owned()).unwrap(), good);
        }
        for bad in ["", "a/b", "..", "a b", "ä", &"x".repeat(65)] {
            assert!(checked_name(bad.to_owned()).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_name_of_ours_is_one_that_we_take(length in 1usize..40) {
            let name = random_name(length);
            prop_assert_eq!(name.len(), length);
            prop_assert!(checked_name(name).is_ok());
        }
    }
}
