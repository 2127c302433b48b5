//! STUN and TURN servers that players and publishers are told of, as `Link` headers (RFC 9725 §4.6, RFC 8288).

use axum::http::HeaderValue;
use serde::Deserialize;

use super::bearer::Secret;

/// A STUN or TURN server, in the words of `RTCIceServer` (W3C WebRTC §4.2.2).
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct IceServer {
    /// `stun:`, `stuns:`, `turn:` and `turns:` URIs (RFC 7064, RFC 7065) of one server.
    pub urls: Vec<String>,
    /// The name to use at a TURN server.
    pub username: Option<String>,
    /// The password to use at a TURN server; clients are told it.
    pub credential: Option<Secret>,
}

impl IceServer {
    /// Checks the form.
    ///
    /// # Errors
    /// Names the value and says what it should be.
    pub fn validate(&self) -> Result<(), String> {
        if self.urls.is_empty() {
            return Err("ice_servers: an entry without urls".to_owned());
        }
        for url in &self.urls {
            let scheme = url.split_once(':').map(|(scheme, _)| scheme);
            let plain = url.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'<' | b'>' | b'"'));
            if !plain || !matches!(scheme, Some("stun" | "stuns" | "turn" | "turns")) {
                return Err(format!("ice_servers: {url:?}: write it as stun:HOST[:PORT] or turn:HOST[:PORT]"));
            }
            if url.starts_with("turn") && (self.username.is_none() || self.credential.is_none()) {
                return Err(format!("ice_servers: {url:?} needs username and credential"));
            }
        }
        let texts = [self.username.as_deref(), self.credential.as_ref().map(Secret::reveal)];
        if texts.into_iter().flatten().any(|text| !text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic())) {
            return Err("ice_servers: username and credential are printable ASCII".to_owned());
        }
        Ok(())
    }

    /// One `Link` for each URI; the credentials go with those of TURN.
    fn links(&self) -> impl Iterator<Item = HeaderValue> {
        self.urls.iter().filter_map(|url| {
            let login = self.username.as_deref().zip(self.credential.as_ref()).filter(|_| url.starts_with("turn"));
            let login = login.map(|(username, credential)| {
                let (username, credential) = (quoted(username), quoted(credential.reveal()));
                format!("; username={username}; credential={credential}; credential-type=\"password\"")
            });
            let link = format!("<{url}>; rel=\"ice-server\"{}", login.unwrap_or_default());
            let mut value = HeaderValue::from_str(&link).ok()?;
            value.set_sensitive(true);
            Some(value)
        })
    }
}

/// The `Link` headers of all servers.
pub(super) fn links(servers: &[IceServer]) -> Vec<HeaderValue> {
    servers.iter().flat_map(IceServer::links).collect()
}

/// A quoted string (RFC 9110 §5.6.4).
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(urls: &[&str], login: Option<(&str, &str)>) -> IceServer {
        IceServer {
            urls: urls.iter().map(ToString::to_string).collect(),
            username: login.map(|(name, _)| name.to_owned()),
            credential: login.map(|(_, password)| Secret::from(password.to_owned())),
        }
    }

    #[test]
    fn servers_are_told_as_the_examples_of_the_rfc() {
        let servers = [
            server(&["stun:stun.example.net"], None),
            server(&["turn:t.example?transport=udp"], Some(("user", "a\"b"))),
        ];
        let links = links(&servers);
        assert_eq!(links[0], "<stun:stun.example.net>; rel=\"ice-server\"");
        assert_eq!(
            links[1],
            "<turn:t.example?transport=udp>; rel=\"ice-server\"; username=\"user\"; credential=\"a\\\"b\"; \
             credential-type=\"password\""
        );
        assert!(links[1].is_sensitive());
    }

    #[test]
    fn what_is_no_server_is_named() {
        for (bad, hint) in [
            (server(&[], None), "without urls"),
            (server(&["stun.example.net"], None), "stun:HOST"),
            (server(&["stun:a b"], None), "stun:HOST"),
            (server(&["turn:t.example"], None), "username and credential"),
            (server(&["turn:t.example"], Some(("user", "a\nb"))), "printable"),
        ] {
            let said = bad.validate().unwrap_err();
            assert!(said.contains(hint), "{said}");
        }
        assert_eq!(server(&["turns:t.example:443?transport=tcp"], Some(("u", "p"))).validate(), Ok(()));
    }
}
