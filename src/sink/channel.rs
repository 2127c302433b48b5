//! The `detections` datachannel: results out, configuration in.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::broadcast;

use super::message::{
    ClientMessage, ConfigAck, ConfigMessage, DetectionsMessage, ErrorMessage, LedgerMessage, MessageError, Pong,
    StreamConfig,
};
use super::queue::MessageQueue;
use super::share::Topic;
use crate::media::Detections;
use crate::peer::{Channel, ChannelEvent};

/// Serves the channel until it closes. Frame messages come through `queue`, from the viewer's task. `configure` applies a
/// change of settings from the next frame on, or refuses it whole; `report` takes what a page tells of its frames.
pub async fn serve_channel(
    channel: Channel,
    stream: Arc<str>,
    queue: Arc<MessageQueue>,
    results: broadcast::Receiver<Arc<Detections>>,
    configure: impl Fn(ConfigMessage) -> Result<StreamConfig, MessageError>,
    report: impl Fn(LedgerMessage) -> Result<(), MessageError>,
) {
    if !channel.opened().await {
        return;
    }
    queue.set_open(true);
    // Whichever ends first ends the channel; only reading notices the close.
    tokio::select! {
        () = read(&channel, &queue, &configure, &report) => {}
        () = feed(&stream, &queue, results) => {}
        () = write(&channel, &queue) => {}
    }
    queue.set_open(false);
}

async fn read(
    channel: &Channel,
    queue: &MessageQueue,
    configure: &impl Fn(ConfigMessage) -> Result<StreamConfig, MessageError>,
    report: &impl Fn(LedgerMessage) -> Result<(), MessageError>,
) {
    while let ChannelEvent::Message(text) = channel.recv().await {
        if let Some(answer) = answer(&text, configure, report) {
            queue.push(answer);
        }
    }
}

/// The answer to a message; a report that was taken has none.
fn answer(
    text: &str,
    configure: &impl Fn(ConfigMessage) -> Result<StreamConfig, MessageError>,
    report: &impl Fn(LedgerMessage) -> Result<(), MessageError>,
) -> Option<String> {
    let answer = match ClientMessage::parse(text) {
        Ok(ClientMessage::Config(change)) => {
            let id = change.id.clone();
            match configure(change) {
                Ok(config) => ConfigAck::new(id, config).to_json(),
                Err(error) => ErrorMessage::from(error).to_json(),
            }
        }
        Ok(ClientMessage::Ping(ping)) => Pong::new(ping, SystemTime::now()).to_json(),
        Ok(ClientMessage::Ledger(ledger)) => ErrorMessage::from(report(ledger).err()?).to_json(),
        Err(error) => ErrorMessage::from(error).to_json(),
    };
    Some(answer)
}

async fn feed(stream: &str, queue: &MessageQueue, mut results: broadcast::Receiver<Arc<Detections>>) {
    loop {
        match results.recv().await {
            Ok(result) => {
                let message = DetectionsMessage::new(stream, &result).to_json();
                // What happened at a region is told once: such a message is not left out.
                if result.events.is_empty() { queue.offer(Topic::Detections, message) } else { queue.push(message) }
            }
            Err(broadcast::error::RecvError::Lagged(missed)) => tracing::debug!(missed, "results went by unread"),
            Err(broadcast::error::RecvError::Closed) => return,
        }
    }
}

async fn write(channel: &Channel, queue: &MessageQueue) {
    loop {
        let message = queue.pop().await;
        match channel.try_send(&message).await {
            Ok(true) => {}
            Ok(false) => {
                queue.put_back(message);
                if !channel.writable().await {
                    return;
                }
            }
            Err(error) => {
                tracing::debug!(%error, "datachannel");
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::message::{ErrorCode, Overlay};

    fn stubborn(change: ConfigMessage) -> Result<StreamConfig, MessageError> {
        if change.confidence_threshold.is_none() {
            return Err(MessageError::new(change.id, ErrorCode::InvalidValue, "no"));
        }
        Ok(StreamConfig {
            confidence_threshold: 0.5,
            iou_threshold: 0.5,
            classes: None,
            overlay: Overlay::Latest,
            max_detections: 10,
        })
    }

    fn refuse(report: LedgerMessage) -> Result<(), MessageError> {
        Err(MessageError::new(report.id, ErrorCode::Forbidden, "no"))
    }

    fn kind(text: &str) -> String {
        let value: serde_json::Value = serde_json::from_str(&answer(text, &stubborn, &refuse).unwrap()).unwrap();
        value["type"].as_str().unwrap().to_owned()
    }

    #[test]
    fn every_message_gets_one_answer() {
        assert_eq!(kind(r#"{"type":"config","confidence_threshold":0.5}"#), "config_ack");
        assert_eq!(kind(r#"{"type":"config"}"#), "error");
        assert_eq!(kind(r#"{"type":"ping","t":1}"#), "pong");
        assert_eq!(kind("nonsense"), "error");
    }

    #[test]
    fn a_report_is_answered_only_where_it_is_refused() {
        const REPORT: &str = r#"{"type":"ledger","id":1,"frames":[{"whole_ms":30}]}"#;
        assert_eq!(kind(REPORT), "error");
        let seen = std::cell::Cell::new(0);
        let take = |report: LedgerMessage| {
            seen.set(report.frames.len());
            Ok(())
        };
        assert_eq!(answer(REPORT, &stubborn, &take), None);
        assert_eq!(seen.get(), 1);
    }
}
