//! Looks behind a gap for a picture that stands alone.

use super::payload::PayloadKind;
use crate::media::RtpPacket;

/// The run of packets that may become a whole IDR.
#[derive(Clone, Copy, Default)]
struct Run {
    /// Sequence number of its first packet, once it is certain that nothing of the unit stands before it.
    begin: Option<u16>,
    idr: bool,
    vcl: bool,
    sps: bool,
}

/// The first whole IDR among `packets`, which come in sequence but with gaps: the sequence number of its first packet, or of
/// the parameter sets that stand alone before it. `sets_known` says that parameter sets have been seen before, so that the IDR
/// needs none of its own.
pub(super) fn whole_idr<'a>(packets: impl Iterator<Item = &'a RtpPacket>, sets_known: bool) -> Option<u16> {
    let mut run = Run::default();
    // Sequence number and timestamp of the packet before, and whether it ended a unit.
    let mut before: Option<(u16, u32, bool)> = None;
    let found = |run: &Run| run.begin.filter(|_| run.idr && (run.sps || sets_known));
    for packet in packets {
        let (sequence, timestamp) = (packet.sequence_number, packet.timestamp);
        before = before.filter(|(last, ..)| last.wrapping_add(1) == sequence);
        if before.is_none() {
            run = Run::default();
        }
        if packet.payload.is_empty() {
            // Padding continues the sequence and says nothing else.
            before = before.map(|(_, timestamp, ended)| (sequence, timestamp, ended));
            continue;
        }
        if let Some((_, last, ended)) = before
            && (ended || last != timestamp)
        {
            if let Some(begin) = found(&run) {
                return Some(begin);
            }
            // Parameter sets with a timestamp of their own belong to what follows them.
            if run.vcl || run.begin.is_none() {
                run = Run { begin: Some(sequence), ..Run::default() };
            }
        }
        let kind = PayloadKind::of(&packet.payload);
        if run.begin.is_none() && kind.starts_unit && !run.vcl {
            run.begin = Some(sequence);
        }
        run = Run { idr: run.idr || kind.idr, vcl: run.vcl || kind.vcl, sps: run.sps || kind.sps, ..run };
        let ended = packet.marker && run.vcl;
        if ended && let Some(begin) = found(&run) {
            return Some(begin);
        }
        before = Some((sequence, timestamp, ended));
    }
    None
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use bytes::Bytes;

    use super::*;

    /// Packets `(sequence, timestamp, payload)`; a payload's last byte `0xff` stands for the marker.
    fn search(packets: &[(u16, u32, &'static [u8])], sets_known: bool) -> Option<u16> {
        let packets: Vec<_> = packets
            .iter()
            .map(|&(sequence_number, timestamp, payload)| RtpPacket {
                sequence_number,
                timestamp,
                marker: payload.last() == Some(&0xff),
                payload: Bytes::from_static(payload),
                arrived: Instant::now(),
            })
            .collect();
        whole_idr(packets.iter(), sets_known)
    }

    const SPS: &[u8] = &[0x67, 66, 0, 31, 0x80];
    const PPS: &[u8] = &[0x68, 0x80];
    const IDR: &[u8] = &[0x65, 0x88, 1];
    const IDR_END: &[u8] = &[0x65, 0x08, 0xff];
    const SLICE_END: &[u8] = &[0x61, 0x88, 0xff];

    #[test]
    fn an_idr_behind_the_end_of_another_unit_is_whole() {
        assert_eq!(search(&[(5, 1, SLICE_END), (6, 2, IDR), (7, 2, IDR_END)], true), Some(6));
        assert_eq!(search(&[(5, 1, SLICE_END), (6, 2, IDR), (7, 2, IDR_END)], false), None);
        assert_eq!(search(&[(5, 1, SLICE_END), (6, 1, &[]), (7, 2, IDR_END)], true), Some(7), "padding between");
    }

    #[test]
    fn parameter_sets_begin_a_unit_wherever_they_stand() {
        assert_eq!(search(&[(6, 2, SPS), (7, 2, PPS), (8, 2, IDR_END)], false), Some(6));
        assert_eq!(search(&[(6, 1, SPS), (7, 1, PPS), (8, 2, IDR_END)], false), Some(6), "with their own timestamp");
    }

    #[test]
    fn an_idr_that_may_lack_a_packet_is_passed_over() {
        assert_eq!(search(&[(6, 2, IDR), (7, 2, IDR_END)], true), None, "its head may be missing");
        assert_eq!(search(&[(6, 2, SPS), (8, 2, IDR_END)], true), None, "a gap inside");
        assert_eq!(search(&[(6, 2, SPS), (7, 2, PPS), (8, 2, IDR)], true), None, "no end yet");
        assert_eq!(
            search(&[(6, 2, SPS), (7, 2, IDR), (8, 3, SLICE_END)], true),
            Some(6),
            "ended by the next timestamp"
        );
        assert_eq!(search(&[(6, 2, SPS), (7, 2, IDR), (9, 3, SLICE_END)], true), None);
    }
}
