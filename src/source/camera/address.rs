//! A camera's address, which often holds a password: what is shown of it never does.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use url::{Position, Url};

use crate::source::SourceError;

/// Stands where a secret stood.
const HIDDEN: &str = "***";

/// A name that contains one of these words, before a `=`, has a secret behind it. Cameras write it in the query
/// (`?user=admin&pwd=…`, `?loginpas=…`) or in the path (`/user=admin_password=…_channel=1.sdp`).
const SECRET_NAMES: [&str; 9] = ["pass", "pwd", "pas=", "psw", "token", "secret", "key", "auth", "sig"];

/// What separates the parameters of a query, and those that stand in a path.
const SEPARATORS: [char; 5] = ['/', '?', '&', ';', '#'];

/// Where a camera is: `rtsp://…`, `http://…` (Motion JPEG) or `file:PATH` (an H.264 or MP4 file, played in a loop).
///
/// `Display`, `Debug` and `Serialize` hide the password and what looks like a secret in the parameters; two addresses that
/// differ in their secrets only are not equal.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    whole: String,
    place: Place,
}

/// What an address leads to.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// RTSP, with the credentials still in it.
    Rtsp(Url),
    /// Motion JPEG over HTTP, with the credentials still in it.
    Http(Url),
    /// A file.
    File(PathBuf),
}

/// A user's name and password, as they are sent: percent-decoded.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Credentials {
    pub(super) user: String,
    pub(super) password: String,
}

impl Address {
    /// The whole address, secrets included: for connecting, and for a file that only the server reads.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.whole
    }

    /// The file of a `file:` address.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        match &self.place {
            Place::File(path) => Some(path),
            _ => None,
        }
    }

    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// Name or IP address and port of the camera; `None` for a file. An IPv6 address has no brackets.
    pub(super) fn endpoint(&self) -> Option<(&str, u16)> {
        let (url, port) = match &self.place {
            Place::Rtsp(url) => (url, 554),
            Place::Http(url) => (url, 80),
            Place::File(_) => return None,
        };
        let host = url.host_str()?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        Some((host, url.port().unwrap_or(port)))
    }

    /// The address without user and password, and these apart.
    pub(super) fn split(url: &Url) -> (Url, Option<Credentials>) {
        let mut bare = url.clone();
        // They fail on addresses without a host only, which are refused on parsing.
        let _ = bare.set_username("");
        let _ = bare.set_password(None);
        let credentials = (!url.username().is_empty() || url.password().is_some()).then(|| Credentials {
            user: percent_decoded(url.username()),
            password: percent_decoded(url.password().unwrap_or_default()),
        });
        (bare, credentials)
    }

    /// `text` with every secret of this address hidden: for messages of others, which may quote what they were given.
    #[must_use]
    pub fn redact(&self, text: &str) -> String {
        let mut parts = vec![Part::Clear(text.to_owned())];
        for secret in self.secrets() {
            parts = parts.into_iter().flat_map(|part| part.without(&secret)).collect();
        }
        parts.iter().map(Part::text).collect()
    }

    /// What must not be seen, as it stands in the address and percent-decoded, the longest first. What is shorter than three
    /// bytes would be found in every word, so that hiding it would tell it.
    fn secrets(&self) -> Vec<String> {
        let (Place::Rtsp(url) | Place::Http(url)) = &self.place else { return Vec::new() };
        let (before_at, rest) = misplaced(behind_authority(url));
        let parameters = rest.split(SEPARATORS).chain(self.whole.split(SEPARATORS));
        let parameters = parameters.filter_map(|segment| segment.get(secret_at(segment)?..));
        // As it was typed: `Url` cuts and encodes a password that is not written as it should be.
        let typed = self.whole.split_once("://").and_then(|(_, rest)| rest.rsplit_once('@'));
        let typed = typed.and_then(|(user, _)| user.split_once(':')).map(|(_, password)| password);
        let mut secrets: Vec<String> =
            url.password().into_iter().chain(before_at).chain(typed).chain(parameters).map(str::to_owned).collect();
        secrets.extend(secrets.clone().iter().map(|secret| percent_decoded(secret)));
        secrets.retain(|secret| secret.len() >= 3);
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        secrets
    }
}

/// A stretch of a text from which secrets are taken out: what stands in the place of one is not searched for the next.
enum Part {
    Clear(String),
    Hidden,
}

impl Part {
    fn without(self, secret: &str) -> Vec<Self> {
        let Self::Clear(text) = self else { return vec![self] };
        let mut parts = Vec::new();
        for (n, clear) in text.split(secret).enumerate() {
            if n > 0 {
                parts.push(Self::Hidden);
            }
            parts.push(Self::Clear(clear.to_owned()));
        }
        parts
    }

    fn text(&self) -> &str {
        match self {
            Self::Clear(text) => text,
            Self::Hidden => HIDDEN,
        }
    }
}

/// Path, query and fragment.
fn behind_authority(url: &Url) -> &str {
    &url[Position::BeforePath..]
}

/// What stands before an `@` behind the host, and the rest: most likely a password with a `/` in it that has been cut there.
fn misplaced(behind_authority: &str) -> (Option<&str>, &str) {
    match behind_authority.rsplit_once('@') {
        Some((before, rest)) => (Some(before), rest),
        None => (None, behind_authority),
    }
}

/// Where the secret begins in one `name=value`.
fn secret_at(segment: &str) -> Option<usize> {
    let lower = segment.to_ascii_lowercase();
    let name = SECRET_NAMES.iter().filter_map(|word| lower.find(word)).min()?;
    let equals = lower.get(name..)?.find('=')?;
    Some(name + equals + 1)
}

fn percent_decoded(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned()
}

impl FromStr for Address {
    type Err = SourceError;

    /// Never quotes what it was given: it may hold a password.
    fn from_str(text: &str) -> Result<Self, SourceError> {
        let wrong = |what: &str| SourceError::Address(what.to_owned());
        let text = text.trim();
        let (scheme, rest) = text.split_once(':').ok_or_else(|| wrong(WITHOUT_SCHEME))?;
        let place = match scheme.to_ascii_lowercase().as_str() {
            "file" => Place::File(file_path(rest).ok_or_else(|| wrong("`file:` is to be followed by a path"))?),
            scheme @ ("rtsp" | "http") => {
                let url = Url::parse(text).map_err(|error| {
                    SourceError::Address(format!(
                        "it is not a valid address ({error}): in user and password write `@` as %40, `/` as %2F, `:` as %3A, `#` as %23 and `?` as %3F"
                    ))
                })?;
                if url.host_str().is_none_or(str::is_empty) {
                    return Err(wrong("it names no host: write rtsp://HOST/PATH"));
                }
                // What stands before it as the host or the port may be a part of the password: it could be shown nowhere.
                let cut = !url.username().is_empty() || url.password().is_some() || url.port().is_some();
                if cut && misplaced(behind_authority(&url)).0.is_some() {
                    return Err(wrong(
                        "an `@` stands behind the path's beginning: in a password write `/` as %2F, `#` as %23 and `?` as %3F; in a path write `@` as %40",
                    ));
                }
                if scheme == "rtsp" { Place::Rtsp(url) } else { Place::Http(url) }
            }
            "https" => {
                return Err(wrong(
                    "https is not supported for cameras: use http:// where the network can be trusted, or the camera's rtsp:// address",
                ));
            }
            "rtsps" | "rtspx" => {
                return Err(wrong(
                    "RTSP over TLS is not supported: use rtsp:// where the network can be trusted, or a VPN or TLS proxy on the camera's side",
                ));
            }
            scheme @ ("rtmp" | "rtmps" | "srt" | "rtp" | "udp" | "onvif" | "ws" | "wss" | "ftp" | "hls") => {
                return Err(SourceError::Address(format!(
                    "{scheme}:// is not supported for cameras: use rtsp://, http:// (Motion JPEG) or file:"
                )));
            }
            _ => return Err(wrong(WITHOUT_SCHEME)),
        };
        Ok(Self { whole: text.to_owned(), place })
    }
}

const WITHOUT_SCHEME: &str = "it does not begin with rtsp://, http:// (Motion JPEG) or file:";

/// The path of `file:PATH` as it stands, of `file:///PATH` percent-decoded.
fn file_path(rest: &str) -> Option<PathBuf> {
    let path = match rest.strip_prefix("//") {
        Some(url) => percent_decoded(url.strip_prefix("localhost").unwrap_or(url)),
        None => rest.to_owned(),
    };
    (!path.is_empty()).then(|| PathBuf::from(path))
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = match &self.place {
            Place::File(_) => return f.write_str(&self.whole),
            Place::Rtsp(url) | Place::Http(url) => url,
        };
        write!(f, "{}://", url.scheme())?;
        match (url.username(), url.password()) {
            ("", None) => {}
            (user, None) => write!(f, "{user}@")?,
            (user, Some(_)) => write!(f, "{user}:{HIDDEN}@")?,
        }
        f.write_str(&url[Position::BeforeHost..Position::BeforePath])?;
        let (before_at, rest) = misplaced(behind_authority(url));
        if before_at.is_some() {
            write!(f, "/{HIDDEN}@")?;
        }
        for segment in rest.split_inclusive(SEPARATORS) {
            let body = segment.trim_end_matches(SEPARATORS);
            match secret_at(body).and_then(|at| body.get(..at)) {
                Some(name) => write!(f, "{name}{HIDDEN}{}", segment.get(body.len()..).unwrap_or_default())?,
                None => f.write_str(segment)?,
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{HIDDEN}", self.user)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn address(text: &str) -> Address {
        text.parse().unwrap()
    }

    #[test]
    fn what_is_shown_has_no_secret_in_it() {
        for (whole, shown) in [
            ("rtsp://cam/live", "rtsp://cam/live"),
            ("rtsp://admin:s3cret@10.0.0.7:8554/live?a=1&b=2", "rtsp://admin:***@10.0.0.7:8554/live?a=1&b=2"),
            ("rtsp://admin:p%40ss@[fe80::1]/", "rtsp://admin:***@[fe80::1]/"),
            ("rtsp://admin:p@ss@cam/live", "rtsp://admin:***@cam/live"),
            ("rtsp://:s3cret@cam/", "rtsp://:***@cam/"),
            ("http://cam/video.cgi?user=admin&pwd=s3cret&fps=5", "http://cam/video.cgi?user=admin&pwd=***&fps=5"),
            ("http://cam/cgi?loginuse=a&loginpas=s3cret", "http://cam/cgi?loginuse=a&loginpas=***"),
            ("http://cam/?access_token=abc&x=1#authKey=2", "http://cam/?access_token=***&x=1#authKey=***"),
            ("rtsp://cam/user=admin_password=s3_x_channel=1.sdp?real", "rtsp://cam/user=admin_password=***?real"),
            ("rtsp://cam/user=admin&password=s3&channel=1", "rtsp://cam/user=admin&password=***&channel=1"),
            ("rtsp://cam/s3cret@cam/live", "rtsp://cam/***@cam/live"),
            ("file:/srv/a clip.mp4", "file:/srv/a clip.mp4"),
        ] {
            let address = address(whole);
            assert_eq!(address.to_string(), shown);
            assert_eq!(format!("{address:?}"), shown);
            assert_eq!(serde_json::to_value(&address).unwrap(), shown);
            assert_eq!(address.reveal(), whole);
        }
    }

    #[test]
    fn what_cannot_be_used_says_why_and_keeps_the_password() {
        for (text, why) in [
            ("https://u:s3cret@cam/", "https"),
            ("rtsps://u:s3cret@cam/", "TLS"),
            ("rtmp://u:s3cret@cam/", "rtmp"),
            ("u:s3cret@cam", "rtsp://"),
            ("s3cret", "rtsp://"),
            ("rtsp:///s3cret", "host"),
            ("rtsp://u:s3cret#x@cam/", "%23"),
            ("rtsp://u:12/s3cret@cam/", "%2F"),
            ("rtsp://u:p@s3cret/1@cam/", "%2F"),
            ("rtsp://u@s3cret/#@cam/", "%40"),
            ("file:", "path"),
        ] {
            let error = text.parse::<Address>().unwrap_err().to_string();
            assert!(error.contains(why) && !error.contains("s3cret"), "{error}");
        }
        let error = serde_json::from_str::<Address>("\"rtsps://u:s3cret@cam/\"").unwrap_err().to_string();
        assert!(error.contains("TLS") && !error.contains("s3cret"), "{error}");
    }

    #[test]
    fn user_and_password_come_apart_decoded() {
        let address = address("rtsp://ad%6Din:p%40%2Fs@cam:5554/live?x=1");
        let Place::Rtsp(url) = address.place() else { panic!("not RTSP") };
        let (bare, credentials) = Address::split(url);
        let credentials = credentials.unwrap();
        assert_eq!(bare.as_str(), "rtsp://cam:5554/live?x=1");
        assert_eq!((credentials.user.as_str(), credentials.password.as_str()), ("admin", "p@/s"));
        assert!(!format!("{credentials:?}").contains("p@/s"));
    }

    #[test]
    fn the_endpoint_has_the_schemes_port() {
        assert_eq!(address("rtsp://cam/x").endpoint(), Some(("cam", 554)));
        assert_eq!(address("http://cam/x").endpoint(), Some(("cam", 80)));
        assert_eq!(address("http://[::1]:8080/x").endpoint(), Some(("::1", 8080)));
        assert_eq!(address("file:///a%20b.mp4").endpoint(), None);
        assert_eq!(address("file:///a%20b.mp4").file(), Some(Path::new("/a b.mp4")));
        assert_eq!(address("file:clips/a.mp4").file(), Some(Path::new("clips/a.mp4")));
    }

    #[test]
    fn foreign_messages_lose_the_secret_in_every_form() {
        let address = address("rtsp://admin:p%40ssword@cam/live?token=abcdef");
        let said = address.redact("DESCRIBE rtsp://admin:p%40ssword@cam/live?token=abcdef: no p@ssword for admin");
        assert_eq!(said, "DESCRIBE rtsp://admin:***@cam/live?token=***: no *** for admin");
    }

    proptest! {
        #[test]
        fn no_shown_text_ever_contains_the_password(
            scheme in prop::sample::select(vec!["rtsp", "http"]),
            user in "[a-z]{0,4}",
            // Letters that occur nowhere else in the address, with what URLs treat specially between them.
            password in "[Q-Z][Q-Z0-9@:;,/?#=&%!$ _~.+*'()\\-]{0,12}[Q-Z]{3}",
            path in "(/[a-z=_&]{0,8}){0,3}",
            query in "(\\?[a-z]{1,6}=[a-z]{0,3})?",
            port in prop::option::of(1u16..),
        ) {
            let port = port.map(|port| format!(":{port}")).unwrap_or_default();
            let secret: String = password.chars().filter(|letter| ('Q'..='Z').contains(letter)).collect();
            let tail = &secret[secret.len() - 3..];
            let is_secret = |letter: char| ('Q'..='Z').contains(&letter);
            let typed = format!("{scheme}://{user}:{password}@host{port}{path}{query}");
            if let Ok(address) = typed.parse::<Address>() {
                prop_assert!(!address.to_string().contains(is_secret), "{} shows {}", typed, address);
            }
            let encoded: String = password.bytes().map(|byte| format!("%{byte:02x}")).collect();
            for text in [
                format!("{scheme}://{user}:{password}@host{port}{path}{query}"),
                format!("{scheme}://{user}:{encoded}@host{port}{path}{query}"),
                format!("{scheme}://host{port}{path}?password={}", password.replace(['&', ';', '#', '/', '?', '@'], "")),
                format!("{scheme}://host{port}/user=a_password={}", password.replace(['&', ';', '#', '/', '?', '@'], "")),
            ] {
                match text.parse::<Address>() {
                    Ok(address) => {
                        let shown = format!("{address} {address:?} {}", serde_json::to_string(&address).unwrap());
                        prop_assert!(!shown.contains(tail), "{} shows {}", text, shown);
                        prop_assert!(!shown.contains(&encoded), "{} shows {}", text, shown);
                        let quoted = address.redact(&format!("no {text} there"));
                        prop_assert!(!quoted.contains(&password) || text.contains("host/user"), "{} becomes {}", text, quoted);
                        prop_assert_eq!(address.reveal(), text.trim());
                    }
                    Err(error) => prop_assert!(!error.to_string().contains(tail), "{}", error),
                }
            }
        }

        #[test]
        fn any_text_at_all_is_an_address_or_an_error(text in "\\PC{0,40}") {
            for text in [text.clone(), format!("rtsp://{text}"), format!("file:{text}")] {
                if let Ok(address) = text.parse::<Address>() {
                    let _ = (address.to_string(), address.endpoint().is_some(), address.redact(&text));
                }
            }
        }
    }
}
