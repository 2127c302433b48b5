//! What a person wrote, quoted without its secrets.

use crate::source::camera::Address;

/// A text in which an address may stand, with the secrets of every address in it hidden: for messages that quote what a
/// person wrote. What looks like an address and cannot be read as one is hidden whole.
#[must_use]
pub fn hide_secrets(text: &str) -> String {
    let quote = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '`');
    text.split_inclusive(quote)
        .map(|word| {
            let body = word.trim_end_matches(quote);
            let end = word.get(body.len()..).unwrap_or_default();
            match (body.parse::<Address>(), body.find("://").map(|at| at + 3)) {
                (Ok(address), at) if !is_ambiguous(body, at) => format!("{address}{end}"),
                // A scheme alone is one that a message speaks of.
                (_, Some(at)) if at < body.len() => format!("{}***{end}", body.get(..at).unwrap_or_default()),
                (_, _) if body.contains('@') => format!("***{end}"),
                (_, _) => word.to_owned(),
            }
        })
        .collect()
}

/// Whether an `@` stands behind the host of an address whose scheme ends at `at`: a password may have had a `/`, `?` or `#` that
/// was not written as `%2F`, and what is read as host and path is the end of it.
fn is_ambiguous(text: &str, at: Option<usize>) -> bool {
    let rest = at.and_then(|at| text.get(at..)).unwrap_or_default();
    rest.split_once(['/', '?', '#']).is_some_and(|(_, behind)| behind.contains('@'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn addresses_in_a_message_lose_their_secrets() {
        for (text, shown) in [
            (
                "unknown variant `rtsp://u:s3cret@cam/1`, expected `tcp`",
                "unknown variant `rtsp://u:***@cam/1`, expected `tcp`",
            ),
            ("string \"https://u:s3cret@cam/1\", expected", "string \"https://***\", expected"),
            ("s3:s3cret@cam is no address", "*** is no address"),
            ("no camera at rtsp://u:s3/cr@et@cam/1 now", "no camera at rtsp://*** now"),
            ("write rtsp:// or http://", "write rtsp:// or http://"),
            ("nothing  to hide", "nothing  to hide"),
        ] {
            assert_eq!(hide_secrets(text), shown);
        }
    }

    proptest! {
        /// Capitals stand in the password alone, so none of them may be left. (A password such as `://` or `***` stands in
        /// every message: to look for the whole of it would find what is no secret.)
        #[test]
        fn no_password_stands_in_a_message(
            before in "[a-z `\"]{0,12}", user in "[a-z]{1,5}", after in "[a-z `\"]{0,12}",
            password in "[A-Z!$%&*+/:=?@#]{0,6}[A-Z][A-Z!$%&*+/:=?@#]{2,6}",
        ) {
            let hidden = hide_secrets(&format!("{before} rtsp://{user}:{password}@cam/live {after}"));
            prop_assert!(!hidden.contains(|c: char| c.is_ascii_uppercase()), "{}", hidden);
        }
    }
}
