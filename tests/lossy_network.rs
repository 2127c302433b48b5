//! Real H.264 through a seeded network with loss, reordering, duplication, retransmission and outages, in virtual time.
//!
//! What must hold whatever the network does: nothing panics, every picture that comes out is bit for bit the one that the
//! sender's own decoder shows, and an IDR that arrives whole is shown on its last packet, so that a loss is over one round
//! trip and a frame after the request.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use bytes::Bytes;
use openh264::OpenH264API;
use openh264::decoder::Decoder;
use openh264::encoder::{
    BitRate, Complexity, Encoder, EncoderConfig, FrameRate, IntraFramePeriod, Profile, RateControlMode, UsageType,
};
use openh264::formats::{YUVSlices, YUVSource};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use sightline::media::{AccessUnit, RtpPacket};
use sightline::source::nal;
use sightline::source::rtp::{Assembled, Assembler, AssemblerConfig, Counters};

const WIDTH: usize = 320;
const HEIGHT: usize = 240;
const FRAMES: u64 = 180;
const PAYLOAD: usize = 1180;
const SEEDS: u32 = 3;

const FRAME: Duration = Duration::from_micros(33_333);
const NACK_INTERVAL: Duration = Duration::from_millis(20);
const ONE_WAY: Duration = Duration::from_millis(20);

/// What the network does to packets, in both directions.
#[derive(Clone, Copy)]
struct Network {
    loss: f64,
    duplication: f64,
    /// Added to the way of each media packet, uniformly from 0: packets overtake each other.
    jitter: Duration,
    /// Whether the receiver asks for missing packets.
    nack: bool,
    /// From when until when nothing passes at all; the receiver's feedback is cut off for as long again.
    outage: Option<(Duration, Duration)>,
}

impl Network {
    const CLEAN: Self = Self { loss: 0.0, duplication: 0.0, jitter: Duration::ZERO, nack: true, outage: None };

    fn lossy(loss: f64, nack: bool) -> Self {
        let outage = Some((Duration::from_millis(2000), Duration::from_millis(2300)));
        Self { loss, duplication: 0.02, jitter: Duration::from_millis(8), nack, outage }
    }
}

/// Splits an access unit into RTP payloads as a browser does: parameter sets aggregated, large slices fragmented.
fn packetize(annex_b: &[u8]) -> Vec<Vec<u8>> {
    let mut payloads = Vec::new();
    let mut sets = vec![0x78];
    for unit in nal::nal_units(annex_b) {
        if matches!(nal::nal_type(unit), Some(nal::SPS | nal::PPS)) {
            sets.extend_from_slice(&u16::try_from(unit.len()).unwrap().to_be_bytes());
            sets.extend_from_slice(unit);
            continue;
        }
        if sets.len() > 1 {
            payloads.push(std::mem::replace(&mut sets, vec![0x78]));
        }
        if unit.len() <= PAYLOAD {
            payloads.push(unit.to_vec());
            continue;
        }
        let chunks = unit[1..].chunks(PAYLOAD - 2);
        let last = chunks.len() - 1;
        for (index, chunk) in chunks.enumerate() {
            let flags = if index == 0 { 0x80 } else { 0 } | if index == last { 0x40 } else { 0 };
            payloads.push([&[unit[0] & 0xe0 | 28, flags | unit[0] & 0x1f], chunk].concat());
        }
    }
    payloads
}

/// The picture of an access unit: the three planes without padding.
fn decode(decoder: &mut Decoder, unit: &[u8]) -> Vec<u8> {
    let yuv = decoder.decode(unit).expect("a unit that decodes").expect("a picture for each unit");
    let (y, u, v) = yuv.strides();
    let mut picture = Vec::with_capacity(WIDTH * HEIGHT * 3 / 2);
    for (plane, stride, width) in [(yuv.y(), y, WIDTH), (yuv.u(), u, WIDTH / 2), (yuv.v(), v, WIDTH / 2)] {
        let height = width * HEIGHT / WIDTH;
        plane.chunks(stride).take(height).for_each(|row| picture.extend_from_slice(&row[..width]));
    }
    picture
}

fn timestamp(frame: u64) -> u32 {
    (u32::MAX - 100_000).wrapping_add(u32::try_from(frame * 3000).unwrap())
}

/// A camera: a noisy picture that moves, encoded, with an IDR when one was asked for.
struct Sender {
    encoder: Encoder,
    decoder: Decoder,
    texture: Vec<u8>,
    sequence: u16,
    sent: HashMap<u16, RtpPacket>,
    /// What the sender's own decoder shows, by frame.
    pictures: Vec<Vec<u8>>,
    /// When the request was made that the next picture answers.
    asked: Option<Duration>,
}

impl Sender {
    fn new(random: &mut StdRng) -> Self {
        let config = EncoderConfig::new()
            .usage_type(UsageType::CameraVideoRealTime)
            .rate_control_mode(RateControlMode::Bitrate)
            .bitrate(BitRate::from_bps(800_000))
            .max_frame_rate(FrameRate::from_hz(30.0))
            .complexity(Complexity::Low)
            .profile(Profile::Baseline)
            .intra_frame_period(IntraFramePeriod::from_num_frames(0))
            .scene_change_detect(false)
            .skip_frames(false);
        Self {
            encoder: Encoder::with_api_config(OpenH264API::from_source(), config).unwrap(),
            decoder: Decoder::new().unwrap(),
            texture: (0..64 * 64).map(|_| random.random()).collect(),
            sequence: 65_500,
            sent: HashMap::new(),
            pictures: Vec::new(),
            asked: None,
        }
    }

    fn capture(&mut self, frame: u64, now: Instant, random: &mut StdRng) -> Vec<RtpPacket> {
        let shift = usize::try_from(frame).unwrap();
        let luma: Vec<u8> = (0..WIDTH * HEIGHT)
            .map(|at| {
                let (x, y) = (at % WIDTH + 2 * shift, at / WIDTH + shift);
                self.texture[(y / 4 % 64) * 64 + x / 4 % 64] / 2 + random.random_range(50..70)
            })
            .collect();
        let chroma = vec![128; WIDTH * HEIGHT / 4];
        if self.asked.is_some() {
            self.encoder.force_intra_frame();
        }
        let source = YUVSlices::new((&luma, &chroma, &chroma), (WIDTH, HEIGHT), (WIDTH, WIDTH / 2, WIDTH / 2));
        let unit = self.encoder.encode(&source).unwrap().to_vec();
        assert_eq!(nal::is_idr(&unit), frame == 0 || self.asked.is_some(), "the encoder makes IDRs only when asked");
        self.pictures.push(decode(&mut self.decoder, &unit));
        let payloads = packetize(&unit);
        let last = payloads.len() - 1;
        let mut packets = Vec::new();
        for (index, payload) in payloads.into_iter().enumerate() {
            self.sequence = self.sequence.wrapping_add(1);
            let packet = RtpPacket {
                sequence_number: self.sequence,
                timestamp: timestamp(frame),
                marker: index == last,
                payload: Bytes::from(payload),
                arrived: now,
            };
            self.sent.insert(self.sequence, packet.clone());
            packets.push(packet);
        }
        packets
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Way {
    Media,
    Feedback,
}

enum Event {
    Capture(u64),
    Arrival(RtpPacket),
    NackTimer,
    NackAtSender(u16),
    RequestAtSender { asked: Duration },
}

/// An IDR that answers a request.
struct Answer {
    asked: Duration,
    /// Whether every packet of it passed the network at the first attempt.
    whole: bool,
}

struct Simulation {
    network: Network,
    random: StdRng,
    start: Instant,
    now: Duration,
    /// What is to happen, by time; the number tells events of the same time apart.
    events: BTreeMap<(Duration, u64), Event>,
    scheduled: u64,
    sender: Sender,
    assembler: Assembler,
    decoder: Decoder,
    /// Sequence numbers that the receiver misses, and the newest that it has.
    missing: BTreeSet<u16>,
    newest: Option<u16>,
    /// When each frame was shown.
    shown: BTreeMap<u64, Duration>,
    answers: BTreeMap<u64, Answer>,
    requests: Vec<Duration>,
}

impl Simulation {
    fn new(network: Network, seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let sender = Sender::new(&mut random);
        let mut simulation = Self {
            network,
            random,
            start: Instant::now(),
            now: Duration::ZERO,
            events: BTreeMap::new(),
            scheduled: 0,
            sender,
            assembler: Assembler::new(AssemblerConfig::default()),
            decoder: Decoder::new().unwrap(),
            missing: BTreeSet::new(),
            newest: None,
            shown: BTreeMap::new(),
            answers: BTreeMap::new(),
            requests: Vec::new(),
        };
        for frame in 0..FRAMES {
            simulation.schedule(FRAME * u32::try_from(frame).unwrap(), Event::Capture(frame));
        }
        if network.nack {
            simulation.schedule(NACK_INTERVAL, Event::NackTimer);
        }
        simulation
    }

    fn schedule(&mut self, at: Duration, event: Event) {
        self.scheduled += 1;
        self.events.insert((at, self.scheduled), event);
    }

    fn run(mut self) -> Self {
        let end = FRAME * u32::try_from(FRAMES).unwrap() + Duration::from_secs(1);
        while let Some(((at, _), event)) = self.events.pop_first().filter(|((at, _), _)| *at < end) {
            while let Some(deadline) = self.assembler.deadline().map(|deadline| deadline - self.start)
                && deadline <= at
            {
                self.now = deadline;
                self.poll();
            }
            self.now = at;
            self.on(event);
        }
        self
    }

    fn on(&mut self, event: Event) {
        match event {
            Event::Capture(frame) => {
                let asked = self.sender.asked;
                let packets = self.sender.capture(frame, self.start + self.now, &mut self.random);
                self.sender.asked = None;
                let mut whole = true;
                for packet in packets {
                    whole &= self.transmit(&packet);
                }
                if let Some(asked) = asked {
                    self.answers.insert(frame, Answer { asked, whole });
                }
            }
            Event::Arrival(packet) => {
                self.note_sequence(packet.sequence_number);
                self.assembler.push(RtpPacket { arrived: self.start + self.now, ..packet });
                self.poll();
            }
            Event::NackTimer => {
                for sequence in self.missing.clone() {
                    if self.passes(Way::Feedback) {
                        self.schedule(self.now + ONE_WAY, Event::NackAtSender(sequence));
                    }
                }
                self.schedule(self.now + NACK_INTERVAL, Event::NackTimer);
            }
            Event::NackAtSender(sequence) => {
                let packet = self.sender.sent[&sequence].clone();
                self.transmit(&packet);
            }
            Event::RequestAtSender { asked } => {
                self.sender.asked.get_or_insert(asked);
            }
        }
    }

    fn passes(&mut self, way: Way) -> bool {
        let cut = self.network.outage.is_some_and(|(from, to)| {
            let to = if way == Way::Feedback { to + (to - from) } else { to };
            (from..to).contains(&self.now)
        });
        !self.random.random_bool(self.network.loss) && !cut
    }

    fn transmit(&mut self, packet: &RtpPacket) -> bool {
        let copies = if self.random.random_bool(self.network.duplication) { 2 } else { 1 };
        let mut passed = false;
        for _ in 0..copies {
            if self.passes(Way::Media) {
                let jitter = self.network.jitter.mul_f64(self.random.random());
                self.schedule(self.now + ONE_WAY + jitter, Event::Arrival(packet.clone()));
                passed = true;
            }
        }
        passed
    }

    /// What a NACK generator does: everything between the newest packet and the one before it is missing.
    fn note_sequence(&mut self, sequence: u16) {
        let newest = *self.newest.get_or_insert(sequence);
        self.missing.remove(&sequence);
        let ahead = sequence.wrapping_sub(newest);
        if (1..0x8000).contains(&ahead) {
            self.missing.extend((1..ahead).map(|step| newest.wrapping_add(step)));
            self.newest = Some(sequence);
        }
        let newest = self.newest.unwrap_or(sequence);
        self.missing.retain(|&missing| newest.wrapping_sub(missing) < 200);
    }

    fn poll(&mut self) {
        while let Some(assembled) = self.assembler.poll(self.start + self.now) {
            match assembled {
                Assembled::AccessUnit(unit) => self.show(&unit),
                Assembled::KeyframeNeeded(_) => {
                    self.requests.push(self.now);
                    if self.passes(Way::Feedback) {
                        self.schedule(self.now + ONE_WAY, Event::RequestAtSender { asked: self.now });
                    }
                }
            }
        }
    }

    fn show(&mut self, unit: &AccessUnit) {
        let frame = u64::from(unit.rtp_timestamp.wrapping_sub(timestamp(0))) / 3000;
        let before = self.shown.last_key_value().map(|(&frame, _)| frame);
        assert!(before.is_none_or(|before| before < frame), "frame {frame} behind {before:?}");
        assert!(
            unit.idr || before.is_some_and(|before| before + 1 == frame),
            "frame {frame} depends on one that was not shown"
        );
        assert_eq!(unit.idr, nal::is_idr(&unit.data));
        let picture = decode(&mut self.decoder, &unit.data);
        assert!(picture == self.sender.pictures[usize::try_from(frame).unwrap()], "frame {frame} is corrupt");
        self.shown.insert(frame, self.now);
    }

    fn counters(&self) -> Counters {
        self.assembler.counters()
    }

    /// How long after the request each answer was shown that arrived whole.
    fn recoveries(&self) -> Vec<Duration> {
        let shown = |(frame, answer): (&u64, &Answer)| {
            let at = self.shown.get(frame).unwrap_or_else(|| panic!("frame {frame} arrived whole and was never shown"));
            *at - answer.asked
        };
        self.answers.iter().filter(|(_, answer)| answer.whole).map(shown).collect()
    }

    fn shown_of_the_last(&self, frames: u64) -> usize {
        self.shown.range(FRAMES - frames..).count()
    }
}

#[test]
fn a_clean_network_shows_every_picture_on_its_last_packet() {
    let simulation = Simulation::new(Network::CLEAN, 1).run();
    assert_eq!(simulation.shown.len() as u64, FRAMES);
    for (&frame, &at) in &simulation.shown {
        assert_eq!(at, FRAME * u32::try_from(frame).unwrap() + ONE_WAY);
    }
    let counters = simulation.counters();
    assert!(counters.packets > 2 * FRAMES, "several packets to a picture: {counters:?}");
    assert_eq!((counters.lost, counters.late, counters.duplicates, counters.broken), (0, 0, 0, 0));
    assert!(simulation.requests.is_empty(), "{:?}", simulation.requests);
}

#[test]
fn reordering_and_duplication_alone_lose_nothing() {
    let network = Network { duplication: 0.3, jitter: Duration::from_millis(30), nack: false, ..Network::CLEAN };
    for seed in 1..4 {
        let simulation = Simulation::new(network, seed).run();
        let counters = simulation.counters();
        // A stream's first packets may come in the wrong order, which nobody can know: then the first IDR is late by a request.
        let lost_at_the_start = simulation.shown.first_key_value().map_or(0, |(&frame, _)| frame);
        assert!(lost_at_the_start < 10, "seed {seed}: starts with frame {lost_at_the_start}");
        assert_eq!(simulation.shown.len() as u64, FRAMES - lost_at_the_start, "seed {seed}: {counters:?}");
        assert!(counters.duplicates > 50, "{counters:?}");
    }
}

/// Runs the network over several seeds and checks what must hold at any rate; returns the part of the pictures shown. At
/// least `whole` answers to requests must have come through at the first attempt, or their check would be empty.
fn through(loss: f64, nack: bool, whole: usize) -> f64 {
    let network = Network::lossy(loss, nack);
    let bound = 2 * ONE_WAY + FRAME + network.jitter;
    let (mut shown, mut recoveries) = (0, 0);
    for seed in 1..=SEEDS {
        let simulation = Simulation::new(network, u64::from(seed)).run();
        let counters = simulation.counters();
        println!(
            "loss {loss} nack {nack} seed {seed}: {} of {FRAMES} shown, {} requests, recoveries {:?}, {counters:?}",
            simulation.shown.len(),
            simulation.requests.len(),
            simulation.recoveries()
        );
        for took in simulation.recoveries() {
            assert!(took <= bound, "seed {seed}: shown {took:?} after the request");
            recoveries += 1;
        }
        assert!(counters.lost > 0 && counters.keyframe_requests > 0, "the outage alone loses packets: {counters:?}");
        assert!(simulation.shown_of_the_last(30) > 0, "seed {seed}: the stream came back");
        shown += u32::try_from(simulation.shown.len()).unwrap();
    }
    assert!(recoveries >= whole, "only {recoveries} answers arrived whole");
    f64::from(shown) / f64::from(SEEDS * u32::try_from(FRAMES).unwrap())
}

#[test]
fn one_percent_of_loss_is_repaired_by_retransmission() {
    assert!(through(0.01, true, 2) > 0.8);
}

#[test]
fn five_percent_of_loss_is_repaired_by_retransmission() {
    assert!(through(0.05, true, 1) > 0.75);
}

#[test]
fn twenty_percent_of_loss_is_mostly_repaired_by_retransmission() {
    assert!(through(0.2, true, 0) > 0.7);
}

#[test]
fn one_percent_of_loss_without_retransmission_recovers_by_keyframes() {
    assert!(through(0.01, false, 10) > 0.5);
}

#[test]
fn five_percent_of_loss_without_retransmission_recovers_by_keyframes() {
    assert!(through(0.05, false, 10) > 0.1);
}

#[test]
fn twenty_percent_of_loss_without_retransmission_never_shows_a_corrupt_picture() {
    let network = Network::lossy(0.2, false);
    for seed in 1..4 {
        let simulation = Simulation::new(network, seed).run();
        // Whole pictures are rare here; `show` has compared each, and every whole answer must be among them.
        let recoveries = simulation.recoveries();
        println!("seed {seed}: {} shown, {recoveries:?}, {:?}", simulation.shown.len(), simulation.counters());
        assert!(simulation.counters().keyframe_requests > 3);
    }
}
