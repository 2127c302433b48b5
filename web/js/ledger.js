// The ledger of one frame from capture to screen: contiguous stages, each between two doors whose times are known, and what no
// stage explains. docs/latency-method.md tells where each time comes from.

import { STAGES } from './stages.js';

/** The sum of a server's ledger; undefined where the stage that every sent frame ends with is missing. */
export function ledgerSum(ledger) {
  if (ledger === null || typeof ledger !== 'object' || !Number.isFinite(ledger.send)) return undefined;
  return Object.values(ledger).reduce((sum, ms) => sum + (Number.isFinite(ms) ? ms : 0), 0);
}

const span = (from, to) => Math.max(0, to - from);

/**
 * The stages of a frame that went to the server and came back. All times are this page's (performance.now()), in milliseconds.
 * No stage is negative: where two doors seem to lie the wrong way round the clocks disagree, and that goes to `unaccounted`.
 * @param {object} doors
 * @param {number} doors.captured
 * @param {number|undefined} doors.encoded the encoder's output; undefined where the browser lets nobody see it
 * @param {number|undefined} doors.sent when the server's last packet went out
 * @param {object} doors.server the server's stages
 * @param {number|undefined} doors.received when the last packet came in
 * @param {number} doors.presented
 * @param {{encodeMs?: number, jitterBufferMs?: number, decodeMs?: number}} means of the browser's statistics, for what it does not
 *   tell of each frame
 * @param {number|undefined} drawn the same as `captured`, by the stamp in the frame's own pixels
 * @returns {{stages: object, whole: number, unaccounted: number, checked: boolean}|undefined} undefined where a door is not known
 */
export function frameLedger({ captured, encoded, sent, server, received, presented }, means = {}, drawn = undefined) {
  const inServer = ledgerSum(server);
  if (![captured, sent, inServer, received, presented].every(Number.isFinite)) return undefined;
  const arrived = sent - inServer;
  const left = encoded ?? Math.min(arrived, captured + (means.encodeMs ?? 0));
  const stages = { browser_encode: span(captured, left), uplink: span(left, arrived) };
  for (const { key, group } of STAGES) if (group === 'server' && Number.isFinite(server[key])) stages[key] = server[key];
  stages.downlink = span(sent, received);
  Object.assign(stages, afterReceive(received, presented, means));
  return close(stages, presented - (drawn ?? captured), drawn !== undefined);
}

/** The same of a frame that came straight from another peer connection of this page: there is no server in between. */
export function loopbackLedger({ captured, encoded, received, presented }, means = {}, drawn = undefined) {
  if (![captured, encoded, received, presented].every(Number.isFinite)) return undefined;
  const stages = { browser_encode: span(captured, encoded), network: span(encoded, received) };
  Object.assign(stages, afterReceive(received, presented, means));
  return close(stages, presented - (drawn ?? captured), drawn !== undefined);
}

/**
 * The same of a frame that comes from elsewhere: it begins with its first packet at the server, whose clock is joined with this
 * page's.
 */
export function viewerLedger({ sent, server, received, presented }, means = {}) {
  const inServer = ledgerSum(server);
  if (![sent, inServer, received, presented].every(Number.isFinite)) return undefined;
  const stages = {};
  for (const { key, group } of STAGES) if (group === 'server' && Number.isFinite(server[key])) stages[key] = server[key];
  stages.downlink = span(sent, received);
  Object.assign(stages, afterReceive(received, presented, means));
  return close(stages, presented - (sent - inServer), false);
}

// How long this very frame lay in the jitter buffer the browser tells nobody: the mean stands for it, and what is left until
// the presentation is the screen's.
function afterReceive(received, presented, { jitterBufferMs = 0, decodeMs = 0 }) {
  const all = span(received, presented);
  const browser_decode = Math.min(all, Math.max(0, decodeMs));
  const jitter_buffer = Math.min(all - browser_decode, Math.max(0, jitterBufferMs));
  return { jitter_buffer, browser_decode, display: all - browser_decode - jitter_buffer };
}

function close(stages, whole, checked) {
  const known = Object.values(stages).reduce((sum, ms) => sum + ms, 0);
  return { stages, whole, unaccounted: whole - known, checked };
}

/** The most frames that one report tells the server of. */
const MOST_REPORTED = 64;
const LONGEST_REPORTED_MS = 60_000;

/** Gathers ledgers for the server, which knows its own stages. */
export class LedgerReport {
  #frames = [];

  /** Takes what `frameLedger` gave. */
  push({ stages, whole, unaccounted }) {
    const own = STAGES.filter(({ group }) => group !== 'server').map(({ key }) => [key, key === 'unaccounted' ? unaccounted : stages[key]]);
    const told = own.filter(([, ms]) => Number.isFinite(ms)).map(([key, ms]) => [key, Math.round(ms * 100) / 100]);
    if (![whole, ...told.map(([, ms]) => Math.abs(ms))].every((ms) => ms >= 0 && ms <= LONGEST_REPORTED_MS)) return;
    this.#frames.push({ whole_ms: Math.round(whole * 100) / 100, stages_ms: Object.fromEntries(told) });
    if (this.#frames.length > MOST_REPORTED) this.#frames.shift();
  }

  /** The message about the frames since the last one; undefined where there were none. */
  take() {
    const frames = this.#frames.splice(0);
    return frames.length > 0 ? { type: 'ledger', frames } : undefined;
  }
}

/** Quantiles by nearest rank of values that need not be sorted; undefined without any. */
export function quantilesOf(values, ...shares) {
  if (values.length === 0) return shares.map(() => undefined);
  const sorted = [...values].sort((a, b) => a - b);
  return shares.map((share) => sorted[Math.min(sorted.length - 1, Math.max(0, Math.ceil(share * sorted.length) - 1))]);
}

const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

function figures(values) {
  const [p50, p95, p99] = quantilesOf(values, 0.5, 0.95, 0.99);
  return { mean: mean(values), p50, p95, p99 };
}

/** The ledgers of the last seconds. */
export class LedgerBook {
  /** @param {number} spanMs how long a frame counts @param {number} capacity frames kept at most */
  constructor(spanMs = 10_000, capacity = 2048) {
    this.spanMs = spanMs;
    this.capacity = capacity;
    this.frames = [];
  }

  /** Takes the ledger of a frame that was presented `at`. */
  push(at, ledger) {
    if (!Number.isFinite(ledger?.whole)) return;
    this.frames.push({ at, ...ledger });
    if (this.frames.length > this.capacity) this.frames.shift();
    this.prune(at);
  }

  prune(now) {
    let stale = 0;
    while (stale < this.frames.length && now - this.frames[stale].at > this.spanMs) stale += 1;
    if (stale > 0) this.frames.splice(0, stale);
  }

  clear() {
    this.frames.length = 0;
  }

  /**
   * What the frames of the window took, in milliseconds.
   * @param {{key: string}[]} stages which to tell, in order
   * @returns {{frames: number, whole: object, parts: object[], check: object|undefined}|undefined} undefined without frames;
   *   `parts`: {key, mean, p50, p95, p99}, `unaccounted` among them; `check`: {frames, p50, p95} of what the ledger and the stamp in
   *   the pixels differ by, either way, where stamps were read
   */
  summary(stages = STAGES) {
    const { frames } = this;
    if (frames.length === 0) return undefined;
    const parts = stages.map(({ key }) => {
      const values = frames.map((frame) => (key === 'unaccounted' ? frame.unaccounted : frame.stages[key])).filter(Number.isFinite);
      return values.length === 0 ? { key } : { key, ...figures(values) };
    });
    const checked = frames.filter((frame) => frame.checked).map(({ unaccounted }) => Math.abs(unaccounted));
    const [p50, p95] = quantilesOf(checked, 0.5, 0.95);
    const check = checked.length === 0 ? undefined : { frames: checked.length, p50, p95 };
    return { frames: frames.length, whole: figures(frames.map(({ whole }) => whole)), parts, check };
  }
}
