//! The way to the server: its address, and TLS with the system's certificates or a given authority's.

use std::path::Path;
use std::time::Duration;

use tonic::transport::{Certificate, ClientTlsConfig, Endpoint};

use super::RemoteOptions;

/// Where the server of `options` is; nothing is called yet.
///
/// # Errors
/// Says what is wrong with the address, or with the authority's certificate.
pub fn endpoint(options: &RemoteOptions, limit: Duration) -> Result<Endpoint, String> {
    let RemoteOptions { address, ca, .. } = options;
    let secure = address.strip_prefix("grpcs://");
    let place = secure.or_else(|| address.strip_prefix("grpc://")).unwrap_or(address);
    let scheme = if secure.is_some() { "https" } else { "http" };
    let endpoint = Endpoint::from_shared(format!("{scheme}://{place}")).map_err(|error| error.to_string())?;
    // An answer of a megabyte is one burst: with the default window of 64 KiB it would take many round trips.
    let endpoint = endpoint
        .connect_timeout(limit)
        .tcp_nodelay(true)
        .initial_stream_window_size(16 * 1024 * 1024)
        .initial_connection_window_size(32 * 1024 * 1024);
    if secure.is_none() {
        return Ok(endpoint);
    }
    let trusted = match ca {
        Some(path) => ClientTlsConfig::new().ca_certificate(authority(path)?),
        None => ClientTlsConfig::new().with_native_roots(),
    };
    endpoint.tls_config(trusted).map_err(|error| match std::error::Error::source(&error) {
        Some(source) => format!("TLS: {error}: {source}"),
        None => format!("TLS: {error}"),
    })
}

/// The certificate of an authority, PEM.
fn authority(path: &Path) -> Result<Certificate, String> {
    let wrong = |reason: String| format!("remote_ca {}: {reason}", path.display());
    let pem = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
    // A file without any would be trusted by nobody, and say nothing.
    if !pem.windows(MARK.len()).any(|bytes| bytes == MARK) {
        return Err(wrong("a certificate in PEM form is expected".to_owned()));
    }
    Ok(Certificate::from_pem(pem))
}

/// How a certificate begins in PEM form (RFC 7468).
const MARK: &[u8] = b"-----BEGIN CERTIFICATE-----";

#[cfg(test)]
mod tests {
    use super::*;

    fn options(address: &str, ca: Option<&Path>) -> RemoteOptions {
        let timeout = Duration::from_secs(1);
        let ca = ca.map(Path::to_path_buf);
        RemoteOptions { address: address.into(), ca, model: "x".into(), timeout, concurrency: 1 }
    }

    #[test]
    fn an_address_says_whether_the_way_is_encrypted() {
        let limit = Duration::from_secs(1);
        for (address, expected) in [("grpc://a:1", "http://a:1/"), ("grpcs://a:1", "https://a:1/")] {
            assert_eq!(endpoint(&options(address, None), limit).unwrap().uri().to_string(), expected);
        }
        assert!(endpoint(&options("grpc://a b:1", None), limit).is_err());
    }

    #[test]
    fn an_authority_without_a_certificate_is_refused_with_its_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        let said = || endpoint(&options("grpcs://a:1", Some(&path)), Duration::from_secs(1)).unwrap_err();
        assert!(said().contains("ca.pem"), "{}", said());
        std::fs::write(&path, "no certificate").unwrap();
        assert!(said().contains("PEM form is expected"), "{}", said());
    }
}
