//! Transport-wide feedback as a list of packets (draft-holmer-rmcat-transport-wide-cc-extensions-01).

use rtc::rtcp::transport_feedbacks::transport_layer_cc::{PacketStatusChunk, SymbolTypeTcc, TransportLayerCc};

use super::history::{Fate, Outcome};

/// The unit of the reference time, in microseconds.
const REFERENCE_MICROS: i64 = 64_000;

/// The reference time has 24 bits: it wraps after twelve days.
const REFERENCE_WRAP: i64 = 1 << 24;

/// Follows the reference time over its wraps.
#[derive(Debug, Default)]
pub(super) struct ReferenceClock(Option<i64>);

impl ReferenceClock {
    /// Microseconds of the other side's clock.
    fn micros(&mut self, reference: u32) -> i64 {
        let reference = i64::from(reference & 0x00ff_ffff);
        let ticks = self.0.map_or(reference, |last| {
            let step = (reference - last).rem_euclid(REFERENCE_WRAP);
            // A report that was overtaken steps back.
            last + if step < REFERENCE_WRAP / 2 { step } else { step - REFERENCE_WRAP }
        });
        self.0 = Some(ticks);
        ticks.saturating_mul(REFERENCE_MICROS)
    }
}

/// What the feedback says of each packet, in the order of their numbers. No longer than it says itself, whatever its chunks
/// claim.
pub(super) fn read(feedback: &TransportLayerCc, clock: &mut ReferenceClock) -> Vec<Fate> {
    let mut at = clock.micros(feedback.reference_time);
    let mut deltas = feedback.recv_deltas.iter();
    let mut number = feedback.base_sequence_number;
    let count = usize::from(feedback.packet_status_count);
    let symbols = feedback.packet_chunks.iter().flat_map(|chunk| {
        let (run, list) = match chunk {
            PacketStatusChunk::RunLengthChunk(run) => (Some((run.packet_status_symbol, run.run_length)), None),
            PacketStatusChunk::StatusVectorChunk(vector) => (None, Some(vector.symbol_list.iter().copied())),
        };
        let run = run.into_iter().flat_map(|(symbol, length)| std::iter::repeat_n(symbol, usize::from(length)));
        run.chain(list.into_iter().flatten())
    });
    let fates = symbols.take(count).map(|symbol| {
        let outcome = match symbol {
            SymbolTypeTcc::PacketNotReceived => Outcome::Lost,
            SymbolTypeTcc::PacketReceivedWithoutDelta => Outcome::Came,
            SymbolTypeTcc::PacketReceivedSmallDelta | SymbolTypeTcc::PacketReceivedLargeDelta => {
                deltas.next().map_or(Outcome::Came, |delta| {
                    at = at.saturating_add(delta.delta);
                    Outcome::CameAt(at)
                })
            }
        };
        let fate = Fate { number, outcome };
        number = number.wrapping_add(1);
        fate
    });
    fates.collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rtc::rtcp::transport_feedbacks::transport_layer_cc::{
        RecvDelta, RunLengthChunk, StatusChunkTypeTcc, StatusVectorChunk, SymbolSizeTypeTcc,
    };

    use super::*;

    fn run(packet_status_symbol: SymbolTypeTcc, run_length: u16) -> PacketStatusChunk {
        let type_tcc = StatusChunkTypeTcc::RunLengthChunk;
        PacketStatusChunk::RunLengthChunk(RunLengthChunk { type_tcc, packet_status_symbol, run_length })
    }

    fn deltas(micros: &[i64]) -> Vec<RecvDelta> {
        let delta = |&delta| RecvDelta { type_tcc_packet: SymbolTypeTcc::PacketReceivedSmallDelta, delta };
        micros.iter().map(delta).collect()
    }

    #[test]
    fn packets_arrive_by_the_deltas_and_lost_ones_take_none() {
        let feedback = TransportLayerCc {
            base_sequence_number: 65_535,
            packet_status_count: 4,
            reference_time: 2,
            packet_chunks: vec![
                run(SymbolTypeTcc::PacketReceivedSmallDelta, 1),
                PacketStatusChunk::StatusVectorChunk(StatusVectorChunk {
                    type_tcc: StatusChunkTypeTcc::StatusVectorChunk,
                    symbol_size: SymbolSizeTypeTcc::TwoBit,
                    symbol_list: vec![
                        SymbolTypeTcc::PacketNotReceived,
                        SymbolTypeTcc::PacketReceivedLargeDelta,
                        SymbolTypeTcc::PacketReceivedWithoutDelta,
                        SymbolTypeTcc::PacketReceivedSmallDelta,
                    ],
                }),
            ],
            recv_deltas: deltas(&[250, -1000, 500]),
            ..TransportLayerCc::default()
        };
        let fates = read(&feedback, &mut ReferenceClock::default());
        let said: Vec<_> = fates.iter().map(|fate| (fate.number, fate.outcome)).collect();
        let at = Outcome::CameAt;
        assert_eq!(said, [(65_535, at(128_250)), (0, Outcome::Lost), (1, at(127_250)), (2, Outcome::Came)]);
    }

    #[test]
    fn the_clock_goes_on_over_its_wrap_and_back_for_a_late_report() {
        let mut clock = ReferenceClock::default();
        let times = [0x00ff_ffff, 1, 0x00ff_fffe, 2].map(|reference| clock.micros(reference) / REFERENCE_MICROS);
        assert_eq!(times, [0x00ff_ffff, 0x0100_0001, 0x00ff_fffe, 0x0100_0002]);
    }

    proptest! {
        #[test]
        fn no_statement_is_longer_than_it_says(count in any::<u16>(), base in any::<u16>(), runs in prop::collection::vec((0u8..4, any::<u16>()), 0..40), micros in prop::collection::vec(any::<i64>(), 0..20), reference in any::<u32>()) {
            let symbol = |n: u8| [
                SymbolTypeTcc::PacketNotReceived,
                SymbolTypeTcc::PacketReceivedSmallDelta,
                SymbolTypeTcc::PacketReceivedLargeDelta,
                SymbolTypeTcc::PacketReceivedWithoutDelta,
            ][usize::from(n)];
            let feedback = TransportLayerCc {
                base_sequence_number: base,
                packet_status_count: count,
                reference_time: reference,
                packet_chunks: runs.iter().map(|&(n, length)| run(symbol(n), length)).collect(),
                recv_deltas: deltas(&micros),
                ..TransportLayerCc::default()
            };
            let fates = read(&feedback, &mut ReferenceClock::default());
            prop_assert!(fates.len() <= usize::from(count));
            for (n, fate) in fates.iter().enumerate() {
                prop_assert_eq!(fate.number, base.wrapping_add(n as u16));
            }
        }
    }
}
