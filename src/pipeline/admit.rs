//! Who comes in: an offer becomes a session that publishes a stream, watches one, or both.

use std::sync::Arc;
use std::time::Duration;

use metrics::counter;
use serde::Serialize;
use tokio::time::sleep;
use tracing::Instrument;

use super::names::{checked_name, random_name};
use super::options::{Mode, PipelineError};
use super::parts::{Signal, StreamOptions};
use super::registry::Pipeline;
use super::session::{Parts, Role, Session};
use super::streams::{Place, StreamKind, Upstream, Viewing};
use crate::detect::LaneOptions;
use crate::peer::{Answered, PeerError, Role as Side};
use crate::sink::VideoChoice;

/// What the viewers of a stream read whose publisher has left, and may come back.
const PUBLISHER_LEFT: &str = "publisher left";
/// What a displaced publisher is told.
const TAKEN_OVER: &str = "another publisher took the stream over";

/// What an offer led to.
#[derive(Clone, Debug, Serialize)]
pub struct Accepted {
    /// The answer.
    pub sdp: String,
    /// Always `answer`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The session's id, to end it by.
    pub session: String,
    /// The stream's name.
    pub stream: String,
    /// What names the state of the session's ICE: our user fragment (RFC 9725 §4.3.1).
    #[serde(skip)]
    pub etag: String,
}

/// A place among the sessions. Given back unless the session came to life.
struct Seat {
    pipeline: Arc<Pipeline>,
    id: String,
    kept: bool,
}

impl Drop for Seat {
    fn drop(&mut self) {
        if !self.kept {
            self.pipeline.sessions.remove(&self.id);
        }
    }
}

/// What a session does with its stream.
struct Part {
    role: Role,
    place: Arc<Place>,
    feeder: u64,
    video: Option<VideoChoice>,
    viewing: Option<Viewing>,
}

impl Pipeline {
    /// Answers an offer and runs the session that follows: it publishes a stream, and gets it back annotated.
    ///
    /// # Errors
    /// With the reason, when the offer is refused; nothing is left of it.
    pub async fn offer(self: &Arc<Self>, sdp: String, name: Option<String>) -> Result<Accepted, PipelineError> {
        let wish = name.map(checked_name).transpose()?;
        let seat = self.seat(Role::Offer)?;
        let name = match wish {
            Some(wish) if self.streams.get(&wish).is_some() => return Err(PipelineError::NameTaken(wish)),
            Some(wish) => wish,
            None => self.free_name(),
        };
        let answered = self.answer(sdp, Side::Both).await?;
        let (place, feeder) = self.open(&name, StreamKind::Offer, &seat.id)?;
        let part = Part { role: Role::Offer, place, feeder, video: Some(VideoChoice::Annotated), viewing: None };
        Ok(self.begin(seat, part, answered))
    }

    /// Answers the offer of a WHIP publisher (RFC 9725). The stream outlives the session by `publisher_grace_ms`, in which the
    /// publisher may come back; its viewers stay.
    ///
    /// # Errors
    /// With the reason, when the offer is refused; nothing is left of it. [`PipelineError::NameTaken`] when the stream has a
    /// publisher and `takeover` is not meant, or is not one of WHIP's.
    pub async fn publish(
        self: &Arc<Self>,
        stream: &str,
        sdp: String,
        takeover: bool,
    ) -> Result<Accepted, PipelineError> {
        let name = checked_name(stream.to_owned())?;
        let seat = self.seat(Role::Publish)?;
        // Asked again once the answer is there; a publisher that is refused anyway should hear so at once.
        if self
            .streams
            .get(&name)
            .is_some_and(|place| place.kind != StreamKind::Whip || (place.published() && !takeover))
        {
            return Err(PipelineError::NameTaken(name));
        }
        let answered = self.answer(sdp, Side::Publisher).await?;
        let (place, feeder) = if let Some((place, claim)) = self.streams.claim(&name, &seat.id, takeover)? {
            if let Some(displaced) = claim.displaced.and_then(|id| self.sessions.get(&id)) {
                displaced.end(TAKEN_OVER);
            }
            (place, claim.number)
        } else {
            let (place, feeder) = self.open(&name, StreamKind::Whip, &seat.id)?;
            place.stream.set_signal(Signal::Lost("waiting for the publisher".to_owned()));
            (place, feeder)
        };
        let part = Part { role: Role::Publish, place, feeder, video: None, viewing: None };
        Ok(self.begin(seat, part, answered))
    }

    /// Answers the offer of a WHEP viewer. Without a `choice` it sees what the stream's mode says.
    ///
    /// # Errors
    /// With the reason, when the offer is refused; nothing is left of it. [`PipelineError::NoSuchStream`] when there is no
    /// stream of this name.
    pub async fn view(
        self: &Arc<Self>,
        stream: &str,
        sdp: String,
        choice: Option<VideoChoice>,
    ) -> Result<Accepted, PipelineError> {
        let find = || self.streams.get(stream).ok_or_else(|| PipelineError::NoSuchStream(stream.to_owned()));
        find()?;
        let seat = self.seat(Role::View)?;
        let answered = self.answer(sdp, Side::Viewer).await?;
        // It may have ended, or another come in its place, meanwhile.
        let place = find()?;
        let video = choice.or(match place.mode() {
            Mode::Annotated => Some(VideoChoice::Annotated),
            Mode::Original => Some(VideoChoice::Original),
            Mode::DetectOnly => None,
        });
        if video.is_some() && answered.video_out.is_none() {
            let message = "the offer receives no video: offer a video section that is recvonly";
            return Err(PeerError::NoVideo(message.to_owned()).into());
        }
        if video.is_none() && !answered.channel_possible {
            let message = format!(
                "{stream:?} sends detections only: offer a datachannel for them, or ask for ?video=annotated or original"
            );
            return Err(PeerError::NoVideo(message).into());
        }
        let viewing = Some(place.viewer());
        let part = Part { role: Role::View, place, feeder: 0, video, viewing };
        Ok(self.begin(seat, part, answered))
    }

    /// What a publisher may send, in bits a second.
    fn publish_limit(&self) -> u32 {
        self.config.max_publish_kbps.saturating_mul(1000)
    }

    /// Tells a session's publisher to send no more than `bps` bits a second, and no more than `max_publish_kbps`; `None`: no more
    /// than that. False where there is no such session. For a machine that has too much to do.
    pub fn limit_publisher(&self, session: &str, bps: Option<u32>) -> bool {
        let limit = bps.unwrap_or(u32::MAX).min(self.publish_limit());
        self.sessions.get(session).inspect(|session| session.limit_publisher(limit)).is_some()
    }

    fn seat(self: &Arc<Self>, role: Role) -> Result<Seat, PipelineError> {
        if self.stop.is_cancelled() {
            return Err(PipelineError::ShuttingDown);
        }
        if role.publishes() && self.config.admission && self.load.is_full() {
            return Err(PipelineError::Full);
        }
        let id = random_name(16);
        self.sessions.reserve(&id, role, &self.config)?;
        Ok(Seat { pipeline: Arc::clone(self), id, kept: false })
    }

    fn free_name(&self) -> String {
        loop {
            let name = random_name(6);
            if self.streams.get(&name).is_none() {
                return name;
            }
        }
    }

    async fn answer(self: &Arc<Self>, sdp: String, side: Side) -> Result<Answered, PipelineError> {
        // On a task of its own: a fault in the reading of a strange offer costs that offer.
        let this = Arc::clone(self);
        let answered = tokio::spawn(async move { this.engine.answer_as(&sdp, side).await }.in_current_span()).await;
        match answered {
            Ok(answered) => Ok(answered?),
            Err(error) => Err(PipelineError::Fault(error.to_string())),
        }
    }

    /// A new stream that the session feeds.
    fn open(&self, name: &str, kind: StreamKind, session: &str) -> Result<(Arc<Place>, u64), PipelineError> {
        let upstream = Upstream::default();
        let options = StreamOptions { endures: kind != StreamKind::Offer, ..StreamOptions::default() };
        let rules = self.config.stream.clone();
        let stream = self.make_stream(name, upstream.keyframe_request(), LaneOptions::default(), options, rules)?;
        let place = Place::new(stream, kind, Mode::Annotated, upstream);
        let feeder = self.streams.insert(&place, Some(session))?;
        Ok((place, feeder))
    }

    /// Runs the session, to its end and what follows from that.
    fn begin(self: &Arc<Self>, mut seat: Seat, part: Part, answered: Answered) -> Accepted {
        let Part { role, place, feeder, video, viewing } = part;
        let Answered { sdp, connection, events, video_out, audio_out, channel_possible, .. } = answered;
        let (id, name, etag) = (seat.id.clone(), Arc::clone(place.name()), connection.etag());
        let session =
            Session::new(id.clone(), role, Arc::clone(&place), connection, video, self.publish_limit(), &self.stop);
        self.sessions.put(&session);
        seat.kept = true;
        let silence = Duration::from_millis(self.config.silence_timeout_ms);
        let parts = Parts { events, video_out, audio_out, channel_possible, feeder, viewing, silence };
        let this = Arc::clone(self);
        let span = tracing::info_span!("session", id, stream = %name, ?role);
        let run = async move {
            tracing::info!("session begins");
            counter!("sightline_sessions_total").increment(1);
            let why = Arc::clone(&session).run(parts).await;
            tracing::info!(%why, "session ended");
            match (role, place.stream.failure()) {
                (Role::View, _) => {}
                // Nothing comes out of it any more, whoever fed it.
                (_, Some(failure)) => this.close_stream(&place, &failure).await,
                (Role::Offer, None) => this.close_stream(&place, "the publisher left").await,
                (Role::Publish, None) => this.release(&place, feeder),
            }
            this.sessions.remove(&session.id);
        };
        self.tasks.spawn(run.instrument(span));
        Accepted { sdp, kind: "answer", session: id, stream: name.to_string(), etag }
    }

    /// Takes the stream out; its viewers leave, told `why`.
    pub(super) async fn close_stream(&self, place: &Arc<Place>, why: &str) {
        if self.streams.remove(place, why) {
            self.stop_stream(place).await;
        }
    }

    /// A publisher has gone: the stream waits for another for a while.
    fn release(self: &Arc<Self>, place: &Arc<Place>, feeder: u64) {
        if !place.release(feeder, Signal::Lost(PUBLISHER_LEFT.to_owned())) {
            return;
        }
        let (this, place) = (Arc::clone(self), Arc::clone(place));
        let wait = async move {
            tokio::select! {
                () = sleep(Duration::from_millis(this.config.publisher_grace_ms)) => {}
                () = this.stop.cancelled() => {}
            }
            if this.streams.remove_unless_fed(&place, feeder, "the publisher left and did not come back") {
                tracing::info!(stream = %place.name(), "the publisher did not come back");
                this.stop_stream(&place).await;
            }
        };
        self.tasks.spawn(wait.in_current_span());
    }
}
