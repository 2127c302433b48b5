//! The little of STUN that a demultiplexer needs: is it STUN, and for whom is it (RFC 8489 §5, RFC 8445 §7.2.2).

/// STUN messages, RTP and DTLS share a port; the first byte tells them apart (RFC 7983 §7).
#[must_use]
pub(super) fn is_stun(datagram: &[u8]) -> bool {
    matches!(datagram.first(), Some(0..=3)) && datagram.get(4..8) == Some(&MAGIC_COOKIE)
}

const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xA4, 0x42];
const HEADER_BYTES: usize = 20;
const ATTRIBUTE_USERNAME: u16 = 0x0006;

/// The receiver's user fragment of a connectivity check: what stands before the colon of USERNAME. `None` for
/// responses, for indications, and for anything that is not well-formed.
#[must_use]
pub(super) fn local_ufrag(datagram: &[u8]) -> Option<&str> {
    if !is_stun(datagram) {
        return None;
    }
    let mut rest = datagram.get(HEADER_BYTES..)?;
    while let [t0, t1, l0, l1, body @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*l0, *l1]));
        let value = body.get(..length)?;
        if u16::from_be_bytes([*t0, *t1]) == ATTRIBUTE_USERNAME {
            return std::str::from_utf8(value).ok()?.split(':').next();
        }
        rest = body.get(length.next_multiple_of(4)..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn binding_request(attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut body = Vec::new();
        for (kind, value) in attributes {
            body.extend(kind.to_be_bytes());
            body.extend(u16::try_from(value.len()).unwrap().to_be_bytes());
            body.extend(*value);
            body.resize(body.len().next_multiple_of(4), 0);
        }
        let mut message = vec![0, 1];
        message.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
        message.extend(MAGIC_COOKIE);
        message.extend([7; 12]);
        message.extend(body);
        message
    }

    #[test]
    fn a_check_names_the_peer_it_is_for() {
        let message = binding_request(&[(0x0024, &[0, 0, 0, 1]), (ATTRIBUTE_USERNAME, b"srv123:cli")]);
        assert_eq!(local_ufrag(&message), Some("srv123"));
    }

    #[test]
    fn media_is_not_stun() {
        assert!(!is_stun(&[0x80, 96, 0, 1, 0x21, 0x12, 0xA4, 0x42]));
        assert_eq!(local_ufrag(&[]), None);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..200), stun in any::<bool>()) {
            if stun && bytes.len() > 8 {
                bytes[0] = 0;
                bytes[4..8].copy_from_slice(&MAGIC_COOKIE);
            }
            let _ = local_ufrag(&bytes);
        }

        #[test]
        fn the_ufrag_is_found_behind_any_other_attributes(
            others in prop::collection::vec((7u16..0xffff, prop::collection::vec(any::<u8>(), 0..30)), 0..5),
            ufrag in "[a-zA-Z0-9+/]{4,32}",
        ) {
            let user = format!("{ufrag}:them");
            let mut attributes: Vec<(u16, &[u8])> = others.iter().map(|(k, v)| (*k, v.as_slice())).collect();
            attributes.push((ATTRIBUTE_USERNAME, user.as_bytes()));
            let message = binding_request(&attributes);
            prop_assert_eq!(local_ufrag(&message), Some(ufrag.as_str()));
        }
    }
}
