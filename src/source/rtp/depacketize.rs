//! H.264 out of RTP payloads (RFC 6184, packetization modes 0 and 1).

use std::collections::BTreeMap;
use std::time::Instant;

use bytes::{Buf, Bytes, BytesMut};

use super::payload::{FU_A, PayloadKind, STAP_A, UnitError, aggregated};
use crate::media::{AccessUnit, MAX_ACCESS_UNIT_BYTES, RtpPacket, VideoCodec};
use crate::source::nal::{self, AUD, PPS, SPS};
use crate::source::sps::{MAX_PARAMETER_SET_BYTES, parameter_set_id};

/// The access unit under construction.
#[derive(Clone, Copy, Debug)]
struct Open {
    timestamp: u32,
    first: Instant,
    last: Instant,
    vcl: bool,
    idr: bool,
    sps: bool,
    pps: bool,
    /// Behind a leading access unit delimiter: where missing parameter sets go in.
    sets_at: usize,
    /// Type of the fragmented NAL unit that has begun and not ended, and where in the buffer its header stands.
    fragment: Option<(u8, usize)>,
    broken: Option<UnitError>,
}

/// Puts access units together from packets that come in sequence. Whoever feeds it says where a unit ends, by
/// [`finish`](Self::finish): at the marker, or when the timestamp changes.
#[derive(Debug, Default)]
pub struct Depacketizer {
    buffer: BytesMut,
    open: Option<Open>,
    /// The newest parameter sets by their id: at most 32 and 256, each at most [`MAX_PARAMETER_SET_BYTES`].
    sps: BTreeMap<u8, Bytes>,
    pps: BTreeMap<u8, Bytes>,
}

impl Depacketizer {
    /// A depacketizer that has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a packet to the open unit, or opens one. Empty payloads (padding, bandwidth probes) change nothing. What is
    /// wrong with a payload is told by [`finish`](Self::finish).
    pub fn push(&mut self, packet: &RtpPacket) {
        if packet.payload.is_empty() {
            return;
        }
        if self.open.is_none() {
            self.buffer.clear();
        }
        let mut open = self.open.take().unwrap_or(Open {
            timestamp: packet.timestamp,
            first: packet.arrived,
            last: packet.arrived,
            vcl: false,
            idr: false,
            sps: false,
            pps: false,
            sets_at: 0,
            fragment: None,
            broken: None,
        });
        open.first = open.first.min(packet.arrived);
        open.last = open.last.max(packet.arrived);
        let kind = PayloadKind::of(&packet.payload);
        (open.vcl, open.idr) = (open.vcl | kind.vcl, open.idr | kind.idr);
        if open.broken.is_none()
            && let Err(error) = self.append(&mut open, &packet.payload)
        {
            open.broken = Some(error);
            self.buffer.clear();
        }
        self.open = Some(open);
    }

    fn append(&mut self, open: &mut Open, payload: &Bytes) -> Result<(), UnitError> {
        let nal_type = nal::nal_type(payload).ok_or(UnitError::Malformed)?;
        if open.fragment.is_some() && nal_type != FU_A {
            return Err(UnitError::Fragment);
        }
        match nal_type {
            1..=23 => self.append_nal(open, payload),
            STAP_A => aggregated(payload).try_for_each(|nal| self.append_nal(open, nal?)),
            FU_A => self.append_fragment(open, payload),
            other => Err(UnitError::Unsupported(other)),
        }
    }

    fn append_nal(&mut self, open: &mut Open, nal: &[u8]) -> Result<(), UnitError> {
        let nal_type = nal::nal_type(nal).ok_or(UnitError::Malformed)?;
        // The forbidden bit is how a gateway marks a NAL unit that was damaged on its way (RFC 6184 §1.3).
        if !(1..=23).contains(&nal_type) || nal.first().is_some_and(|header| header & 0x80 != 0) {
            return Err(UnitError::Malformed);
        }
        self.check_room(nal.len())?;
        let first = self.buffer.is_empty();
        nal::put_nal(&mut self.buffer, nal);
        if first && nal_type == AUD {
            open.sets_at = self.buffer.len();
        }
        self.note_parameter_set(open, nal_type, nal);
        Ok(())
    }

    fn append_fragment(&mut self, open: &mut Open, payload: &[u8]) -> Result<(), UnitError> {
        let (&[indicator, header], data) = payload.split_first_chunk::<2>().ok_or(UnitError::Malformed)?;
        let (start, end, nal_type) = (header & 0x80 != 0, header & 0x40 != 0, header & 0x1f);
        if !(1..=23).contains(&nal_type) || indicator & 0x80 != 0 {
            return Err(UnitError::Malformed);
        }
        self.check_room(data.len())?;
        let at = match (start, open.fragment) {
            (true, None) => {
                nal::put_nal(&mut self.buffer, &[indicator & 0xe0 | nal_type]);
                self.buffer.len() - 1
            }
            (false, Some((begun, at))) if begun == nal_type => at,
            _ => return Err(UnitError::Fragment),
        };
        self.buffer.extend_from_slice(data);
        open.fragment = (!end).then_some((nal_type, at));
        if end && matches!(nal_type, SPS | PPS) {
            let nal = Bytes::copy_from_slice(self.buffer.get(at..).unwrap_or_default());
            self.note_parameter_set(open, nal_type, &nal);
        }
        Ok(())
    }

    fn check_room(&self, more: usize) -> Result<(), UnitError> {
        let len = self.buffer.len() + nal::START_CODE.len() + 1 + more;
        if len > MAX_ACCESS_UNIT_BYTES { Err(UnitError::Oversize) } else { Ok(()) }
    }

    /// Remembers a parameter set, also when its unit comes to nothing: it holds until it is replaced.
    fn note_parameter_set(&mut self, open: &mut Open, nal_type: u8, nal: &[u8]) {
        let kept = match nal_type {
            SPS => {
                open.sps = true;
                &mut self.sps
            }
            PPS => {
                open.pps = true;
                &mut self.pps
            }
            _ => return,
        };
        if let Some(id) = parameter_set_id(nal)
            && kept.get(&id).is_none_or(|known| known != nal)
        {
            kept.insert(id, Bytes::copy_from_slice(nal));
        }
    }

    /// The RTP timestamp of the open unit.
    #[must_use]
    pub fn open_timestamp(&self) -> Option<u32> {
        self.open.map(|open| open.timestamp)
    }

    /// Whether the open unit has a slice yet: a marker on parameter sets alone, which some cameras set, ends nothing.
    #[must_use]
    pub fn open_has_slice(&self) -> bool {
        self.open.is_some_and(|open| open.vcl)
    }

    /// Whether the open unit is an IDR that is whole so far.
    #[must_use]
    pub fn open_is_sound_idr(&self) -> bool {
        self.open.is_some_and(|open| open.idr && open.broken.is_none())
    }

    /// Whether an IDR that comes without parameter sets could be completed.
    #[must_use]
    pub fn has_parameter_sets(&self) -> bool {
        !self.sps.is_empty() && !self.pps.is_empty()
    }

    /// Marks the open unit as one that lacks a packet.
    pub fn note_loss(&mut self) {
        if let Some(open) = &mut self.open {
            open.broken.get_or_insert(UnitError::Incomplete);
        }
    }

    /// Ends the open unit. `None` if there is none, or if it holds no slice (parameter sets alone are remembered).
    ///
    /// # Errors
    /// What made the unit unusable, with `idr` in [`Broken`].
    pub fn finish(&mut self) -> Option<Result<AccessUnit, Broken>> {
        let open = self.open.take()?;
        let broken = open.broken.or(open.fragment.map(|_| UnitError::Fragment));
        if let Some(error) = broken {
            self.buffer.clear();
            // A broken unit may have lost its slices with the rest: it counts all the same.
            return Some(Err(Broken { error, idr: open.idr }));
        }
        if !open.vcl {
            self.buffer.clear();
            return None;
        }
        let data = match self.completed(&open) {
            Ok(data) => data,
            Err(error) => return Some(Err(Broken { error, idr: open.idr })),
        };
        Some(Ok(AccessUnit {
            codec: VideoCodec::H264,
            data,
            rtp_timestamp: open.timestamp,
            idr: open.idr,
            first_packet: open.first,
            last_packet: open.last,
            captured: None,
        }))
    }

    /// The unit's bytes; an IDR gets the parameter sets that it lacks.
    fn completed(&mut self, open: &Open) -> Result<Bytes, UnitError> {
        let body = self.buffer.split().freeze();
        if !open.idr || (open.sps && open.pps) {
            return Ok(body);
        }
        if !self.has_parameter_sets() {
            return Err(UnitError::NoParameterSets);
        }
        // All of them, SPS first, even if one kind is there: a PPS is read by the rules of its SPS.
        let mut whole = BytesMut::with_capacity(body.len() + 256);
        let mut rest = body;
        whole.extend_from_slice(rest.get(..open.sets_at).unwrap_or_default());
        rest.advance(open.sets_at.min(rest.len()));
        for set in self.sps.values().chain(self.pps.values()) {
            nal::put_nal(&mut whole, set);
        }
        whole.extend_from_slice(&rest);
        if whole.len() > MAX_ACCESS_UNIT_BYTES { Err(UnitError::Oversize) } else { Ok(whole.freeze()) }
    }
}

/// A unit that came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken {
    /// What was wrong.
    pub error: UnitError,
    /// Whether a slice of an IDR was among what came.
    pub idr: bool,
}

const _: () = assert!(MAX_PARAMETER_SET_BYTES * (32 + 256) < MAX_ACCESS_UNIT_BYTES);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::source::nal::{IDR, nal_units};

    const SPS_NAL: [u8; 6] = [0x67, 66, 0, 31, 0x80, 0x11];
    const PPS_NAL: [u8; 3] = [0x68, 0x80, 0x22];
    const IDR_NAL: [u8; 4] = [0x65, 0x88, 0x33, 0x44];

    fn packet(payload: &[u8]) -> RtpPacket {
        let payload = Bytes::copy_from_slice(payload);
        RtpPacket { sequence_number: 0, timestamp: 90, marker: false, payload, arrived: Instant::now() }
    }

    fn stap(nals: &[&[u8]]) -> Vec<u8> {
        let mut payload = vec![0x60 | STAP_A];
        for nal in nals {
            payload.extend_from_slice(&u16::try_from(nal.len()).unwrap().to_be_bytes());
            payload.extend_from_slice(nal);
        }
        payload
    }

    fn fragments(nal: &[u8], size: usize) -> Vec<Vec<u8>> {
        let count = nal[1..].chunks(size).count();
        let fragment = |(index, chunk): (usize, &[u8])| {
            let flags = if index == 0 { 0x80 } else { 0 } | if index + 1 == count { 0x40 } else { 0 };
            [&[nal[0] & 0xe0 | FU_A, flags | nal[0] & 0x1f], chunk].concat()
        };
        nal[1..].chunks(size).enumerate().map(fragment).collect()
    }

    fn unit(depacketizer: &mut Depacketizer, payloads: &[Vec<u8>]) -> Option<Result<AccessUnit, Broken>> {
        for payload in payloads {
            depacketizer.push(&packet(payload));
        }
        depacketizer.finish()
    }

    fn error(payloads: &[Vec<u8>]) -> Option<UnitError> {
        unit(&mut Depacketizer::new(), payloads)?.err().map(|broken| broken.error)
    }

    #[test]
    fn single_aggregated_and_fragmented_nal_units_become_annex_b() {
        let mut depacketizer = Depacketizer::new();
        let mut payloads = vec![stap(&[&SPS_NAL, &PPS_NAL])];
        payloads.extend(fragments(&IDR_NAL, 1));
        payloads.push(vec![0x65, 0x08, 7]);
        let unit = unit(&mut depacketizer, &payloads).unwrap().unwrap();
        assert!(unit.idr && unit.data.starts_with(&[0, 0, 0, 1, 0x67]));
        let nals: Vec<_> = nal_units(&unit.data).collect();
        assert_eq!(nals, [&SPS_NAL[..], &PPS_NAL, &IDR_NAL, &[0x65, 0x08, 7]]);
    }

    #[test]
    fn an_idr_without_parameter_sets_gets_the_last_seen_behind_its_delimiter() {
        let mut depacketizer = Depacketizer::new();
        let idr = [vec![0x09, 0x10], IDR_NAL.to_vec()];
        let broken = unit(&mut depacketizer, &idr).unwrap().unwrap_err();
        assert_eq!(broken, Broken { error: UnitError::NoParameterSets, idr: true });
        assert!(unit(&mut depacketizer, &[stap(&[&SPS_NAL, &PPS_NAL])]).is_none(), "no picture in it");
        let newer = [&SPS_NAL[..5], &[0x55]].concat();
        assert!(unit(&mut depacketizer, std::slice::from_ref(&newer)).is_none());
        let unit = unit(&mut depacketizer, &idr).unwrap().unwrap();
        let nals: Vec<_> = nal_units(&unit.data).collect();
        assert_eq!(nals, [&[0x09, 0x10][..], &newer, &PPS_NAL, &IDR_NAL]);
    }

    #[test]
    fn damaged_payloads_lose_their_unit_alone() {
        let slice = vec![0x61, 0x88, 1];
        let cut_stap = stap(&[&SPS_NAL, &PPS_NAL])[..12].to_vec();
        assert_eq!(error(&[cut_stap, slice.clone()]), Some(UnitError::Malformed));
        assert_eq!(error(&[vec![0x78, 0, 0]]), Some(UnitError::Malformed), "an empty NAL unit inside");
        assert_eq!(error(&[vec![0x78, 9]]), Some(UnitError::Malformed));
        assert_eq!(error(&[stap(&[&stap(&[&SPS_NAL])])]), Some(UnitError::Malformed), "nested");
        assert_eq!(error(&[vec![0x7c]]), Some(UnitError::Malformed));
        assert_eq!(error(&[vec![0x80 | 0x61, 0x88]]), Some(UnitError::Malformed), "forbidden bit");
        for unsupported in [0, 25, 26, 27, 29, 30, 31] {
            assert_eq!(error(&[vec![unsupported, 1, 2, 3]]), Some(UnitError::Unsupported(unsupported)));
        }
        let mut depacketizer = Depacketizer::new();
        assert!(unit(&mut depacketizer, &[vec![0x7c]]).unwrap().is_err());
        assert_eq!(unit(&mut depacketizer, &[slice]).unwrap().unwrap().data.as_ref(), [0, 0, 0, 1, 0x61, 0x88, 1]);
    }

    #[test]
    fn stale_fragments_never_join_another_nal_unit() {
        let parts = fragments(&[0x65, 0x88, 1, 2, 3, 4], 2);
        let [start, middle, end] = parts.as_slice() else { panic!("three fragments") };
        let slice = vec![0x61, 0x88, 1];
        for payloads in [
            vec![middle.clone(), end.clone()],
            vec![start.clone(), start.clone()],
            vec![start.clone(), slice.clone()],
            vec![start.clone(), middle.clone()],
            vec![start.clone(), fragments(&[0x61, 1, 2, 3, 4], 2)[1].clone()],
        ] {
            assert_eq!(error(&payloads), Some(UnitError::Fragment), "{payloads:?}");
        }
        let mut depacketizer = Depacketizer::new();
        assert!(unit(&mut depacketizer, std::slice::from_ref(start)).unwrap().is_err());
        assert!(unit(&mut depacketizer, &[slice]).unwrap().is_ok());
    }

    #[test]
    fn an_oversize_unit_is_refused_and_its_memory_is_not_kept() {
        let mut depacketizer = Depacketizer::new();
        let big = packet(&[&[0x61u8, 0x88][..], &[7; 60_000]].concat());
        for _ in 0..100 {
            depacketizer.push(&big);
        }
        assert!(depacketizer.buffer.len() <= MAX_ACCESS_UNIT_BYTES);
        assert_eq!(depacketizer.finish().unwrap().unwrap_err().error, UnitError::Oversize);
    }

    #[test]
    fn the_unit_spans_the_arrivals_of_its_packets() {
        let start = Instant::now();
        let mut depacketizer = Depacketizer::new();
        for ms in [5, 2, 9] {
            let arrived = start + std::time::Duration::from_millis(ms);
            depacketizer.push(&RtpPacket { arrived, ..packet(&[0x61, 0x88]) });
        }
        let unit = depacketizer.finish().unwrap().unwrap();
        assert_eq!((unit.last_packet - unit.first_packet).as_millis(), 7);
        assert_eq!((unit.first_packet - start).as_millis(), 2);
    }

    proptest! {
        #[test]
        fn arbitrary_payloads_never_panic(
            payloads in prop::collection::vec(
                (prop::sample::select(vec![0x61u8, 0x65, 0x67, 0x68, 0x78, 0x7c, 0xff]), prop::collection::vec(any::<u8>(), 0..40)),
                0..12,
            ),
            ends in any::<u16>(),
        ) {
            let mut depacketizer = Depacketizer::new();
            for (index, (first, tail)) in payloads.into_iter().enumerate() {
                let payload = [&[first], tail.as_slice()].concat();
                let _ = PayloadKind::of(&payload);
                depacketizer.push(&packet(&payload));
                if ends >> index & 1 == 1
                    && let Some(Ok(unit)) = depacketizer.finish()
                {
                    prop_assert!(unit.data.starts_with(&nal::START_CODE));
                }
            }
        }

        #[test]
        fn a_unit_survives_any_packetization(
            bodies in prop::collection::vec((prop::sample::select(vec![1u8, 6, IDR]), prop::collection::vec(4u8.., 1..300)), 1..6),
            size in 1usize..100,
            aggregate in any::<bool>(),
        ) {
            let nals: Vec<Vec<u8>> = bodies.into_iter().map(|(nal_type, body)| [&[0x60 | nal_type], &body[..]].concat()).collect();
            let all: Vec<&[u8]> = [&SPS_NAL[..], &PPS_NAL].into_iter().chain(nals.iter().map(Vec::as_slice)).collect();
            let mut payloads = Vec::new();
            if aggregate {
                payloads.push(stap(&all));
            } else {
                for nal in &all {
                    if nal.len() > size + 1 { payloads.extend(fragments(nal, size)) } else { payloads.push(nal.to_vec()) }
                }
            }
            let has_slice = nals.iter().any(|nal| nal[0] != 0x66);
            match unit(&mut Depacketizer::new(), &payloads) {
                Some(Ok(unit)) => {
                    prop_assert!(has_slice);
                    prop_assert_eq!(nal_units(&unit.data).collect::<Vec<_>>(), all);
                    prop_assert_eq!(unit.idr, nal::is_idr(&unit.data));
                }
                other => prop_assert!(other.is_none() && !has_slice),
            }
        }
    }
}
