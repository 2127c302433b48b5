//! What a session does from the answer to the goodbye.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, sleep_until, timeout};
use tracing::Instrument;

use super::audio::pass_audio;
use super::{Role, Session, SessionState};
use crate::peer::{AudioOut, CHANNEL_LABEL, Channel, ConnectionEvent, ConnectionState, VideoIn, VideoOut};
use crate::pipeline::streams::Viewing;
use crate::sink::message::{ConfigMessage, ErrorCode, ErrorMessage, LedgerMessage, MessageError};
use crate::sink::{VideoChoice, serve_channel, serve_viewer};
use crate::source::publisher::ingest;

/// How long after SCTP came up the client may take to make the channel, before we do.
const CHANNEL_GRACE: Duration = Duration::from_millis(500);
/// An answered offer that leads to no connection in this time is given up.
const CONNECT_LIMIT: Duration = Duration::from_secs(20);
/// How often a session looks after itself.
const TICK: Duration = Duration::from_millis(250);
/// How long the connection stays up for the goodbye to leave: the stack tells nobody when a message has, and closing takes
/// with it what still waits.
const FAREWELL: Duration = Duration::from_millis(50);
/// How long the goodbye may take.
const GOODBYE_LIMIT: Duration = Duration::from_millis(100);

/// What the session's task works with.
pub(in crate::pipeline) struct Parts {
    pub(in crate::pipeline) events: mpsc::Receiver<ConnectionEvent>,
    pub(in crate::pipeline) video_out: Option<VideoOut>,
    pub(in crate::pipeline) audio_out: Option<AudioOut>,
    pub(in crate::pipeline) channel_possible: bool,
    /// The publisher's number at its stream; 0 for one that only watches.
    pub(in crate::pipeline) feeder: u64,
    /// Counts the viewer of a WHEP session.
    pub(in crate::pipeline) viewing: Option<Viewing>,
    /// A publisher that sends no RTP for this long has left.
    pub(in crate::pipeline) silence: Duration,
}

/// What the loop remembers.
struct Talk {
    born: Instant,
    connected_at: Option<Instant>,
    make_channel_at: Option<Instant>,
    channel: Option<Channel>,
    left: Arc<Notify>,
    tasks: JoinSet<()>,
}

impl Session {
    /// Runs the session to its end, and says why it ended. The stream is left to whoever owns it.
    pub(in crate::pipeline) async fn run(self: Arc<Self>, parts: Parts) -> String {
        let Parts { mut events, mut video_out, mut audio_out, channel_possible, feeder, viewing, silence } = parts;
        let mut talk = Talk {
            born: Instant::now(),
            connected_at: None,
            make_channel_at: None,
            channel: None,
            left: Arc::default(),
            tasks: JoinSet::new(),
        };
        if self.role == Role::View
            && let Some(out) = audio_out.take()
        {
            talk.tasks.spawn(pass_audio(self.place.stream.audio(), out));
        }
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let why = loop {
            tokio::select! {
                () = self.stop.cancelled() => break self.why_stopped(),
                () = self.place.over().cancelled() => break self.place.why().to_owned(),
                () = talk.left.notified() => break "the peer closed its channel".to_owned(),
                event = events.recv() => match event {
                    Some(ConnectionEvent::Video(video)) if self.role.publishes() => {
                        self.set_state(SessionState::Live);
                        self.place.begin(feeder, video.keyframe_request());
                        self.serve_ingest(video, feeder, &mut talk.tasks);
                    }
                    Some(ConnectionEvent::Audio(audio)) if self.role.publishes() => {
                        self.serve_audio(audio, audio_out.take(), feeder, &mut talk.tasks);
                    }
                    Some(ConnectionEvent::Channel(made)) => {
                        if made.label().await == CHANNEL_LABEL && talk.channel.is_none() {
                            talk.make_channel_at = None;
                            self.serve_channel(made, true, &mut talk);
                        }
                    }
                    // Whoever only watches may send what it likes: nobody looks at it.
                    Some(ConnectionEvent::Video(_) | ConnectionEvent::Audio(_)) => {}
                    Some(ConnectionEvent::State(ConnectionState::Connected)) => {
                        if talk.connected_at.is_none() {
                            talk.connected_at = Some(Instant::now());
                            // Not before: an IDR that leaves while nobody can receive is lost, and not every player asks
                            // for another (aiortc never does).
                            if let (Some(out), Some(choice)) = (video_out.take(), self.video) {
                                self.serve_video(out, choice, &mut talk.tasks);
                            }
                            if channel_possible && talk.channel.is_none() {
                                talk.make_channel_at = Some(Instant::now() + CHANNEL_GRACE);
                            }
                        }
                        self.set_state(if self.role.publishes() { SessionState::Connected } else { SessionState::Live });
                    }
                    Some(ConnectionEvent::State(ConnectionState::Disconnected)) => {
                        self.set_state(SessionState::Disconnected);
                    }
                    Some(ConnectionEvent::State(ConnectionState::Ended)) | None => {
                        break "the connection was lost".to_owned();
                    }
                },
                () = sleep_until(talk.make_channel_at.unwrap_or(talk.born).into()), if talk.make_channel_at.is_some() => {
                    talk.make_channel_at = None;
                    match self.connection.create_channel().await {
                        Ok(made) => self.serve_channel(made, false, &mut talk),
                        Err(error) => tracing::debug!(%error, "no datachannel"),
                    }
                }
                _ = tick.tick() => {
                    self.publish_metrics();
                    if let Some(why) = self.look_after(&talk, silence) {
                        break why;
                    }
                }
            }
        };
        self.publish_metrics();
        self.close(talk.channel, &why).await;
        talk.tasks.shutdown().await;
        drop(viewing);
        why
    }

    fn why_stopped(&self) -> String {
        if self.server_stop.is_cancelled() {
            return "the server is shutting down".to_owned();
        }
        self.why.get().cloned().unwrap_or_else(|| "the session was ended on request".to_owned())
    }

    /// Why the session is over, if nobody said so.
    fn look_after(&self, talk: &Talk, silence: Duration) -> Option<String> {
        if self.role.publishes()
            && let Some(why) = self.place.stream.failure()
        {
            return Some(why);
        }
        let Some(connected) = talk.connected_at else {
            let over = talk.born.elapsed() > CONNECT_LIMIT;
            return over.then(|| "no connection came about (is UDP open?)".to_owned());
        };
        // Whoever only watches sends no RTP: there it is ICE's consent (RFC 7675) that notices.
        if self.role.publishes() {
            let heard = self.connection.last_rtp();
            if heard.unwrap_or(connected).max(connected).elapsed() > silence {
                return Some(format!("no media for {} ms", silence.as_millis()));
            }
            if heard.is_some() {
                self.set_state(SessionState::Live);
            }
        }
        None
    }

    async fn close(&self, channel: Option<Channel>, why: &str) {
        if let Some(channel) = channel
            && self.messages.is_open()
        {
            let going = self.server_stop.is_cancelled();
            let code = if going { ErrorCode::ShuttingDown } else { ErrorCode::SessionEnded };
            let goodbye = MessageError::new(None, code, why);
            let text = ErrorMessage::from(goodbye).to_json();
            let _ = timeout(GOODBYE_LIMIT, channel.try_send(&text)).await;
            sleep(FAREWELL).await;
            let _ = timeout(GOODBYE_LIMIT, channel.close()).await;
        }
        self.connection.close().await;
    }

    fn serve_video(&self, out: VideoOut, choice: VideoChoice, tasks: &mut JoinSet<()>) {
        let stream = Arc::clone(&self.place.stream);
        let feed = stream.watch(choice);
        out.on_keyframe_request(feed.keyframe_request());
        // A session has one outgoing video.
        let _ = self.standing.set(feed.standing());
        let name = Arc::clone(stream.name());
        let messages = Arc::clone(&self.messages);
        let serve = async move {
            serve_viewer(feed, out, name, messages, move |frame, ledger| stream.frame_sent(frame, ledger)).await;
        };
        tasks.spawn(serve.in_current_span());
    }

    fn serve_ingest(&self, video: VideoIn, feeder: u64, tasks: &mut JoinSet<()>) {
        let (place, counters) = (Arc::clone(&self.place), self.counters.clone());
        video.hold_to(self.publish_limit.subscribe());
        tasks.spawn(ingest(video, counters, move |unit| place.push(feeder, unit)).in_current_span());
    }

    fn serve_channel(&self, channel: Channel, theirs: bool, talk: &mut Talk) {
        let (results, reading) = self.place.stream.results();
        let stream = Arc::clone(&self.place.stream);
        let (name, messages) = (Arc::clone(stream.name()), Arc::clone(&self.messages));
        talk.channel = Some(channel.clone());
        // A viewer whose page lets go of the channel that we made may want the picture alone.
        let left = (theirs || self.role == Role::Offer).then(|| Arc::clone(&talk.left));
        let may_configure = self.role.publishes();
        let configure = move |change: ConfigMessage| {
            if may_configure {
                return stream.configure(change);
            }
            let message = "a viewer cannot change the stream: its publisher, or who configures its camera, does";
            Err(MessageError::new(change.id, ErrorCode::Forbidden, message))
        };
        let stream = Arc::clone(&self.place.stream);
        let report = move |report: LedgerMessage| {
            if may_configure {
                stream.reported(&report);
                return Ok(());
            }
            let message = "a ledger is of frames that were captured here: only their publisher has it";
            Err(MessageError::new(report.id, ErrorCode::Forbidden, message))
        };
        let serve = async move {
            serve_channel(channel, name, messages, results, configure, report).await;
            drop(reading);
            if let Some(left) = left {
                left.notify_one();
            }
        };
        talk.tasks.spawn(serve.in_current_span());
    }
}
