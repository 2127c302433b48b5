//! What is wrong with a configuration file, in words: line, table, key and value, and never a secret.

use crate::pipeline::hide_secrets;

/// Parts of the names of keys whose values are secrets, and of those that may hold one.
const WORDS: [&str; 4] = ["token", "password", "secret", "credential"];
const HOLDERS: [&str; 2] = ["url", "username"];

fn is_word(key: &str) -> bool {
    WORDS.iter().any(|word| key.to_lowercase().contains(word))
}

/// The error of a TOML text: `line 3, [server]: unknown field …`, with the line itself where it can hold no secret.
pub(super) fn describe(text: &str, error: &toml::de::Error) -> String {
    let mut message = hide_secrets(error.message().trim_end());
    let Some(before) = error.span().and_then(|span| text.get(..span.start.min(text.len()))) else {
        return message;
    };
    // An error of a whole table begins at its header.
    let number = before.matches('\n').count();
    let line = text.lines().nth(number).unwrap_or_default().trim();
    let header = |line: &str| line.starts_with('[').then(|| line.to_owned());
    let table = text.lines().take(number + 1).filter_map(|line| header(line.trim())).last();
    let place = table.as_ref().map_or(String::new(), |table| format!(", {}", hide_secrets(table)));
    let secret = {
        let lower = line.to_lowercase();
        let camera = table.is_some_and(|table| table.contains("cameras"));
        camera
            || lower.contains("://")
            || lower.contains('@')
            || is_word(&lower)
            || HOLDERS.iter().any(|word| lower.contains(word))
    };
    let shown = if line.is_empty() || line.starts_with('[') {
        String::new()
    } else if secret {
        let key = line.split_once('=').map_or("", |(key, _)| key.trim());
        // `invalid type: integer `1234`, expected a string` quotes what was written.
        if let (true, Some((what, _))) = (is_word(key), message.split_once(": ")) {
            message = what.to_owned();
        }
        let fits = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'));
        if fits { format!(", {key} = …") } else { String::new() }
    } else {
        format!(", {line}")
    };
    format!("line {}{place}{shown}: {message}", number + 1)
}

#[cfg(test)]
mod tests {
    use super::super::Config;

    #[test]
    fn the_place_is_named_and_a_secret_is_not() {
        for (text, hints) in [
            ("[server]\nlisten_to = \"x\"", &["line 2", "[server]", "listen_to"][..]),
            ("[server]\nlisten = \"x\"", &["line 2", "[server]", "listen = \"x\""]),
            ("[media]\n\nudp_port = 99999", &["line 3", "[media]", "99999"]),
            ("[cameras.front]\nurl = \"https://u:s3cret@cam/\"", &["line 2", "[cameras.front]", "url = …", "https"]),
            ("[cameras.front]\nurl = \"rtsp://u:s3cret@cam/", &["line 2", "[cameras.front]"]),
            ("[cameras.front]\nurl = rtsp://u:s3cret@cam/", &["line 2", "[cameras.front]"]),
            ("[cameras.front]\nurl = \"rtsp://u:s3cret@cam/\"\nfps = 3", &["line 3", "fps"]),
            ("[cameras.front]\ntransport = \"rtsp://u:s3cret@cam/\"", &["front", "transport", "rtsp://u:***@cam/"]),
            ("[cameras]\nfront = { url = \"rtsp://u:s3cret@cam/\", mode = 3 }", &["line 2", "[cameras]"]),
            ("[cameras]\nfront = \"rtsp://u:s3cret@cam/\"", &["line 2", "[cameras]", "front"]),
            ("cameras.front.url = \"u:s3cret@cam/\"", &["line 1", "cameras.front.url", "rtsp://"]),
            ("[cameras.front]\n\"rtsp://u:s3cret@cam/\" = 1", &["line 2"]),
            ("[server]\nbearer_token = 53cret", &["line 2", "[server]"]),
            ("[server]\nbearer_token = 5363", &["line 2", "[server]", "bearer_token = …", "invalid type"]),
            ("[cameras.front]\ntransport = \"udp\"", &["line 1", "[cameras.front]", "url"]),
        ] {
            let error = Config::parse(text).unwrap_err();
            assert!(hints.iter().all(|hint| error.contains(hint)), "{text}\n{error}");
            assert!(!["s3cret", "53cret", "5363"].iter().any(|secret| error.contains(secret)), "{text}\n{error}");
        }
    }
}
