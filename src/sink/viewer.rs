//! A viewer over WebRTC: frames out, and a `frame` message once the last packet of each has left.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use super::feed::ViewerFeed;
use super::frame::EncodedFrame;
use super::message::FrameMessage;
use super::queue::MessageQueue;
use super::share::Topic;
use crate::media::{FrameLedger, Mark};
use crate::peer::{Sent, VideoOut};

/// Frames written whose last packet has not been seen leaving yet.
const UNSENT_FRAMES: usize = 64;

/// Sends what `feed` gives until the stream or the connection ends. `on_sent` gets each frame's complete ledger, but of those
/// that were cached when the viewer came.
pub async fn serve_viewer(
    mut feed: ViewerFeed,
    mut out: VideoOut,
    stream: Arc<str>,
    messages: Arc<MessageQueue>,
    on_sent: impl Fn(&EncodedFrame, &FrameLedger),
) {
    let Some(mut sent) = out.take_sent() else { return };
    let mut bandwidth = out.bandwidth();
    let mut unsent: VecDeque<Arc<EncodedFrame>> = VecDeque::with_capacity(UNSENT_FRAMES);
    loop {
        tokio::select! {
            biased;
            note = sent.recv() => match note {
                Some(note) => {
                    let Some(frame) = take_sent(&mut unsent, note) else { continue };
                    let mut ledger = frame.ledger;
                    ledger.mark_at(Mark::FirstSent, note.first);
                    ledger.mark_at(Mark::Sent, note.last);
                    if !feed.was_cached(&frame) {
                        on_sent(&frame, &ledger);
                    }
                    if messages.is_open() {
                        let message = frame_message(&stream, &frame, &ledger);
                        // Who begins with an IDR, or comes back with one, knows nothing of the frames before: there are few.
                        if frame.idr { messages.push(message) } else { messages.offer(Topic::Frame, message) }
                    }
                }
                None => return,
            },
            Ok(()) = bandwidth.changed() => {
                let bandwidth = *bandwidth.borrow_and_update();
                messages.set_link(bandwidth);
                feed.set_bandwidth(bandwidth);
            }
            frame = feed.recv() => match frame {
                Some(frame) => {
                    if out.send(&frame.payloads, frame.rtp_timestamp.output, frame.captured).await.is_err() {
                        return;
                    }
                    if unsent.len() >= UNSENT_FRAMES {
                        unsent.pop_front();
                    }
                    unsent.push_back(frame);
                }
                None => return,
            },
        }
    }
}

/// The frame that the note is about; frames before it whose note never came (the kernel refused the last packet) go.
/// A note of a frame that is not waiting is of a retransmission.
fn take_sent(unsent: &mut VecDeque<Arc<EncodedFrame>>, note: Sent) -> Option<Arc<EncodedFrame>> {
    let index = unsent.iter().position(|frame| frame.rtp_timestamp.output == note.rtp_timestamp)?;
    unsent.drain(..=index).next_back()
}

fn frame_message(stream: &str, frame: &EncodedFrame, ledger: &FrameLedger) -> String {
    FrameMessage::new(stream, frame.frame_id, frame.rtp_timestamp, ledger, &frame.boxes, frame.result.as_deref())
        .dated(ledger, (Instant::now(), SystemTime::now()))
        .to_json()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::RtpTimestamp;
    use crate::sink::Bitstream;

    fn frame(output: u32) -> Arc<EncodedFrame> {
        Arc::new(EncodedFrame {
            bitstream: Bitstream::Annotated,
            tier: 0,
            payloads: vec![],
            idr: false,
            frame_id: u64::from(output),
            rtp_timestamp: RtpTimestamp { output, source: output },
            captured: None,
            ledger: FrameLedger::default(),
            boxes: vec![],
            result: None,
        })
    }

    #[test]
    fn a_note_finds_its_frame_and_a_retransmission_finds_none() {
        let mut unsent: VecDeque<_> = [frame(1), frame(2), frame(3)].into();
        let now = Instant::now();
        let note = |rtp_timestamp| Sent { rtp_timestamp, first: now, last: now };
        assert_eq!(take_sent(&mut unsent, note(2)).unwrap().frame_id, 2);
        assert!(take_sent(&mut unsent, note(2)).is_none(), "sent again");
        assert!(take_sent(&mut unsent, note(1)).is_none(), "its note was lost, it is over");
        assert_eq!(take_sent(&mut unsent, note(3)).unwrap().frame_id, 3);
    }
}
