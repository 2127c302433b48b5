// The ledger of a frame from capture to screen: the server's stages from its `frame` messages, the browser's from its
// own clocks, and what no stage explains.

import { SampleWindow } from './latency.js';

/** The stages of the video, in the order in which a frame passes them. */
export const STAGES = [
  { key: 'browser_encode', label: 'Browser encode', group: 'browser', hint: 'capture to encoder output, in this browser' },
  { key: 'uplink', label: 'Uplink', group: 'network', hint: 'send queue and half the round trip' },
  { key: 'receive', label: 'Receive', group: 'server', hint: 'first packet in to last packet in' },
  { key: 'queue', label: 'Queue', group: 'server', hint: 'waiting for the video thread' },
  { key: 'decode', label: 'Decode', group: 'server', hint: 'H.264 to picture' },
  { key: 'render_wait', label: 'Wait', group: 'server', hint: 'decoded, not yet drawn' },
  { key: 'draw', label: 'Draw', group: 'server', hint: 'boxes and labels' },
  { key: 'encode', label: 'Encode', group: 'server', hint: 'picture to H.264' },
  { key: 'send', label: 'Send', group: 'server', hint: 'to the last packet out' },
  { key: 'downlink', label: 'Downlink', group: 'network', hint: 'half the round trip' },
  { key: 'jitter_buffer', label: 'Jitter buffer', group: 'browser', hint: 'in this browser, before its decoder' },
  { key: 'browser_decode', label: 'Browser decode', group: 'browser', hint: 'in this browser' },
  { key: 'display', label: 'Display', group: 'browser', hint: 'waiting for the screen' },
  { key: 'unaccounted', label: 'Unaccounted', group: 'rest', hint: 'the measured whole less all stages' },
];

/** The stages that a viewer has: its video does not begin in this browser. */
export const VIEWER_STAGES = STAGES.filter(({ key }) => key !== 'browser_encode' && key !== 'uplink');

/** The stages of a frame between two peer connections of this page. */
export const LOOPBACK_STAGES = [
  ...STAGES.filter(({ key }) => key === 'browser_encode'),
  { key: 'network', label: 'Network', group: 'network', hint: 'encoder output to last packet in' },
  ...STAGES.filter(({ key }) => ['jitter_buffer', 'browser_decode', 'display', 'unaccounted'].includes(key)),
];

/** The stages of the detector, beside the video's way. */
export const DETECTOR_STAGES = [
  { key: 'detect_queue', label: 'Queue', group: 'detector', hint: 'waiting for a free worker' },
  { key: 'preprocess', label: 'Preprocess', group: 'detector', hint: 'picture to tensor' },
  { key: 'infer', label: 'Infer', group: 'detector', hint: 'the model itself' },
  { key: 'postprocess', label: 'Postprocess', group: 'detector', hint: 'boxes, suppression, tracking' },
];

const SPAN_MS = 2000;

/** Means of the last two seconds for every stage. */
export class StageBook {
  constructor() {
    this.windows = new Map();
  }

  reset() {
    this.windows.clear();
  }

  /** Notes times by stage, in milliseconds; names that the page does not know are kept too. */
  note(at, times) {
    if (times === null || typeof times !== 'object') return;
    for (const [key, value] of Object.entries(times)) {
      if (!Number.isFinite(value)) continue;
      if (!this.windows.has(key) && this.windows.size < 64) this.windows.set(key, new SampleWindow(SPAN_MS));
      this.windows.get(key)?.push(at, value);
    }
  }

  /** The mean of a stage, or undefined when nothing was noted in the last two seconds. */
  mean(key, now) {
    const samples = this.windows.get(key);
    samples?.prune(now);
    return samples?.mean();
  }

  /**
   * The stages of the video with their means, and the whole.
   * @param {{total?: number, encoding?: number, afterReceive?: number, rttMs?: number, stats?: object}} measured of the page, ms
   * @param {object[]} stages which to tell
   * @returns {{parts: {key: string, ms: number|undefined}[], total: number|undefined}}
   */
  video(now, { total, encoding, afterReceive, rttMs, stats = {} }, stages = STAGES) {
    const half = rttMs === undefined ? undefined : rttMs / 2;
    const { jitterBufferMs, decodeMs } = stats;
    const own = {
      browser_encode: encoding ?? stats.encodeMs,
      uplink: half === undefined ? undefined : half + (stats.packetSendMs ?? 0),
      downlink: half,
      jitter_buffer: jitterBufferMs,
      browser_decode: decodeMs,
      display: afterReceive === undefined ? undefined : Math.max(0, afterReceive - (jitterBufferMs ?? 0) - (decodeMs ?? 0)),
    };
    let known = 0;
    const parts = [];
    for (const { key, group } of stages) {
      if (group === 'rest') continue;
      const ms = group === 'server' ? this.mean(key, now) : own[key];
      known += ms ?? 0;
      parts.push({ key, ms });
    }
    parts.push({ key: 'unaccounted', ms: total === undefined ? undefined : total - known });
    return { parts, total: total ?? (known > 0 ? known : undefined) };
  }

  /** The stages of the detector with their means, and their sum. */
  detector(now) {
    let total = 0;
    const parts = DETECTOR_STAGES.map(({ key }) => {
      const ms = this.mean(key, now);
      total += ms ?? 0;
      return { key, ms };
    });
    return { parts, total: total > 0 ? total : undefined };
  }
}
