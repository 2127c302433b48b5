//! Tracks: RTP packets in and out of a connection, without a word on what they hold.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use rtc::rtcp;
use rtc::rtcp::payload_feedbacks::full_intra_request::{FirEntry, FullIntraRequest};
use rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc::rtcp::payload_feedbacks::receiver_estimated_maximum_bitrate::ReceiverEstimatedMaximumBitrate;
use rtc::rtp;
use rtc::rtp::codec::h264::H264Payloader;
use rtc::rtp::packetizer::Payloader;
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, sleep};
use webrtc::media_stream::track_local::TrackLocal;
use webrtc::media_stream::track_local::static_rtp::TrackLocalStaticRTP;
use webrtc::media_stream::track_remote::{TrackRemote, TrackRemoteEvent};

use super::PeerError;
use super::bandwidth::Bandwidth;
use super::tap::{AudioNote, Sent, Tap};
use crate::media::{AudioCodec, AudioPacket, KeyframeRequest, RtpPacket, SenderReport};

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

    /// The next packet with its header, and when it came.
    async fn recv(&mut self) -> Option<(rtp::Packet, Instant)> {
        loop {
            match self.track.poll().await? {
                TrackRemoteEvent::OnRtpPacket(packet) => {
                    let header = &packet.header;
                    self.tap.capture.note(header);
                    self.ssrc.store(header.ssrc, Ordering::Relaxed);
                    let arrived = self.tap.arrival(header.ssrc, header.sequence_number).unwrap_or_else(Instant::now);
                    return Some((packet, arrived));
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
        let (rtp::Packet { header, payload }, arrived) = self.inner.recv().await?;
        Some(RtpPacket {
            sequence_number: header.sequence_number,
            timestamp: header.timestamp,
            marker: header.marker,
            payload,
            arrived,
        })
    }

    /// A handle that sends a PLI (RFC 4585 §6.3.1), or a FIR (RFC 5104 §4.3.1) where a PLI was not heeded.
    #[must_use]
    pub fn keyframe_request(&self) -> KeyframeRequest {
        self.keyframes.clone()
    }

    /// From now on the sender is told to send no more than `limit` says, in bits a second (REMB,
    /// draft-alvestrand-rmcat-remb-03): at once when it changes, and every second, as a report may be lost. Ends with the limit's
    /// sender or the connection.
    pub fn hold_to(&self, mut limit: watch::Receiver<u32>) {
        let (track, ssrc) = (Arc::clone(&self.inner.track), Arc::clone(&self.inner.ssrc));
        tokio::spawn(async move {
            let mut again = interval(LIMIT_EVERY);
            again.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    _ = again.tick() => {}
                    changed = limit.changed() => if changed.is_err() { return },
                }
                let media_ssrc = match ssrc.load(Ordering::Relaxed) {
                    0 => track.ssrcs().await.first().copied().unwrap_or(0),
                    known => known,
                };
                let bitrate = *limit.borrow_and_update() as f32;
                let report = ReceiverEstimatedMaximumBitrate { sender_ssrc: 0, bitrate, ssrcs: vec![media_ssrc] };
                if let Err(error) = track.write_rtcp(vec![Box::new(report)]).await {
                    tracing::debug!(%error, "the publisher's limit");
                    return;
                }
            }
        });
    }

    /// The sender's newest statement of which wall-clock instant an RTP timestamp stands for: by abs-capture-time where it sends
    /// that, which is of the capture itself, and by its sender reports where it does not.
    #[must_use]
    pub fn sender_report(&self) -> Option<SenderReport> {
        let ssrc = self.inner.ssrc.load(Ordering::Relaxed);
        self.inner.tap.capture.newest(ssrc).or_else(|| self.inner.tap.sender_report(ssrc))
    }
}

/// How often a sender is told its limit: it forgets one that it has not heard of for two seconds.
const LIMIT_EVERY: Duration = Duration::from_secs(1);

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

/// The payload types of G.711 are fixed (RFC 3551 §6); nothing but these and Opus is negotiated.
const PCMU_PAYLOAD_TYPE: u8 = 0;
const PCMA_PAYLOAD_TYPE: u8 = 8;

/// Audio that comes in.
pub struct AudioIn(In);

impl AudioIn {
    pub(super) fn new(track: Arc<dyn TrackRemote>, tap: Arc<Tap>) -> Self {
        Self(In::new(track, tap))
    }

    /// The next packet; `None` when the track ended.
    pub async fn recv(&mut self) -> Option<AudioPacket> {
        let (rtp::Packet { header, payload }, arrived) = self.0.recv().await?;
        let codec = match header.payload_type {
            PCMU_PAYLOAD_TYPE => AudioCodec::Pcmu,
            PCMA_PAYLOAD_TYPE => AudioCodec::Pcma,
            _ => AudioCodec::Opus,
        };
        Some(AudioPacket { codec, rtp_timestamp: header.timestamp, marker: header.marker, payload, arrived })
    }
}

/// Video that goes out.
pub struct VideoOut {
    pub(super) track: Arc<TrackLocalStaticRTP>,
    pub(super) ssrc: u32,
    pub(super) payload_type: u8,
    /// The negotiated id of the playout-delay extension.
    pub(super) playout_delay: Option<u8>,
    /// The negotiated id of the abs-capture-time extension.
    pub(super) capture_time: Option<u8>,
    pub(super) capture_told: Option<Instant>,
    pub(super) sequence_number: u16,
    pub(super) sent: Option<mpsc::Receiver<Sent>>,
    pub(super) tap: Arc<Tap>,
}

impl VideoOut {
    /// Sends one access unit, given as the payloads that [`packetize`] made of it. Only the headers are this viewer's own.
    ///
    /// A large IDR leaves in bursts over less than a frame's time: a queue on the way has less to hold at once. All else leaves at
    /// once.
    ///
    /// `captured` is when the picture was taken, by its sender's wall clock; the viewer is told at each IDR and about once
    /// a second (abs-capture-time), if it understands that.
    ///
    /// # Errors
    /// [`PeerError::Closed`] once the connection is gone.
    pub async fn send(
        &mut self,
        payloads: &[Bytes],
        rtp_timestamp: u32,
        captured: Option<SystemTime>,
    ) -> Result<(), PeerError> {
        let mut capture_time = self.capture_time_to_tell(payloads, captured, Instant::now());
        let pause = pause_between(payloads.len()).filter(|_| begins_idr(payloads));
        for (index, payload) in payloads.iter().enumerate() {
            if index > 0
                && index.is_multiple_of(BURST)
                && let Some(pause) = pause
            {
                sleep(pause).await;
            }
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
            if let Some((id, ntp)) = capture_time.take() {
                header.set_extension(id, Bytes::copy_from_slice(&ntp.to_be_bytes()))?;
            }
            self.sequence_number = self.sequence_number.wrapping_add(1);
            let packet = rtp::Packet { header, payload: payload.clone() };
            self.track.write_rtp(packet).await.map_err(|_| PeerError::Closed)?;
        }
        Ok(())
    }

    fn capture_time_to_tell(
        &mut self,
        payloads: &[Bytes],
        captured: Option<SystemTime>,
        now: Instant,
    ) -> Option<(u8, u64)> {
        let (id, ntp) = (self.capture_time?, ntp_time(captured?)?);
        let told_lately =
            self.capture_told.is_some_and(|told| now.saturating_duration_since(told) < CAPTURE_TIME_EVERY);
        if told_lately && !begins_idr(payloads) {
            return None;
        }
        self.capture_told = Some(now);
        Some((id, ntp))
    }

    /// Where a note comes for each frame whose last packet was handed to the kernel. Can be taken once.
    pub fn take_sent(&mut self) -> Option<mpsc::Receiver<Sent>> {
        self.sent.take()
    }

    /// What the way to the viewer carries, whenever that is known better; `None` before its first word.
    #[must_use]
    pub fn bandwidth(&self) -> watch::Receiver<Option<Bandwidth>> {
        self.tap.bandwidth()
    }

    /// From now on, the viewer's PLI and FIR (RFC 4585 §6.3.1, RFC 5104 §4.3.1) go to `request`. Can be said once.
    pub fn on_keyframe_request(&self, request: KeyframeRequest) {
        self.tap.on_keyframe_request(request);
    }
}

/// Packets of an IDR that leave together: what a frame of 3 Mbit/s has, and a third more.
const BURST: usize = 16;

/// The time over which an IDR leaves at most, at 30 frames a second: what comes next is not held up.
const SPREAD: Duration = Duration::from_millis(25);

/// The pause between two bursts of an IDR of so many packets; `None` where it is one burst.
fn pause_between(packets: usize) -> Option<Duration> {
    let pauses = u32::try_from(packets.div_ceil(BURST)).ok()?.checked_sub(1).filter(|pauses| *pauses > 0)?;
    // A burst every 5 ms; where there are many, nearer together.
    Some((SPREAD / pauses).min(Duration::from_millis(5)))
}

/// Receivers interpolate between capture times that are told no rarer than this (abs-capture-time, "about once a second").
const CAPTURE_TIME_EVERY: Duration = Duration::from_secs(1);

/// Seconds from 1900-01-01 (NTP) to 1970-01-01 (Unix).
const NTP_TO_UNIX_SECONDS: u64 = 2_208_988_800;

/// NTP time in 32.32 fixed point (RFC 5905 §6); `None` before 1970 and after the era's end in 2036.
fn ntp_time(at: SystemTime) -> Option<u64> {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    let seconds = u32::try_from(since.as_secs().checked_add(NTP_TO_UNIX_SECONDS)?).ok()?;
    let fraction = (u64::from(since.subsec_nanos()) << 32) / 1_000_000_000;
    Some(u64::from(seconds) << 32 | fraction)
}

/// Whether an access unit begins with parameter sets or an IDR slice (RFC 6184 §5.2).
fn begins_idr(payloads: &[Bytes]) -> bool {
    const IDR: u8 = 5;
    const SPS: u8 = 7;
    let nal_type = |byte: Option<&u8>| byte.map_or(0, |byte| byte & 0x1f);
    let Some(first) = payloads.first() else { return false };
    match nal_type(first.first()) {
        IDR | SPS => true,
        // STAP-A: the first unit's header stands behind its two bytes of length.
        24 => matches!(nal_type(first.get(3)), IDR | SPS),
        28 => nal_type(first.get(1)) == IDR,
        _ => false,
    }
}

/// Audio that goes out.
pub struct AudioOut {
    pub(super) track: Arc<TrackLocalStaticRTP>,
    pub(super) ssrc: u32,
    /// What was negotiated.
    pub(super) payload_types: Vec<(AudioCodec, u8)>,
    pub(super) sequence_number: u16,
    pub(super) dropped: u64,
    pub(super) tap: Arc<Tap>,
}

impl AudioOut {
    /// Whether the other side understands this codec.
    #[must_use]
    pub fn takes(&self, codec: AudioCodec) -> bool {
        self.payload_types.iter().any(|(known, _)| *known == codec)
    }

    /// Packets that were not sent because their codec was not negotiated.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Passes a packet on with its payload and timestamp untouched, so that what was lost stays visible to the receiver's
    /// concealment. One in a codec that was not negotiated is dropped and counted.
    ///
    /// # Errors
    /// [`PeerError::Closed`] once the connection is gone.
    pub async fn send(&mut self, packet: &AudioPacket) -> Result<(), PeerError> {
        let negotiated = self.payload_types.iter().find(|(codec, _)| *codec == packet.codec);
        let Some(&(_, payload_type)) = negotiated else {
            self.dropped += 1;
            return Ok(());
        };
        let header = rtp::Header {
            version: 2,
            marker: packet.marker,
            payload_type,
            sequence_number: self.sequence_number,
            timestamp: packet.rtp_timestamp,
            ssrc: self.ssrc,
            ..rtp::Header::default()
        };
        self.sequence_number = self.sequence_number.wrapping_add(1);
        self.tap.on_audio_out(AudioNote {
            ssrc: self.ssrc,
            rtp_timestamp: packet.rtp_timestamp,
            clock_rate: packet.codec.clock_rate(),
            at: Instant::now(),
        });
        let packet = rtp::Packet { header, payload: packet.payload.clone() };
        self.track.write_rtp(packet).await.map_err(|_| PeerError::Closed)
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
    fn an_idr_is_known_by_its_first_packet() {
        for (nals, expected) in [
            (vec![vec![0x67, 1, 2], vec![0x68, 3], vec![0x65; 3000]], true),
            (vec![vec![0x65, 4, 5]], true),
            (vec![vec![0x65; 3000]], true),
            (vec![vec![0x41, 4, 5]], false),
            (vec![vec![0x41; 3000]], false),
        ] {
            assert_eq!(begins_idr(&packetize(&annex_b(&nals))), expected, "{:02x?}", nals[0]);
        }
        assert!(!begins_idr(&[]) && !begins_idr(&[Bytes::new()]) && !begins_idr(&[Bytes::from_static(&[28])]));
    }

    #[test]
    fn only_a_large_idr_is_spread_and_over_less_than_a_frames_time() {
        assert!((0..=BURST).all(|packets| pause_between(packets).is_none()));
        for packets in BURST + 1..2000 {
            let pauses = (packets - 1) / BURST;
            let all = pause_between(packets).unwrap() * u32::try_from(pauses).unwrap();
            assert!(all <= SPREAD, "{packets} packets: {all:?}");
        }
    }

    #[test]
    fn a_capture_time_survives_being_written_as_ntp() {
        let at = SystemTime::UNIX_EPOCH + Duration::new(1_900_000_000, 250_000_000);
        let report = SenderReport { ntp: ntp_time(at).unwrap(), rtp_timestamp: 0 };
        assert_eq!(report.wall_clock(), Some(at));
        assert_eq!(ntp_time(SystemTime::UNIX_EPOCH - Duration::from_secs(1)), None);
        assert_eq!(ntp_time(SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 32)), None, "the era has ended");
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
