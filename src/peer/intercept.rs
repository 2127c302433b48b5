//! Where the tap sees RTCP in clear: an interceptor next to the wire.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use rtc::interceptor::{Interceptor, Packet, StreamInfo, TaggedPacket};
use rtc::sansio::Protocol;
use rtc::sdp::extmap::TRANSPORT_CC_URI;
use rtc::shared::error::Error;

use super::tap::Tap;

/// The interceptor that shows RTCP to the tap. It changes the time in the reports on audio, and what is asked for once more.
pub(super) struct TapInterceptor {
    tap: Arc<Tap>,
    /// The streams whose packets are numbered for the whole transport.
    numbered: HashMap<u32, Numbered>,
    reads: VecDeque<TaggedPacket>,
    writes: VecDeque<TaggedPacket>,
}

struct Numbered {
    /// The id of the header extension with the number.
    extension: u8,
    /// The newest packet of the stream; others are sent once more.
    newest: Option<u16>,
}

impl Numbered {
    /// The transport-wide number of a packet, and whether it is a new one.
    fn read(&mut self, packet: &rtc::rtp::Packet) -> Option<(u16, bool)> {
        let &[high, low, ..] = packet.header.get_extension(self.extension)?.as_ref() else { return None };
        let sequence_number = packet.header.sequence_number;
        let is_new = self.newest.is_none_or(|newest| sequence_number.wrapping_sub(newest).cast_signed() > 0);
        if is_new {
            self.newest = Some(sequence_number);
        }
        Some((u16::from_be_bytes([high, low]), is_new))
    }
}

impl TapInterceptor {
    pub(super) fn new(tap: Arc<Tap>) -> Self {
        Self { tap, numbered: HashMap::new(), reads: VecDeque::new(), writes: VecDeque::new() }
    }
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for TapInterceptor {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = Error;
    type Time = Instant;

    fn handle_read(&mut self, mut message: TaggedPacket) -> Result<(), Error> {
        if let Packet::Rtcp(packets) = &mut message.message.packet {
            self.tap.on_rtcp_in(packets, message.now);
            packets.iter_mut().for_each(|packet| self.tap.weed_nacks(packet, message.now));
        }
        self.reads.push_back(message);
        Ok(())
    }

    fn poll_read(&mut self) -> Option<TaggedPacket> {
        self.reads.pop_front()
    }

    fn handle_write(&mut self, mut message: TaggedPacket) -> Result<(), Error> {
        match &mut message.message.packet {
            Packet::Rtcp(packets) => self.tap.on_rtcp_out(packets, message.now),
            Packet::Rtp(packet) => {
                let numbered = self.numbered.get_mut(&packet.header.ssrc).and_then(|stream| stream.read(packet));
                if let Some((number, newest)) = numbered {
                    self.tap.on_numbered_out(number, packet, newest, Instant::now());
                }
            }
            _ => {}
        }
        self.writes.push_back(message);
        Ok(())
    }

    fn poll_write(&mut self) -> Option<TaggedPacket> {
        self.writes.pop_front()
    }

    fn handle_timeout(&mut self, _: Instant) -> Result<(), Error> {
        Ok(())
    }

    fn poll_timeout(&mut self) -> Option<Instant> {
        None
    }
}

impl Interceptor for TapInterceptor {
    fn bind_local_stream(&mut self, stream: &StreamInfo) {
        let extension = stream.rtp_header_extensions.iter().find(|extension| extension.uri == TRANSPORT_CC_URI);
        if let Some(extension) = extension.and_then(|extension| u8::try_from(extension.id).ok()) {
            self.numbered.insert(stream.ssrc, Numbered { extension, newest: None });
        }
    }

    fn unbind_local_stream(&mut self, stream: &StreamInfo) {
        self.numbered.remove(&stream.ssrc);
    }

    fn bind_remote_stream(&mut self, _: &StreamInfo) {}
    fn unbind_remote_stream(&mut self, _: &StreamInfo) {}
}
