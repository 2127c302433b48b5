// Glass-to-glass latency, measured by the page: from a frame's capture to its annotated presentation.
// The method and its accuracy are told in docs/latency-method.md.

import { BoundedMap } from './join.js';

const RTP_TICKS_PER_MS = 90;

/** Samples of the last seconds, and their quantiles. */
export class SampleWindow {
  /** @param {number} spanMs how long a sample counts @param {number} capacity samples kept at most */
  constructor(spanMs, capacity = 4096) {
    this.spanMs = spanMs;
    this.capacity = capacity;
    this.samples = [];
  }

  push(at, value) {
    if (!Number.isFinite(value)) return;
    this.samples.push({ at, value });
    if (this.samples.length > this.capacity) this.samples.shift();
    this.prune(at);
  }

  prune(now) {
    let stale = 0;
    while (stale < this.samples.length && now - this.samples[stale].at > this.spanMs) stale += 1;
    if (stale > 0) this.samples.splice(0, stale);
  }

  clear() {
    this.samples.length = 0;
  }

  get size() {
    return this.samples.length;
  }

  /** Quantiles by the nearest-rank method; undefined without samples. */
  quantiles(...shares) {
    if (this.samples.length === 0) return shares.map(() => undefined);
    const sorted = this.samples.map((sample) => sample.value).sort((a, b) => a - b);
    return shares.map((share) => sorted[Math.min(sorted.length - 1, Math.max(0, Math.ceil(share * sorted.length) - 1))]);
  }

  mean() {
    if (this.samples.length === 0) return undefined;
    let sum = 0;
    for (const sample of this.samples) sum += sample.value;
    return sum / this.samples.length;
  }
}

/** 32-bit RTP timestamps as milliseconds that do not wrap: each is taken as the nearest to the one before. */
export class RtpMilliseconds {
  constructor() {
    this.last = undefined;
  }

  of(rtpTimestamp) {
    if (this.last === undefined) this.last = rtpTimestamp;
    else this.last += (rtpTimestamp - (this.last % 2 ** 32)) | 0;
    return this.last / RTP_TICKS_PER_MS;
  }
}

const KEPT = 120;
/** The whole milliseconds of a timestamp, and the fit, leave this much between a capture and what its timestamp says. */
const GRAIN_MS = 1.5;
/** Sender reports leave this much. */
const REPORTS_GRAIN_MS = 8;
const PAIRS_NEEDED = 12;
const OLDEST_CAPTURE_MS = 1000;

/**
 * Finds which capture an RTP timestamp stands for.
 *
 * A browser stamps an outgoing frame with its capture time in milliseconds times 90, plus an unknown constant. The
 * constant is found from two lists, neither of which names the other: the capture times of local frames, and (RTP
 * timestamp, time) of frames that left the encoder. Every frame's pair differs by the same constant, chance pairs do
 * not, and no frame leaves the encoder before it was captured.
 */
export class CaptureClock {
  constructor() {
    this.reset();
  }

  /** Forgets everything: the camera or the connection changed. */
  reset() {
    this.captures = [];
    this.encoded = [];
    this.milliseconds = new RtpMilliseconds();
    this.constant = undefined;
    this.source = undefined;
    this.rival = undefined;
  }

  /** A local frame was captured at `at` (performance.now() milliseconds). */
  onCapture(at) {
    if (!Number.isFinite(at)) return;
    this.captures.push(at);
    if (this.captures.length > KEPT) this.captures.shift();
  }

  /** The frame with this RTP timestamp left the encoder at `at` (performance.now() milliseconds). */
  onEncoded(rtpTimestamp, at) {
    this.encoded.push({ ms: this.milliseconds.of(rtpTimestamp), at });
    if (this.encoded.length > KEPT) this.encoded.shift();
  }

  /**
   * The server says when a frame was captured, from the sender reports of this browser. Used only where the encoder's
   * output cannot be seen.
   */
  onSenderTime(rtpTimestamp, at) {
    if (this.source === 'encoder' || !Number.isFinite(at)) return;
    const constant = this.milliseconds.of(rtpTimestamp) - at;
    // Sender reports carry the jitter of two clocks: follow slowly.
    this.constant = this.source === 'reports' ? this.constant + 0.05 * (constant - this.constant) : constant;
    this.source = 'reports';
  }

  /** Fits the constant anew; cheap enough for once a second. Returns whether it is known. */
  fit() {
    const found = this.#bestConstant();
    if (found !== undefined) {
      const settled = this.source === 'encoder' && Math.abs(found - this.constant) <= 2;
      const confirmed = this.rival !== undefined && Math.abs(found - this.rival) <= 2;
      if (this.source !== 'encoder' || settled || confirmed) {
        this.constant = found;
        this.source = 'encoder';
        this.rival = undefined;
      } else {
        this.rival = found;
      }
    }
    return this.constant !== undefined;
  }

  #bestConstant() {
    const bins = new Map();
    for (const { ms, at } of this.encoded) {
      for (const capture of this.captures) {
        const delay = at - capture;
        if (delay < -1 || delay > OLDEST_CAPTURE_MS) continue;
        const bin = Math.round(ms - capture);
        const entry = bins.get(bin) ?? { count: 0, sum: 0 };
        entry.count += 1;
        entry.sum += ms - capture;
        bins.set(bin, entry);
      }
    }
    const support = (bin) => {
      let count = 0;
      let sum = 0;
      for (const near of [bin - 1, bin, bin + 1]) {
        const entry = bins.get(near);
        if (entry) {
          count += entry.count;
          sum += entry.sum;
        }
      }
      return { count, mean: sum / count };
    };
    let best = 0;
    for (const bin of bins.keys()) best = Math.max(best, support(bin).count);
    if (best < PAIRS_NEEDED || best < 0.5 * Math.min(this.encoded.length, this.captures.length)) return undefined;
    // A camera of perfectly even pace fits as well one frame off. The smallest constant is the latest capture that is
    // not after its own encoding.
    let chosen;
    for (const bin of [...bins.keys()].sort((a, b) => a - b)) {
      const { count, mean } = support(bin);
      if (count < 0.9 * best) continue;
      if (chosen === undefined) chosen = { bin, count, mean };
      else if (bin - chosen.bin > 2) break;
      else if (count > chosen.count) chosen = { bin, count, mean };
    }
    return chosen?.mean;
  }

  /** When the frame with this RTP timestamp was captured (performance.now() milliseconds); undefined before the fit. */
  captureOf(rtpTimestamp) {
    if (this.constant === undefined) return undefined;
    return this.#msNear(rtpTimestamp) - this.constant;
  }

  /**
   * When the picture with this RTP timestamp was drawn, where `onCapture` was told of every drawing: a browser that is busy captures
   * a canvas late, but never before it was drawn, and never after the next drawing.
   */
  drawnOf(rtpTimestamp) {
    const at = this.captureOf(rtpTimestamp);
    const grain = this.source === 'reports' ? REPORTS_GRAIN_MS : GRAIN_MS;
    return at === undefined ? undefined : this.captures.findLast((drawn) => drawn <= at + grain);
  }

  // Looks a timestamp up without moving the unwrapper: shown frames are older than encoded ones.
  #msNear(rtpTimestamp) {
    const last = this.milliseconds.last ?? rtpTimestamp;
    return (last + ((rtpTimestamp - (last % 2 ** 32)) | 0)) / RTP_TICKS_PER_MS;
  }
}

const MAX_PLAUSIBLE_MS = 10_000;

/** Collects one latency sample for each presented frame: by the frame's RTP timestamp, or by the stamp in its pixels. */
export class LatencyMeter {
  #stamped = new BoundedMap(64);

  constructor({ spanMs = 10_000 } = {}) {
    this.clock = new CaptureClock();
    /** Whether the source is a canvas, and its clock knows each of its drawings. */
    this.draws = false;
    this.timestamps = new SampleWindow(spanMs);
    this.stamps = new SampleWindow(spanMs);
    this.encoding = new SampleWindow(2000);
    this.afterReceive = new SampleWindow(2000);
    this.recent = new SampleWindow(2000);
  }

  reset() {
    this.clock.reset();
    this.#stamped.clear();
    for (const samples of [this.timestamps, this.stamps, this.encoding, this.afterReceive, this.recent]) samples.clear();
  }

  /** When the frame that was sent with this RTP timestamp was captured, or drawn; undefined while that is unknown. */
  capturedAt(rtpTimestamp) {
    return this.draws ? this.clock.drawnOf(rtpTimestamp) : this.clock.captureOf(rtpTimestamp);
  }

  /** A frame left this browser's encoder. Reports come in batches, often after the frame was presented. */
  encoded(rtpTimestamp, at) {
    this.clock.onEncoded(rtpTimestamp, at);
    const captured = this.#stamped.get(rtpTimestamp) ?? this.capturedAt(rtpTimestamp);
    if (captured !== undefined && at >= captured) this.encoding.push(at, at - captured);
  }

  /**
   * An annotated frame was presented.
   * @param metadata of requestVideoFrameCallback
   * @param {number|undefined} sentAs the RTP timestamp with which this browser sent the frame
   * @param {number|undefined} drawnAt what the stamp in its pixels says, where it has one (performance.now() milliseconds)
   * @returns latency in milliseconds, or undefined while the capture is unknown
   */
  presented(metadata, sentAs, drawnAt) {
    const at = presentationOf(metadata);
    if (metadata.receiveTime !== undefined) this.afterReceive.push(at, at - metadata.receiveTime);
    if (drawnAt !== undefined && sentAs !== undefined) this.#stamped.set(sentAs, drawnAt);
    const captured = drawnAt ?? (sentAs === undefined ? undefined : this.capturedAt(sentAs));
    if (captured === undefined) return undefined;
    const latency = at - captured;
    if (latency < 0 || latency > MAX_PLAUSIBLE_MS) return undefined;
    (drawnAt === undefined ? this.timestamps : this.stamps).push(at, latency);
    this.recent.push(at, latency);
    return latency;
  }

  /** p50 and p95 of the last ten seconds, and by which method: 'stamp', 'encoder', 'reports' or undefined. */
  summary() {
    const samples = this.stamps.size > 0 ? this.stamps : this.timestamps;
    const [p50, p95] = samples.quantiles(0.5, 0.95);
    const method = samples.size === 0 ? undefined : samples === this.stamps ? 'stamp' : this.clock.source;
    return { p50, p95, method, samples };
  }
}

/** No screen's refreshes are further apart, in milliseconds. */
const LONGEST_REFRESH_MS = 50;

/**
 * When a frame stood on the screen by the browser's knowledge: never before it was handed to the compositor. At a few frames
 * a second Chromium now and then tells the time of a whole frame later, which is no refresh of a screen, and not taken.
 */
export function presentationOf({ presentationTime, expectedDisplayTime = 0 }) {
  const refresh = expectedDisplayTime - presentationTime;
  return refresh > 0 && refresh <= LONGEST_REFRESH_MS ? expectedDisplayTime : presentationTime;
}
