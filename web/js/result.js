// The result of a measurement as text: JSON for who reads it, and the part of an address behind `#` for who is sent it. What comes
// back from an address was written by anybody, and is taken only where it is what this page would have written.

import { LOOPBACK_STAGES, STAGES } from './stages.js';

const MARK = '#r=';
const LONGEST = 8192;
const LONGEST_TEXT = 120;
const MOST_MS = 1e5;

const rounded = (value) => (Number.isFinite(value) ? Math.round(value * 100) / 100 : null);

/** One leg of a result, from a `LedgerBook`'s summary or from latencies alone; null where nothing was measured. */
export function legOf(summary) {
  if (!summary) return null;
  const { frames, whole, parts = [] } = summary;
  const stages = {};
  for (const { key, mean, p50, p95, p99 } of parts) if (Number.isFinite(mean)) stages[key] = [mean, p50, p95, p99].map(rounded);
  return { frames, p50: rounded(whole.p50), p95: rounded(whole.p95), p99: rounded(whole.p99), stages };
}

/** The address's part for a result. */
export function toHash(result) {
  const bytes = new TextEncoder().encode(JSON.stringify(result));
  let binary = '';
  for (const byte of bytes) binary += String.fromCharCode(byte);
  return MARK + btoa(binary).replaceAll('+', '-').replaceAll('/', '_').replace(/=+$/, '');
}

/** The result in an address's part; undefined where there is none, or none that is whole. */
export function fromHash(hash) {
  if (!hash.startsWith(MARK) || hash.length > LONGEST) return undefined;
  try {
    const binary = atob(hash.slice(MARK.length).replaceAll('-', '+').replaceAll('_', '/'));
    const text = new TextDecoder('utf-8', { fatal: true }).decode(Uint8Array.from(binary, (one) => one.charCodeAt(0)));
    return checked(JSON.parse(text));
  } catch {
    // Not what this page wrote.
    return undefined;
  }
}

const isObject = (value) => value !== null && typeof value === 'object' && !Array.isArray(value);
const isMs = (value) => Number.isFinite(value) && Math.abs(value) <= MOST_MS;
const isText = (value) => typeof value === 'string' && value.length <= LONGEST_TEXT;
const isCount = (value) => Number.isInteger(value) && value >= 0 && value <= 1e6;

function checked(result) {
  if (!isObject(result) || result.v !== 1) return undefined;
  const { at, server, model, browser, size, fps, seconds, through, loopback, check, clock } = result;
  if (![at, server, model, browser, size].every(isText) || Number.isNaN(Date.parse(at))) return undefined;
  if (!isCount(fps) || !isCount(seconds)) return undefined;
  const legs = { through: leg(through, STAGES), loopback: leg(loopback, LOOPBACK_STAGES) };
  if (legs.through === undefined || legs.loopback === undefined) return undefined;
  return { v: 1, at, server, model, browser, size, fps, seconds, ...legs, check: figures(check, ['p50', 'p95']), clock: figures(clock, ['rtt_ms', 'drift_ppm']) };
}

// null stands for what was not measured, undefined for what nobody can have measured.
function leg(one, stages) {
  if (one === null) return null;
  if (!isObject(one) || !isObject(one.stages) || !isCount(one.frames) || ![one.p50, one.p95, one.p99].every(isMs)) return undefined;
  const told = stages.filter(({ key }) => Object.hasOwn(one.stages, key)).map(({ key }) => [key, one.stages[key]]);
  if (!told.every(([, four]) => Array.isArray(four) && four.length === 4 && four.every(isMs))) return undefined;
  return { frames: one.frames, p50: one.p50, p95: one.p95, p99: one.p99, stages: Object.fromEntries(told) };
}

function figures(one, keys) {
  if (!isObject(one) || !keys.every((key) => isMs(one[key]))) return null;
  const kept = Object.fromEntries(keys.map((key) => [key, one[key]]));
  return isCount(one.frames) ? { frames: one.frames, ...kept } : kept;
}

/** The parts of a leg as a `Waterfall` shows them. */
export const partsOf = (one) => Object.entries(one?.stages ?? {}).map(([key, [mean, p50, p95, p99]]) => ({ key, mean, p50, p95, p99 }));
