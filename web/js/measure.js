// Follows the frames through this browser: captured, encoded, presented; and keeps the books about them.

import { FrameJoin } from './join.js';
import { LatencyMeter, SampleWindow, presentationOf } from './latency.js';
import { StampReader } from './pattern.js';
import { StageBook } from './stages.js';

const FIT_EVERY_MS = 500;

/** Everything that the page measures. Event `frame` {metadata, message, latency}: an annotated frame was presented. */
export class Measurement extends EventTarget {
  #localVideo = document.createElement('video');
  #localSource;
  #reader = new StampReader();
  #stampedAt = 0;
  #fittedAt = 0;
  #pattern;
  #offset = 0;

  /** @param {HTMLVideoElement} video shows the annotated track */
  constructor(video) {
    super();
    this.video = video;
    this.meter = new LatencyMeter();
    this.join = new FrameJoin();
    this.stages = new StageBook();
    this.rtt = new SampleWindow(10_000);
    this.age = new SampleWindow(2000);
    this.model = new SampleWindow(2000);
    this.presented = 0;
    /** How often a stamp is read, in milliseconds. Reading pixels costs one or two: ten a second are plenty for the eye. */
    this.stampEveryMs = 100;
    this.#localVideo.muted = true;
    this.#localVideo.playsInline = true;
    if (video.requestVideoFrameCallback) {
      const each = (now, metadata) => {
        this.#present(metadata);
        video.requestVideoFrameCallback(each);
      };
      video.requestVideoFrameCallback(each);
    } else {
      video.addEventListener('timeupdate', () => this.#present({ presentationTime: performance.now() }));
    }
  }

  /** Watches the local source for capture times; undefined when there is none any more. */
  watch(media) {
    this.#localSource = media?.stream;
    this.#pattern = media?.pattern;
    this.meter.reset();
    this.#localVideo.srcObject = null;
    if (!media) return;
    // A canvas is captured some milliseconds after it was drawn, never twice the same: only its stamp tells the time.
    if (media.pattern || !this.#localVideo.requestVideoFrameCallback) return;
    this.#localVideo.srcObject = media.stream;
    this.#localVideo.play().catch(() => {});
    const source = media.stream;
    const each = (now, { captureTime, presentationTime }) => {
      if (this.#localSource !== source) return;
      this.meter.clock.onCapture(captureTime ?? presentationTime);
      this.#localVideo.requestVideoFrameCallback(each);
    };
    this.#localVideo.requestVideoFrameCallback(each);
  }

  /** A new connection: its RTP timestamps have nothing to do with the last one's. */
  begin() {
    this.meter.reset();
    this.stages.reset();
    this.join = new FrameJoin();
    this.#offset = 0;
    for (const samples of [this.rtt, this.age, this.model]) samples.clear();
  }

  /** Frames left the encoder; their times are counted from the Unix epoch. */
  encoded(frames) {
    for (const { rtpTimestamp, at } of frames) this.meter.encoded(rtpTimestamp, at - performance.timeOrigin);
    const now = performance.now();
    if (now - this.#fittedAt < FIT_EVERY_MS) return;
    this.#fittedAt = now;
    this.meter.clock.fit();
  }

  /** A message of the server about a frame. */
  message(message) {
    const now = performance.now();
    if (message.type === 'detections') {
      this.model.push(now, message.processing_time_ms);
      this.stages.note(now, message.stages_ms);
      if (Number.isFinite(message.capture_time_ms)) {
        const unixToPage = Date.now() - now;
        this.meter.clock.onSenderTime(message.source_rtp_timestamp, message.capture_time_ms - unixToPage);
      }
    } else if (message.type === 'frame') {
      this.stages.note(now, message.ledger_ms);
      this.age.push(now, message.age_ms);
    }
    // A constant within a source's epoch, 0 in the first one: what to add to a timestamp to get that of our own frame.
    if (Number.isFinite(message.source_rtp_timestamp)) this.#offset = message.source_rtp_timestamp - message.rtp_timestamp;
    const waited = this.join.message(message);
    if (waited) this.#tell(waited.metadata, message, waited.latency);
  }

  #present(metadata) {
    this.presented += 1;
    const { rtpTimestamp } = metadata;
    const sentAs = rtpTimestamp === undefined ? undefined : (rtpTimestamp + this.#offset) >>> 0;
    const latency = this.meter.presented(metadata, sentAs, this.#pattern ? this.#readStamp() : undefined);
    const message = this.join.present(rtpTimestamp, { metadata, latency });
    this.#tell(metadata, message, latency);
  }

  #readStamp() {
    const now = performance.now();
    if (now - this.#stampedAt < this.stampEveryMs) return undefined;
    this.#stampedAt = now;
    return this.#reader.read(this.video, now);
  }

  #tell(metadata, message, latency) {
    this.dispatchEvent(new CustomEvent('frame', { detail: { metadata, message, latency, at: presentationOf(metadata) } }));
  }
}
