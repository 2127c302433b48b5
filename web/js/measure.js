// Follows the frames through this browser: captured, encoded, presented; and keeps the books about them.

import { ServerClock } from './clock.js';
import { BoundedMap, FrameJoin } from './join.js';
import { LatencyMeter, SampleWindow, presentationOf } from './latency.js';
import { LedgerBook, LedgerReport, frameLedger, loopbackLedger } from './ledger.js';
import { StampReader } from './pattern.js';
import { StageBook } from './stages.js';

const FIT_EVERY_MS = 500;
/** Frames that wait for what is said of them: the encoder's reports come in batches, messages on their own way. */
const WAITING = 64;
const MAX_PLAUSIBLE_MS = 10_000;

/**
 * Everything that the page measures. Event `frame` {metadata, message, latency}: an annotated frame was presented. Event `ledger` of
 * what `frameLedger` gives, with `at`: everything about a presented frame is known; its frame was some hundred milliseconds ago.
 */
export class Measurement extends EventTarget {
  #localVideo = document.createElement('video');
  #localSource;
  #reader = new StampReader();
  #stampedAt = 0;
  #fittedAt = 0;
  #pattern;
  #offset = 0;
  #encoded = new BoundedMap(256);
  #waiting = new BoundedMap(WAITING);

  /**
   * @param {HTMLVideoElement} video shows the annotated track
   * @param {{direct?: boolean}} options `direct`: the video comes straight from this page, and no server says anything of it
   */
  constructor(video, { direct = false } = {}) {
    super();
    this.video = video;
    this.direct = direct;
    this.clock = new ServerClock();
    this.ledger = new LedgerBook();
    /** What the server is told of that; to be taken once a second. */
    this.report = new LedgerReport();
    /** The browser's statistics as `summarise` gives them: for what it does not tell of each frame. */
    this.stats = {};
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
    this.#pattern?.removeEventListener('drawn', this.#drawn);
    this.#pattern = media?.pattern;
    this.#pattern?.addEventListener('drawn', this.#drawn);
    this.meter.reset();
    this.meter.draws = this.#pattern !== undefined;
    this.#forget();
    this.#localVideo.srcObject = null;
    if (!media || media.pattern || !this.#localVideo.requestVideoFrameCallback) return;
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

  #drawn = ({ detail: { at } }) => this.meter.clock.onCapture(at);

  #forget() {
    this.#encoded.clear();
    this.#waiting.clear();
    this.ledger.clear();
  }

  /** A new connection: its RTP timestamps have nothing to do with the last one's. */
  begin() {
    this.meter.reset();
    this.stages.reset();
    this.join = new FrameJoin();
    this.#offset = 0;
    this.#forget();
    this.clock.clear();
    this.stats = {};
    for (const samples of [this.rtt, this.age, this.model]) samples.clear();
  }

  /** A ping came back: what the link's event `rtt` tells. */
  pinged({ ms, offset, at }) {
    this.rtt.push(performance.now(), ms);
    this.clock.push(ms, offset, at);
  }

  /** Frames left the encoder; their times are counted from the Unix epoch. */
  encoded(frames) {
    for (const { rtpTimestamp, at } of frames) {
      this.meter.encoded(rtpTimestamp, at - performance.timeOrigin);
      this.#encoded.set(rtpTimestamp, at - performance.timeOrigin);
    }
    const now = performance.now();
    if (now - this.#fittedAt > FIT_EVERY_MS) {
      this.#fittedAt = now;
      this.meter.clock.fit();
    }
    for (const { rtpTimestamp } of frames) this.#settle(rtpTimestamp);
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
    if (!waited) return;
    this.#tell(waited.metadata, message, waited.latency);
    this.#wait(waited.sentAs, { ...waited, message });
  }

  #present(metadata) {
    this.presented += 1;
    const { rtpTimestamp } = metadata;
    const sentAs = rtpTimestamp === undefined ? undefined : (rtpTimestamp + this.#offset) >>> 0;
    const drawn = this.#pattern ? this.#readStamp() : undefined;
    const latency = this.meter.presented(metadata, sentAs, drawn);
    const shown = { metadata, latency, sentAs, drawn };
    const message = this.join.present(rtpTimestamp, shown);
    this.#tell(metadata, message, latency);
    if (message || this.direct) this.#wait(sentAs, { ...shown, message });
  }

  // A frame and its message are known. Its way to the encoder's output is too, or will be told.
  #wait(guessed, shown) {
    const sentAs = shown.message?.source_rtp_timestamp ?? guessed;
    if (sentAs === undefined) return;
    this.#waiting.set(sentAs, shown);
    // Where nobody sees the encoder's output nothing more will come.
    if (this.#encoded.size === 0 || this.#encoded.has(sentAs)) this.#settle(sentAs);
  }

  #settle(sentAs) {
    const shown = this.#waiting.get(sentAs);
    if (!shown) return;
    this.#waiting.delete(sentAs);
    const { metadata, message, drawn } = shown;
    const doors = {
      captured: this.meter.capturedAt(sentAs),
      encoded: this.#encoded.get(sentAs),
      sent: this.clock.toPage(message?.sent_ms),
      server: message?.ledger_ms,
      received: metadata.receiveTime,
      presented: presentationOf(metadata),
    };
    const { processingDuration } = metadata;
    const means = { ...this.stats, decodeMs: processingDuration === undefined ? this.stats.decodeMs : processingDuration * 1000 };
    const ledger = this.direct ? loopbackLedger(doors, means, drawn) : frameLedger(doors, means, drawn);
    if (ledger === undefined || !(ledger.whole >= 0 && ledger.whole <= MAX_PLAUSIBLE_MS)) return;
    this.ledger.push(doors.presented, ledger);
    this.report.push(ledger);
    this.dispatchEvent(new CustomEvent('ledger', { detail: { at: doors.presented, ...ledger } }));
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
