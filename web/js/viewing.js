// Follows the frames of a watched stream to the screen: the join with the server's messages, the boxes that the page draws
// itself, and the times. docs/latency-method.md tells what the times mean.

import { BoxTimeline, rtpSpan } from './boxes.js';
import { ServerClock } from './clock.js';
import { FrameJoin } from './join.js';
import { SampleWindow, presentationOf } from './latency.js';
import { LedgerBook, ledgerSum, viewerLedger } from './ledger.js';
import { StageBook } from './stages.js';

const MAX_PLAUSIBLE_MS = 10_000;

/** Event `frame` {metadata, objects, latency, at}: a frame was presented. */
export class Viewing extends EventTarget {
  #video;
  #layer;
  #captures;

  /** @param {HTMLVideoElement} video @param {BoxLayer} layer drawn on while `drawing` */
  constructor(video, layer) {
    super();
    this.#video = video;
    this.#layer = layer;
    this.timeline = new BoxTimeline();
    this.join = new FrameJoin();
    this.stages = new StageBook();
    this.clock = new ServerClock();
    /** From the frame's first packet at the server to its presentation here. */
    this.latency = new SampleWindow(10_000);
    this.recent = new SampleWindow(2000);
    /** From capture, by the camera's own clock, to presentation. */
    this.sinceCapture = new SampleWindow(10_000);
    this.afterReceive = new SampleWindow(2000);
    this.rtt = new SampleWindow(10_000);
    this.age = new SampleWindow(2000);
    this.model = new SampleWindow(2000);
    /** Each frame's stages. */
    this.ledger = new LedgerBook();
    /** The browser's own means, of its statistics. */
    this.stats = {};
    this.presented = 0;
    /** Whether the picture is the source's own: the boxes are this page's to draw. */
    this.original = false;
    this.drawing = true;
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

  /** A new connection: the times and frames of the last one say nothing about it. */
  begin() {
    this.join = new FrameJoin();
    this.timeline.clear();
    this.stages.reset();
    this.clock.clear();
    this.ledger.clear();
    this.stats = {};
    this.#captures = undefined;
    this.#layer.clear();
    for (const samples of [this.latency, this.recent, this.sinceCapture, this.afterReceive, this.rtt, this.age, this.model]) samples.clear();
  }

  pinged({ ms, offset, at }) {
    this.rtt.push(performance.now(), ms);
    this.clock.push(ms, offset, at);
  }

  /** A message of the server about a frame. */
  message(message) {
    const now = performance.now();
    if (message.type === 'detections') {
      this.timeline.add(message, now);
      this.model.push(now, message.processing_time_ms);
      this.stages.note(now, message.stages_ms);
      if (Number.isFinite(message.capture_time_ms)) this.#captures = { rtp: message.rtp_timestamp, ms: message.capture_time_ms };
    } else if (message.type === 'frame') {
      this.stages.note(now, message.ledger_ms);
      if (!this.original) this.age.push(now, message.age_ms);
    }
    const waited = this.join.message(message);
    if (waited) this.#measure(waited, message);
  }

  #present(metadata) {
    this.presented += 1;
    const now = performance.now();
    const at = presentationOf(metadata);
    const { rtpTimestamp, receiveTime } = metadata;
    if (receiveTime !== undefined) this.afterReceive.push(at, at - receiveTime);
    const message = this.join.present(rtpTimestamp, metadata);
    const latency = message && rtpTimestamp !== undefined ? this.#measure(metadata, message) : undefined;
    this.#sinceCapture(metadata);
    let objects;
    if (this.original) objects = this.#draw(rtpTimestamp, now);
    else if (message) objects = this.join.objectsOf(message);
    this.dispatchEvent(new CustomEvent('frame', { detail: { metadata, objects, latency, at } }));
  }

  #draw(rtpTimestamp, now) {
    const { boxes, ageMs, message } = this.timeline.at(rtpTimestamp, now);
    if (ageMs !== undefined && boxes.length > 0) this.age.push(now, ageMs);
    if (this.drawing) this.#layer.draw(boxes, message?.width, message?.height);
    else this.#layer.clear();
    return boxes;
  }

  // The server's own times, half the way there and back, and this browser's from the last packet to the screen: each is
  // taken by one clock, and no two clocks are compared.
  #measure(metadata, message) {
    const at = presentationOf(metadata);
    this.#account(metadata, message, at);
    const server = ledgerSum(message.ledger_ms);
    const [rtt] = this.rtt.quantiles(0.5);
    if (server === undefined || rtt === undefined || metadata.receiveTime === undefined) return undefined;
    const latency = server + rtt / 2 + (at - metadata.receiveTime);
    if (latency < 0 || latency > MAX_PLAUSIBLE_MS) return undefined;
    this.latency.push(at, latency);
    this.recent.push(at, latency);
    return latency;
  }

  // Here the two clocks are compared, as closely as pings have joined them.
  #account({ receiveTime, processingDuration }, message, presented) {
    const doors = { sent: this.clock.toPage(message.sent_ms), server: message.ledger_ms, received: receiveTime, presented };
    const decodeMs = processingDuration === undefined ? this.stats.decodeMs : processingDuration * 1000;
    const ledger = viewerLedger(doors, { ...this.stats, decodeMs });
    if (ledger !== undefined && ledger.whole >= 0 && ledger.whole <= MAX_PLAUSIBLE_MS) this.ledger.push(presented, ledger);
  }

  #sinceCapture(metadata) {
    const at = presentationOf(metadata);
    const offset = this.clock.offsetAt(at);
    if (offset === undefined || !this.#captures || metadata.rtpTimestamp === undefined) return;
    const captured = this.#captures.ms + rtpSpan(this.#captures.rtp, metadata.rtpTimestamp);
    this.sinceCapture.push(at, at + offset - captured);
  }

  /**
   * The time from capture to presentation by the camera's own clock, as far as it can be believed.
   * @returns {{p50: number, plausible: boolean}|undefined} undefined where the camera tells no time
   */
  captureFigure() {
    const [p50] = this.sinceCapture.quantiles(0.5);
    if (p50 === undefined) return undefined;
    return { p50, plausible: p50 >= 0 && p50 <= MAX_PLAUSIBLE_MS };
  }
}
