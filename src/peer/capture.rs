//! When frames that come in were captured, by their sender: the header extension abs-capture-time
//! (<https://webrtc.googlesource.com/src/+/main/docs/native-code/rtp-hdrext/abs-capture-time>).

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, PoisonError};

use rtc::rtp;

use super::codecs::ABS_CAPTURE_TIME_URI;
use crate::media::SenderReport;

/// What the other side said last. Senders say it about once a second, and whenever the pace of their timestamps changes.
#[derive(Debug, Default)]
pub(super) struct CaptureTimes {
    /// The negotiated id; 0, which no extension has: none.
    id: AtomicU8,
    newest: Mutex<Option<(u32, SenderReport)>>,
}

impl CaptureTimes {
    /// Learns the extension's id from a description: both sides use the same one (RFC 8285 §6).
    pub(super) fn negotiated(&self, sdp: &str) {
        self.id.store(extension_id(sdp, ABS_CAPTURE_TIME_URI).unwrap_or(0), Ordering::Relaxed);
    }

    /// Notes what the header of a packet says.
    pub(super) fn note(&self, header: &rtp::Header) {
        let id = self.id.load(Ordering::Relaxed);
        let told = if id == 0 { None } else { header.get_extension(id) };
        // The capturer's clock comes first; how far it is off the sender's may follow, and is of no use without the sender's reports.
        let Some(&ntp) = told.as_deref().and_then(<[u8]>::first_chunk::<8>) else { return };
        let report = SenderReport { ntp: u64::from_be_bytes(ntp), rtp_timestamp: header.timestamp };
        // A sender without a clock counts from its start.
        if report.wall_clock().is_some() {
            *self.newest.lock().unwrap_or_else(PoisonError::into_inner) = Some((header.ssrc, report));
        }
    }

    /// What was said last of the packets of `ssrc`: like a sender report, but of a capture and not of the report's own time.
    pub(super) fn newest(&self, ssrc: u32) -> Option<SenderReport> {
        let newest = *self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        newest.filter(|(from, _)| *from == ssrc).map(|(_, report)| report)
    }
}

/// The id of a header extension in a description: `a=extmap:<id>[/<direction>] <URI> …` (RFC 8285 §8).
fn extension_id(sdp: &str, uri: &str) -> Option<u8> {
    sdp.lines().find_map(|line| {
        let mut words = line.trim_end().strip_prefix("a=extmap:")?.split_ascii_whitespace();
        let id = words.next()?.split('/').next()?.parse().ok()?;
        (words.next() == Some(uri)).then_some(id)
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    const SDP: &str = "v=0\r\na=extmap:3 urn:x\r\na=extmap:9/recvonly http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time\r\n";
    /// 2023-11-14 22:13:20 UTC.
    const NTP: u64 = (2_208_988_800 + 1_700_000_000) << 32;

    fn header(id: u8, payload: &[u8]) -> rtp::Header {
        let mut header = rtp::Header { version: 2, ssrc: 5, timestamp: 900, ..rtp::Header::default() };
        header.set_extension(id, Bytes::copy_from_slice(payload)).unwrap();
        header
    }

    fn learned() -> CaptureTimes {
        let times = CaptureTimes::default();
        times.negotiated(SDP);
        times
    }

    #[test]
    fn a_capture_time_is_read_by_its_negotiated_id() {
        let times = learned();
        times.note(&header(9, &NTP.to_be_bytes()));
        let told = times.newest(5).unwrap();
        assert_eq!((told.ntp, told.rtp_timestamp), (NTP, 900));
        assert!(times.newest(6).is_none(), "another source's");
        times.note(&header(9, &[(NTP + 7).to_be_bytes(), [0; 8]].concat()));
        assert_eq!(times.newest(5).unwrap().ntp, NTP + 7, "with the clock's offset behind it");
    }

    #[test]
    fn what_is_no_capture_time_changes_nothing() {
        let times = CaptureTimes::default();
        times.note(&header(9, &NTP.to_be_bytes()));
        assert!(times.newest(5).is_none(), "not negotiated");
        times.negotiated(SDP);
        times.note(&header(3, &NTP.to_be_bytes()));
        times.note(&header(9, &[0; 8]));
        times.note(&header(9, &[1, 2, 3]));
        times.note(&rtp::Header::default());
        assert!(times.newest(5).is_none(), "another extension, no clock, cut short, none");
    }

    #[test]
    fn the_id_is_found_among_others_or_not_at_all() {
        assert_eq!(extension_id(SDP, ABS_CAPTURE_TIME_URI), Some(9));
        assert_eq!(extension_id(SDP, "urn:x"), Some(3));
        assert_eq!(extension_id(SDP, "urn:y"), None);
        assert_eq!(extension_id("a=extmap:300 urn:x\na=extmap: urn:x\na=extmap", "urn:x"), None);
    }

    proptest! {
        #[test]
        fn no_description_and_no_payload_panics(sdp in ".{0,200}", payload in prop::collection::vec(any::<u8>(), 1..17), id in 1u8..15) {
            let times = learned();
            times.note(&header(id, &payload));
            prop_assert!(times.newest(5).is_none_or(|told| told.wall_clock().is_some()));
            times.negotiated(&sdp);
        }
    }
}
