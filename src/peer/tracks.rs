//! Tracks: RTP packets in and out of a connection, without a word on what they hold.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rtc::rtcp;
use rtc::rtcp::payload_feedbacks::full_intra_request::{FirEntry, FullIntraRequest};
use rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc::rtp;
use rtc::rtp::codec::h264::H264Payloader;
use rtc::rtp::packetizer::Payloader;
use tokio::sync::mpsc;
use webrtc::media_stream::track_local::TrackLocal;
use webrtc::media_stream::track_local::static_rtp::TrackLocalStaticRTP;
use webrtc::media_stream::track_remote::{TrackRemote, TrackRemoteEvent};

use super::PeerError;
use super::tap::{Sent, Tap};
use crate::media::{KeyframeRequest, RtpPacket, SenderReport};

/// The payload of one RTP packet: with the headers of RTP, its extensions, SRTP, UDP and IPv6 it stays below 1280 bytes,
/// which every path carries (RFC 8200 §5).
const MAX_PAYLOAD: usize = 1180;

/// The playout-delay extension at 0 and 0: the browser shows a frame as soon as it can, with no jitter buffer.
const PLAYOUT_DELAY_NONE: [u8; 3] = [0, 0, 0];

/// Splits an Annex B access unit into RTP payloads: single NAL units, STAP-A and FU-A (RFC 6184 §5, packetization mode
/// 1). The payloads are shared by all viewers.
#[must_use]
pub fn packetize(access_unit: &Bytes) -> Vec<Bytes> {
    // A payloader keeps parameter sets until the next slice; an access unit of ours has all it needs, so each gets a
    // fresh one.
    H264Payloader::default().payload(MAX_PAYLOAD, access_unit).unwrap_or_default()
}

/// Packets of any track that comes in, dated by the socket.
struct In {
    track: Arc<dyn TrackRemote>,
    tap: Arc<Tap>,
    ssrc: Arc<AtomicU32>,
}

impl In {
    fn new(track: Arc<dyn TrackRemote>, tap: Arc<Tap>) -> Self {
        Self { track, tap, ssrc: Arc::new(AtomicU32::new(0)) }
    }

    async fn recv(&mut self) -> Option<RtpPacket> {
        loop {
            match self.track.poll().await? {
                TrackRemoteEvent::OnRtpPacket(packet) => {
                    let header = packet.header;
                    self.ssrc.store(header.ssrc, Ordering::Relaxed);
                    let arrived = self.tap.arrival(header.ssrc, header.sequence_number).unwrap_or_else(Instant::now);
                    return Some(RtpPacket {
                        sequence_number: header.sequence_number,
                        timestamp: header.timestamp,
                        marker: header.marker,
                        payload: packet.payload,
                        arrived,
                    });
                }
                TrackRemoteEvent::OnEnded | TrackRemoteEvent::OnError => return None,
                _ => {}
            }
        }
    }
}

/// Video that comes in.
pub struct VideoIn {
    inner: In,
    keyframes: KeyframeRequest,
}

impl VideoIn {
    pub(super) fn new(track: Arc<dyn TrackRemote>, tap: Arc<Tap>) -> Self {
        let inner = In::new(track, tap);
        let (ask, mut asked) = mpsc::channel::<()>(1);
        let (track, ssrc) = (Arc::clone(&inner.track), Arc::clone(&inner.ssrc));
        tokio::spawn(async move {
            let mut wording = Wording::default();
            while asked.recv().await.is_some() {
                let media_ssrc = match ssrc.load(Ordering::Relaxed) {
                    0 => track.ssrcs().await.first().copied().unwrap_or(0),
                    known => known,
                };
                let request = wording.next(media_ssrc, Instant::now());
                if let Err(error) = track.write_rtcp(vec![request]).await {
                    tracing::debug!(%error, "keyframe request");
                    return;
                }
            }
        });
        // One waiting request stands for all.
        let keyframes = KeyframeRequest::new(move || {
            let _ = ask.try_send(());
        });
        Self { inner, keyframes }
    }

    /// The next packet, as it comes (reordered and with gaps, if the network made any); `None` when the track ended.
    pub async fn recv(&mut self) -> Option<RtpPacket> {
        self.inner.recv().await
    }

    /// A handle that sends a PLI (RFC 4585 §6.3.1), or a FIR (RFC 5104 §4.3.1) where a PLI was not heeded.
    #[must_use]
    pub fn keyframe_request(&self) -> KeyframeRequest {
        self.keyframes.clone()
    }

    /// The sender's newest statement of which wall-clock instant an RTP timestamp stands for.
    #[must_use]
    pub fn sender_report(&self) -> Option<SenderReport> {
        self.inner.tap.sender_report(self.inner.ssrc.load(Ordering::Relaxed))
    }
}

/// A request that is repeated within this time was not understood.
const UNANSWERED: Duration = Duration::from_secs(1);

/// How a keyframe is asked for: by PLI, and by FIR where that was asked and nothing came, in turns.
#[derive(Default)]
struct Wording {
    last: Option<Instant>,
    was_pli: bool,
    fir_sequence: u8,
}

impl Wording {
    fn next(&mut self, media_ssrc: u32, now: Instant) -> Box<dyn rtcp::Packet> {
        let repeated = self.last.is_some_and(|last| now.saturating_duration_since(last) < UNANSWERED);
        self.last = Some(now);
        self.was_pli = !(repeated && self.was_pli);
        if self.was_pli {
            return Box::new(PictureLossIndication { sender_ssrc: 0, media_ssrc });
        }
        // A new command has a new number, so that it is not taken for a repetition (RFC 5104 §4.3.1.2).
        self.fir_sequence = self.fir_sequence.wrapping_add(1);
        let fir = vec![FirEntry { ssrc: media_ssrc, sequence_number: self.fir_sequence }];
        Box::new(FullIntraRequest { sender_ssrc: 0, media_ssrc: 0, fir })
    }
}

/// Audio that comes in.
pub struct AudioIn(In);

impl AudioIn {
    pub(super) fn new(track: Arc<dyn TrackRemote>, tap: Arc<Tap>) -> Self {
        Self(In::new(track, tap))
    }

    /// The next packet; `None` when the track ended.
    pub async fn recv(&mut self) -> Option<RtpPacket> {
        self.0.recv().await
    }
}

/// Video that goes out.
pub struct VideoOut {
    pub(super) track: Arc<TrackLocalStaticRTP>,
    pub(super) ssrc: u32,
    pub(super) payload_type: u8,
    /// The negotiated id of the playout-delay extension.
    pub(super) playout_delay: Option<u8>,
    pub(super) sequence_number: u16,
    pub(super) sent: Option<mpsc::Receiver<Sent>>,
    pub(super) tap: Arc<Tap>,
}

impl VideoOut {
    /// Sends one access unit, given as the payloads that [`packetize`] made of it. Only the headers are this viewer's own.
    ///
    /// # Errors
    /// [`PeerError::Closed`] once the connection is gone.
    pub async fn send(&mut self, payloads: &[Bytes], rtp_timestamp: u32) -> Result<(), PeerError> {
        for (index, payload) in payloads.iter().enumerate() {
            let mut header = rtp::Header {
                version: 2,
                marker: index + 1 == payloads.len(),
                payload_type: self.payload_type,
                sequence_number: self.sequence_number,
                timestamp: rtp_timestamp,
                ssrc: self.ssrc,
                ..rtp::Header::default()
            };
            if let Some(id) = self.playout_delay {
                header.set_extension(id, Bytes::from_static(&PLAYOUT_DELAY_NONE))?;
            }
            self.sequence_number = self.sequence_number.wrapping_add(1);
            let packet = rtp::Packet { header, payload: payload.clone() };
            self.track.write_rtp(packet).await.map_err(|_| PeerError::Closed)?;
        }
        Ok(())
    }

    /// Where a note comes for each frame whose last packet was handed to the kernel. Can be taken once.
    pub fn take_sent(&mut self) -> Option<mpsc::Receiver<Sent>> {
        self.sent.take()
    }

    /// From now on, the viewer's PLI and FIR (RFC 4585 §6.3.1, RFC 5104 §4.3.1) go to `request`. Can be said once.
    pub fn on_keyframe_request(&self, request: KeyframeRequest) {
        self.tap.on_keyframe_request(request);
    }
}

/// Audio that goes out.
pub struct AudioOut {
    pub(super) track: Arc<TrackLocalStaticRTP>,
    pub(super) ssrc: u32,
    pub(super) payload_type: u8,
}

impl AudioOut {
    /// Passes a packet on with its payload, number and timestamp untouched, so that what the network lost stays visible
    /// to the receiver's concealment.
    ///
    /// # Errors
    /// [`PeerError::Closed`] once the connection is gone.
    pub async fn send(&mut self, packet: RtpPacket) -> Result<(), PeerError> {
        let header = rtp::Header {
            version: 2,
            marker: packet.marker,
            payload_type: self.payload_type,
            sequence_number: packet.sequence_number,
            timestamp: packet.timestamp,
            ssrc: self.ssrc,
            ..rtp::Header::default()
        };
        self.track.write_rtp(rtp::Packet { header, payload: packet.payload }).await.map_err(|_| PeerError::Closed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn annex_b(nals: &[Vec<u8>]) -> Bytes {
        nals.iter().flat_map(|nal| [&[0, 0, 0, 1][..], nal].concat()).collect::<Vec<u8>>().into()
    }

    #[test]
    fn parameter_sets_travel_together_before_the_picture() {
        let payloads = packetize(&annex_b(&[vec![0x67, 1, 2], vec![0x68, 3], vec![0x65, 4, 5]]));
        assert_eq!(payloads[0][0] & 0x1f, 24, "STAP-A");
        assert_eq!(&payloads[1][..], &[0x65, 4, 5]);
    }

    #[test]
    fn a_request_that_is_not_heeded_is_put_in_other_words() {
        let (mut wording, now) = (Wording::default(), Instant::now());
        let mut is_pli =
            |after: u64| wording.next(7, now + Duration::from_millis(after)).as_any().is::<PictureLossIndication>();
        let asked = [0, 500, 1000, 1500, 5000].map(&mut is_pli);
        assert_eq!(asked, [true, false, true, false, true]);
    }

    proptest! {
        #[test]
        fn no_payload_is_larger_than_a_packet_and_nothing_is_lost(sizes in prop::collection::vec(2usize..6000, 1..6)) {
            let nals: Vec<Vec<u8>> = sizes.iter().map(|&size| {
                let mut nal = vec![0x55; size];
                nal[0] = 0x41;
                nal
            }).collect();
            let payloads = packetize(&annex_b(&nals));
            prop_assert!(payloads.iter().all(|payload| payload.len() <= MAX_PAYLOAD && !payload.is_empty()));
            let carried: usize = payloads.iter().map(|payload| match payload[0] & 0x1f {
                28 => payload.len() - 2 + usize::from(payload[1] & 0x80 != 0),
                _ => payload.len(),
            }).sum();
            prop_assert_eq!(carried, sizes.iter().sum::<usize>());
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..4000)) {
            let _ = packetize(&Bytes::from(bytes));
        }
    }
}
