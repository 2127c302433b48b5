//! What can be learnt of one connection by looking at its packets as they pass: when they came and left, and what the
//! other side says about them in RTCP.
//!
//! Two places look. The datagrams are seen at the socket, where the time is the truest (RTP headers are not encrypted by
//! SRTP, RFC 3711 §3.1). RTCP is seen decrypted, by an interceptor next to the wire.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rtc::rtcp;
use rtc::rtcp::payload_feedbacks::full_intra_request::FullIntraRequest;
use rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc::rtcp::payload_feedbacks::receiver_estimated_maximum_bitrate::ReceiverEstimatedMaximumBitrate;
use rtc::rtcp::receiver_report::ReceiverReport;
use rtc::rtcp::reception_report::ReceptionReport;
use rtc::rtcp::transport_feedbacks::transport_layer_cc::TransportLayerCc;
use rtc::rtcp::transport_feedbacks::transport_layer_nack::{NackPair, TransportLayerNack};
use rtc::shared::marshal::MarshalSize;
use tokio::sync::{mpsc, watch};

use super::bandwidth::{Bandwidth, Estimator, Load};
use super::capture::CaptureTimes;
use crate::media::{KeyframeRequest, SenderReport};

/// How many arrivals are remembered: two seconds of a 12 Mbps stream.
const ARRIVALS: usize = 2048;
/// How many of our own sender reports are remembered to measure the round trip.
const REPORTS: usize = 8;

/// What a packet grows by on its way out: the tag of SRTP (RFC 7714 §13), UDP and IPv4.
const WIRE_OVERHEAD: usize = 16 + 8 + 20;

/// The packets of a frame have been handed to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The frame's outgoing RTP timestamp.
    pub rtp_timestamp: u32,
    /// When the first packet was.
    pub first: Instant,
    /// When the last packet was.
    pub last: Instant,
}

/// What is known of a connection's network, from RTCP and from counting.
#[derive(Clone, Copy, Debug, Default)]
pub struct NetworkStats {
    /// Bytes of datagrams received.
    pub bytes_in: u64,
    /// Bytes of datagrams sent.
    pub bytes_out: u64,
    /// Round trip by receiver reports (RFC 3550 §6.4.1).
    pub rtt: Option<Duration>,
    /// The share of our video packets that the other side lost since its last report, 0 to 1.
    pub loss: Option<f32>,
    /// Keyframe requests (PLI and FIR) that came from the other side.
    pub keyframe_requests: u64,
    /// What the way to the other side carries, once it has said something of what it got.
    pub bandwidth: Option<Bandwidth>,
}

struct Arrival {
    name: AtomicU64,
    nanos: AtomicU64,
}

#[derive(Default)]
struct Reports {
    /// The middle 32 bits of the NTP time of sender reports of ours, and when they left.
    ours: VecDeque<(u32, Instant)>,
    rtt: Option<Duration>,
    loss: Option<f32>,
    theirs: Option<(u32, SenderReport)>,
}

/// The watcher of one connection.
pub(super) struct Tap {
    start: Instant,
    arrivals: Box<[Arrival]>,
    last_rtp_nanos: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    keyframe_requests: AtomicU64,
    reports: Mutex<Reports>,
    estimator: Mutex<Estimator>,
    bandwidth: watch::Sender<Option<Bandwidth>>,
    video_out: OnceLock<VideoNotes>,
    audio_out: Mutex<Option<AudioNote>>,
    on_keyframe_request: OnceLock<KeyframeRequest>,
    /// When the frames that come in were captured.
    pub(super) capture: CaptureTimes,
}

/// The newest packet of the outgoing audio.
#[derive(Clone, Copy, Debug)]
pub(super) struct AudioNote {
    pub(super) ssrc: u32,
    pub(super) rtp_timestamp: u32,
    /// Ticks in a second of the codec that it is in.
    pub(super) clock_rate: u32,
    /// When it was sent.
    pub(super) at: Instant,
}

impl AudioNote {
    /// The timestamp that audio would have that is sent at `now` (RFC 3550 §6.4.1).
    fn timestamp_at(&self, now: Instant) -> u32 {
        let since = now.saturating_duration_since(self.at).as_nanos();
        #[allow(clippy::cast_possible_truncation)] // timestamps wrap
        let ticks = (since * u128::from(self.clock_rate) / 1_000_000_000) as u32;
        self.rtp_timestamp.wrapping_add(ticks)
    }
}

/// Where the notes on the outgoing video go, and the frame that is being sent.
struct VideoNotes {
    ssrc: u32,
    sent: mpsc::Sender<Sent>,
    /// The timestamp of the frame whose first packet has left, and when that was. Only the connection's own task writes.
    begun: Mutex<Option<(u32, Instant)>>,
}

/// The fixed header of an RTP packet (RFC 3550 §5.1), as far as it is needed here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct RtpHeader {
    marker: bool,
    sequence_number: u16,
    timestamp: u32,
    ssrc: u32,
}

fn rtp_header(datagram: &[u8]) -> Option<RtpHeader> {
    let &[first, second, s0, s1, t0, t1, t2, t3, r0, r1, r2, r3, ..] = datagram else { return None };
    // RTCP shares the port: its packet types 192 to 223 stand where marker and payload type do (RFC 5761 §4).
    if first >> 6 != 2 || (192..=223).contains(&second) {
        return None;
    }
    Some(RtpHeader {
        marker: second & 0x80 != 0,
        sequence_number: u16::from_be_bytes([s0, s1]),
        timestamp: u32::from_be_bytes([t0, t1, t2, t3]),
        ssrc: u32::from_be_bytes([r0, r1, r2, r3]),
    })
}

fn packet_name(ssrc: u32, sequence_number: u16) -> u64 {
    // Bit 48 is set so that no packet is named 0, which stands for an empty place.
    1 << 48 | u64::from(ssrc) << 16 | u64::from(sequence_number)
}

fn place(ssrc: u32, sequence_number: u16) -> usize {
    // Streams of one connection count from random numbers; folding the source in keeps them apart in the ring.
    (usize::from(sequence_number) ^ (ssrc as usize & 0x3ff)) % ARRIVALS
}

impl Tap {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            start: Instant::now(),
            arrivals: (0..ARRIVALS).map(|_| Arrival { name: AtomicU64::new(0), nanos: AtomicU64::new(0) }).collect(),
            last_rtp_nanos: AtomicU64::new(0),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            keyframe_requests: AtomicU64::new(0),
            reports: Mutex::default(),
            estimator: Mutex::default(),
            bandwidth: watch::Sender::new(None),
            video_out: OnceLock::new(),
            audio_out: Mutex::default(),
            on_keyframe_request: OnceLock::new(),
            capture: CaptureTimes::default(),
        })
    }

    fn nanos(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.start).as_nanos()).unwrap_or(u64::MAX)
    }

    fn reports(&self) -> MutexGuard<'_, Reports> {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn estimator(&self) -> MutexGuard<'_, Estimator> {
        self.estimator.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the way to the other side carries, whenever that is known better.
    pub(super) fn bandwidth(&self) -> watch::Receiver<Option<Bandwidth>> {
        self.bandwidth.subscribe()
    }

    /// A datagram came.
    pub(super) fn on_datagram_in(&self, datagram: &[u8], now: Instant) {
        self.bytes_in.fetch_add(datagram.len() as u64, Ordering::Relaxed);
        let Some(header) = rtp_header(datagram) else { return };
        let nanos = self.nanos(now);
        self.last_rtp_nanos.store(nanos.max(1), Ordering::Relaxed);
        if let Some(arrival) = self.arrivals.get(place(header.ssrc, header.sequence_number)) {
            arrival.nanos.store(nanos, Ordering::Relaxed);
            arrival.name.store(packet_name(header.ssrc, header.sequence_number), Ordering::Release);
        }
    }

    /// A datagram was handed to the kernel.
    pub(super) fn on_datagram_out(&self, datagram: &[u8], now: Instant) {
        self.bytes_out.fetch_add(datagram.len() as u64, Ordering::Relaxed);
        let Some(header) = rtp_header(datagram) else { return };
        let Some(notes) = self.video_out.get().filter(|notes| notes.ssrc == header.ssrc) else { return };
        let mut begun = notes.begun.lock().unwrap_or_else(PoisonError::into_inner);
        // A retransmission of an older frame begins nothing.
        let newer = |last: u32| header.timestamp.wrapping_sub(last).cast_signed() > 0;
        if begun.is_none_or(|(timestamp, _)| newer(timestamp)) {
            *begun = Some((header.timestamp, now));
        }
        if header.marker
            && let Some((timestamp, first)) = *begun
            && timestamp == header.timestamp
        {
            // A viewer's task that is behind finds the next one: the note of one frame is no reason to wait.
            let _ = notes.sent.try_send(Sent { rtp_timestamp: timestamp, first, last: now });
        }
    }

    /// When a packet came, if it is among the last that did.
    pub(super) fn arrival(&self, ssrc: u32, sequence_number: u16) -> Option<Instant> {
        let arrival = self.arrivals.get(place(ssrc, sequence_number))?;
        if arrival.name.load(Ordering::Acquire) != packet_name(ssrc, sequence_number) {
            return None;
        }
        self.start.checked_add(Duration::from_nanos(arrival.nanos.load(Ordering::Relaxed)))
    }

    /// When the last RTP packet of any kind came.
    pub(super) fn last_rtp(&self) -> Option<Instant> {
        let nanos = self.last_rtp_nanos.load(Ordering::Relaxed);
        if nanos == 0 { None } else { self.start.checked_add(Duration::from_nanos(nanos)) }
    }

    /// Names the outgoing video, and returns where the note of each frame's last packet comes.
    pub(super) fn watch_video_out(&self, ssrc: u32) -> mpsc::Receiver<Sent> {
        let (sender, receiver) = mpsc::channel(64);
        if self.video_out.set(VideoNotes { ssrc, sent: sender, begun: Mutex::default() }).is_err() {
            tracing::error!("a connection has one outgoing video");
        }
        receiver
    }

    /// A packet of the outgoing audio is on its way.
    pub(super) fn on_audio_out(&self, note: AudioNote) {
        *self.audio_out.lock().unwrap_or_else(PoisonError::into_inner) = Some(note);
    }

    /// From now on, the other side's keyframe requests go to `request`.
    pub(super) fn on_keyframe_request(&self, request: KeyframeRequest) {
        if self.on_keyframe_request.set(request).is_err() {
            tracing::error!("a connection has one outgoing video");
        }
    }

    /// The newest sender report of a stream that comes in.
    pub(super) fn sender_report(&self, ssrc: u32) -> Option<SenderReport> {
        self.reports().theirs.filter(|(from, _)| *from == ssrc).map(|(_, report)| report)
    }

    pub(super) fn stats(&self) -> NetworkStats {
        let reports = self.reports();
        NetworkStats {
            bytes_in: self.bytes_in.load(Ordering::Relaxed),
            bytes_out: self.bytes_out.load(Ordering::Relaxed),
            rtt: reports.rtt,
            loss: reports.loss,
            keyframe_requests: self.keyframe_requests.load(Ordering::Relaxed),
            bandwidth: *self.bandwidth.borrow(),
        }
    }

    pub(super) fn on_rtcp_in(&self, packets: &[Box<dyn rtcp::Packet>], now: Instant) {
        for packet in packets {
            let packet = packet.as_any();
            if packet.is::<PictureLossIndication>() || packet.is::<FullIntraRequest>() {
                self.keyframe_requests.fetch_add(1, Ordering::Relaxed);
                if let Some(request) = self.on_keyframe_request.get() {
                    request.request();
                }
            } else if let Some(report) = packet.downcast_ref::<ReceiverReport>() {
                report.reports.iter().for_each(|block| self.on_reception_report(block, now));
            } else if let Some(feedback) = packet.downcast_ref::<TransportLayerCc>() {
                let mut estimator = self.estimator();
                if estimator.feedback(feedback, now) {
                    self.bandwidth.send_replace(estimator.bandwidth());
                }
            } else if let Some(remb) = packet.downcast_ref::<ReceiverEstimatedMaximumBitrate>() {
                let mut estimator = self.estimator();
                estimator.allow(f64::from(remb.bitrate));
                self.bandwidth.send_replace(estimator.bandwidth());
            } else if let Some(report) = packet.downcast_ref::<rtcp::sender_report::SenderReport>() {
                let said = SenderReport { ntp: report.ntp_time, rtp_timestamp: report.rtp_time };
                // A connection that sends audio too reports on both: the video's is the one that dates frames, and the
                // reader names it by its source, so keep whichever is not overwritten by another stream's.
                self.reports().theirs = Some((report.ssrc, said));
                report.reports.iter().for_each(|block| self.on_reception_report(block, now));
            }
        }
    }

    fn on_reception_report(&self, block: &ReceptionReport, now: Instant) {
        if self.video_out.get().is_none_or(|notes| notes.ssrc != block.ssrc) {
            return;
        }
        let mut reports = self.reports();
        reports.loss = Some(f32::from(block.fraction_lost) / 256.0);
        // A = now, minus when the report that they answer left, minus how long they held it (RFC 3550 §6.4.1).
        let sent = reports.ours.iter().find(|(ntp, _)| *ntp == block.last_sender_report).map(|(_, at)| *at);
        if let Some(sent) = sent {
            let held = Duration::from_nanos(u64::from(block.delay) * 1_000_000_000 / 65_536);
            reports.rtt = Some(now.saturating_duration_since(sent).saturating_sub(held));
        }
    }

    /// Takes from a request for lost packets those that are not sent once more; the responder sees the rest.
    pub(super) fn weed_nacks(&self, packet: &mut Box<dyn rtcp::Packet>, now: Instant) {
        let Some(nack) = packet.as_any().downcast_ref::<TransportLayerNack>() else { return };
        let round_trip = self.reports().rtt;
        let mut estimator = self.estimator();
        let asked = nack.nacks.iter().flat_map(|pair| {
            let following = (0..16).filter(|bit| pair.lost_packets & (1 << bit) != 0);
            let following = following.map(|bit| pair.packet_id.wrapping_add(bit + 1));
            std::iter::once(pair.packet_id).chain(following)
        });
        let granted = asked.filter(|number| estimator.repairs(*number, round_trip, now));
        let nacks = granted.map(|packet_id| NackPair { packet_id, lost_packets: 0 }).collect();
        *packet = Box::new(TransportLayerNack { nacks, ..*nack });
    }

    /// A packet leaves with the transport-wide `number`, the last time that it is seen in clear.
    pub(super) fn on_numbered_out(&self, number: u16, packet: &rtc::rtp::Packet, newest: bool, now: Instant) {
        let video = self.video_out.get().is_some_and(|notes| notes.ssrc == packet.header.ssrc);
        let load = if video && newest { Load::Video(packet.payload.len()) } else { Load::Other };
        let mut estimator = self.estimator();
        if estimator.sent(number, packet.marshal_size() + WIRE_OVERHEAD, load, now) {
            self.bandwidth.send_replace(estimator.bandwidth());
        }
    }

    /// The stack counts all audio by the clock of the codec that was negotiated first, and a stream's audio may be in another:
    /// its reports are put right here.
    pub(super) fn on_rtcp_out(&self, packets: &mut [Box<dyn rtcp::Packet>], now: Instant) {
        let audio = *self.audio_out.lock().unwrap_or_else(PoisonError::into_inner);
        for packet in packets {
            let report = packet.as_any().downcast_ref::<rtcp::sender_report::SenderReport>();
            if let Some((report, audio)) = report.zip(audio).filter(|(report, audio)| report.ssrc == audio.ssrc) {
                let corrected =
                    rtcp::sender_report::SenderReport { rtp_time: audio.timestamp_at(now), ..report.clone() };
                *packet = Box::new(corrected);
            }
            if let Some(report) = packet.as_any().downcast_ref::<rtcp::sender_report::SenderReport>() {
                let mut reports = self.reports();
                if reports.ours.len() >= REPORTS {
                    reports.ours.pop_front();
                }
                #[allow(clippy::cast_possible_truncation)] // the middle 32 bits are what receivers repeat
                reports.ours.push_back(((report.ntp_time >> 16) as u32, now));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rtp(marker: bool, sequence_number: u16, timestamp: u32, ssrc: u32) -> Vec<u8> {
        let mut packet = vec![0x80, 96 | u8::from(marker) << 7];
        packet.extend(sequence_number.to_be_bytes());
        packet.extend(timestamp.to_be_bytes());
        packet.extend(ssrc.to_be_bytes());
        packet
    }

    #[test]
    fn a_packet_is_dated_by_its_source_and_number() {
        let tap = Tap::new();
        let now = Instant::now();
        tap.on_datagram_in(&rtp(false, 7, 0, 0xAABB), now);
        assert_eq!(tap.arrival(0xAABB, 7), Some(now));
        assert_eq!(tap.arrival(0xAABC, 7), None);
        assert_eq!(tap.arrival(0xAABB, 8), None);
        assert_eq!(tap.last_rtp(), Some(now));
    }

    #[test]
    fn the_first_and_the_last_packet_of_a_frame_are_noted_when_they_leave() {
        let tap = Tap::new();
        let mut sent = tap.watch_video_out(5);
        let now = Instant::now();
        let later = now + Duration::from_millis(1);
        tap.on_datagram_out(&rtp(false, 1, 900, 5), now);
        tap.on_datagram_out(&rtp(true, 2, 900, 6), later);
        tap.on_datagram_out(&rtp(true, 2, 900, 5), later);
        assert_eq!(sent.try_recv(), Ok(Sent { rtp_timestamp: 900, first: now, last: later }));
        assert!(sent.try_recv().is_err(), "one note: not for the first packet, not for another source");
        tap.on_datagram_out(&rtp(true, 3, 3900, 5), later);
        assert_eq!(sent.try_recv(), Ok(Sent { rtp_timestamp: 3900, first: later, last: later }));
        tap.on_datagram_out(&rtp(true, 2, 900, 5), later);
        assert!(sent.try_recv().is_err(), "a packet that is sent again is no frame");
    }

    #[test]
    fn rtcp_is_not_taken_for_rtp() {
        assert_eq!(rtp_header(&[0x80, 200, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]), None);
        assert_eq!(rtp_header(&[0x80, 96, 0]), None);
    }

    #[test]
    fn a_viewers_request_reaches_whoever_was_named() {
        let tap = Tap::new();
        let (asked, seen) = std::sync::mpsc::channel();
        tap.on_keyframe_request(KeyframeRequest::new(move || asked.send(()).unwrap()));
        tap.on_rtcp_in(&[Box::new(PictureLossIndication { sender_ssrc: 1, media_ssrc: 2 })], Instant::now());
        assert!(seen.try_recv().is_ok());
        assert_eq!(tap.stats().keyframe_requests, 1);
    }

    #[test]
    fn the_round_trip_is_what_is_left_when_their_holding_time_is_taken_off() {
        let tap = Tap::new();
        let _sent = tap.watch_video_out(5);
        let start = Instant::now();
        let ours = rtcp::sender_report::SenderReport { ssrc: 5, ntp_time: 0x1234_5678_9ABC_DEF0, ..Default::default() };
        tap.on_rtcp_out(&mut [Box::new(ours)], start);
        let block = ReceptionReport {
            ssrc: 5,
            fraction_lost: 64,
            last_sender_report: 0x5678_9ABC,
            delay: 65_536 / 10,
            ..Default::default()
        };
        let theirs = ReceiverReport { reports: vec![block], ..Default::default() };
        tap.on_rtcp_in(&[Box::new(theirs)], start + Duration::from_millis(130));
        let stats = tap.stats();
        assert_eq!(stats.rtt.unwrap().as_millis(), 30);
        assert!((stats.loss.unwrap() - 0.25).abs() < 1e-6);
    }

    #[test]
    fn what_is_asked_for_once_more_is_sent_once_in_a_round_trip() {
        let tap = Tap::new();
        let pair = NackPair { packet_id: 65_535, lost_packets: 0b101 };
        let asked = |after: u64| {
            let nack = TransportLayerNack { sender_ssrc: 1, media_ssrc: 2, nacks: vec![pair] };
            let mut packet: Box<dyn rtcp::Packet> = Box::new(nack);
            tap.weed_nacks(&mut packet, tap.start + Duration::from_millis(after));
            let nack = packet.as_any().downcast_ref::<TransportLayerNack>().unwrap();
            assert_eq!(nack.media_ssrc, 2);
            nack.nacks.iter().map(|pair| (pair.packet_id, pair.lost_packets)).collect::<Vec<_>>()
        };
        let all = vec![(65_535, 0), (0, 0), (2, 0)];
        assert_eq!([asked(0), asked(20), asked(110)], [all.clone(), vec![], all]);
    }

    #[test]
    fn a_report_on_audio_counts_by_the_clock_of_what_is_sent() {
        let tap = Tap::new();
        let start = Instant::now();
        let time_of = |ssrc: u32, after: Duration| {
            let report = rtcp::sender_report::SenderReport { ssrc, rtp_time: 77, ..Default::default() };
            let mut packets: Vec<Box<dyn rtcp::Packet>> = vec![Box::new(report)];
            tap.on_rtcp_out(&mut packets, start + after);
            packets[0].as_any().downcast_ref::<rtcp::sender_report::SenderReport>().unwrap().rtp_time
        };
        assert_eq!(time_of(6, Duration::ZERO), 77, "nothing was sent yet");
        for (clock_rate, expected) in [(8000, 500 + 4000), (48_000, 500 + 24_000)] {
            tap.on_audio_out(AudioNote { ssrc: 6, rtp_timestamp: 500, clock_rate, at: start });
            assert_eq!(time_of(6, Duration::from_millis(500)), expected);
            assert_eq!(time_of(5, Duration::from_millis(500)), 77, "the video's is right as it is");
        }
        tap.on_audio_out(AudioNote { ssrc: 6, rtp_timestamp: u32::MAX, clock_rate: 8000, at: start });
        assert_eq!(time_of(6, Duration::from_secs(1)), 7999, "timestamps wrap");
    }

    proptest! {
        #[test]
        fn arbitrary_datagrams_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let tap = Tap::new();
            tap.on_datagram_in(&bytes, Instant::now());
            tap.on_datagram_out(&bytes, Instant::now());
        }
    }
}
