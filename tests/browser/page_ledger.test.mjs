// The clocks and the ledger of the page, without a browser: `node --test tests/browser/page_ledger.test.mjs`.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { ServerClock } from '../../web/js/clock.js';
import { CaptureClock } from '../../web/js/latency.js';
import { LedgerBook, LedgerReport, frameLedger, ledgerSum, loopbackLedger, quantilesOf, viewerLedger } from '../../web/js/ledger.js';
import { fromHash, legOf, partsOf, toHash } from '../../web/js/result.js';
import { LOOPBACK_STAGES, STAGES, VIEWER_STAGES } from '../../web/js/stages.js';

// A small seeded generator (mulberry32): a failure must come back.
function random(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

const UNIX = 1.767e12;

// Pings once a second over a path that takes `least` each way and now and then far longer, to a clock that drifts.
function pinged(clock, { seed, seconds, ppm = 0, least = 0.4, jitter = 3, from = 0, base = UNIX }) {
  const next = random(seed);
  const offset = (at) => base + (at * ppm) / 1e6;
  for (let n = 0; n < seconds; n += 1) {
    const sent = from + n * 1000;
    const there = least + jitter * next() ** 3;
    const back = least + (next() < 0.2 ? 10 * jitter : jitter) * next() ** 3;
    const server = sent + there + offset(sent + there);
    const at = sent + (there + back) / 2;
    clock.push(there + back, server - at, at);
  }
  return offset;
}

test('the server’s clock is found within a fraction of a millisecond, whatever the path and the drift', () => {
  for (let seed = 1; seed <= 40; seed += 1) {
    for (const ppm of [-120, -15, 0, 40, 200]) {
      const clock = new ServerClock();
      const offset = pinged(clock, { seed, seconds: 90, ppm });
      // Now, and some seconds after the last ping.
      for (const at of [60_000, 89_000, 95_000]) {
        const off = Math.abs(clock.offsetAt(at) - offset(at));
        assert.ok(off < 0.6, `seed ${seed}, ${ppm} ppm: off by ${off} ms at ${at}`);
      }
      assert.ok(Math.abs(clock.driftPpm - ppm) < 25, `seed ${seed}: ${clock.driftPpm} for ${ppm} ppm`);
    }
  }
});

test('the join is never worse than the bound that its best ping gives', () => {
  for (let seed = 1; seed <= 40; seed += 1) {
    for (let seconds = 1; seconds <= 12; seconds += 1) {
      const clock = new ServerClock();
      const offset = pinged(clock, { seed, seconds });
      const at = seconds * 1000;
      assert.ok(Math.abs(clock.offsetAt(at) - offset(at)) <= clock.rtt / 2 + 1e-3, `seed ${seed}, ${seconds} pings`);
    }
  }
});

test('a clock that was set is believed at the third ping, and one strange ping is not', () => {
  const clock = new ServerClock();
  pinged(clock, { seed: 3, seconds: 40, jitter: 1 });
  clock.push(1, UNIX + 5000, 40_000);
  assert.ok(Math.abs(clock.offsetAt(40_000) - UNIX) < 1);
  const offset = pinged(clock, { seed: 4, seconds: 3, from: 41_000, base: UNIX - 250, jitter: 1 });
  assert.ok(Math.abs(clock.offsetAt(44_000) - offset(44_000)) < 1);
  assert.equal(Math.abs(clock.driftPpm), 0, 'of three pings no line is drawn');
});

test('a time of the server and the page’s own are told apart without a remainder', () => {
  const clock = new ServerClock();
  const offset = pinged(clock, { seed: 9, seconds: 60, ppm: 100, jitter: 0 });
  const at = 60_500;
  assert.ok(Math.abs(clock.toPage(at + offset(at)) - at) < 0.01);
  assert.equal(clock.toPage(undefined), undefined);
});

test('a clock without a ping, or with nonsense for one, says nothing', () => {
  const clock = new ServerClock();
  assert.equal(clock.offsetAt(5), undefined);
  assert.equal(clock.toPage(5), undefined);
  assert.equal(clock.rtt, undefined);
  assert.equal(clock.driftPpm, undefined);
  for (const [ms, offset, at] of [[2, undefined, 1], [2, Number.NaN, 1], [-1, 5, 1], [Number.NaN, 5, 1], [2, 5, undefined]]) clock.push(ms, offset, at);
  assert.equal(clock.offsetAt(5), undefined);
  clock.push(2, 1000, 1);
  assert.equal(clock.offsetAt(5), 1000);
  clock.clear();
  assert.equal(clock.offsetAt(5), undefined);
});

test('what is older than two minutes is forgotten', () => {
  const clock = new ServerClock();
  clock.push(0.1, UNIX + 0.02, 0);
  pinged(clock, { seed: 5, seconds: 130, from: 10_000, least: 2, jitter: 1 });
  assert.ok(clock.rtt >= 4, `${clock.rtt}`);
});

// ---- One frame ----

const server = { receive: 0.3, queue: 0.1, decode: 1.2, render_wait: 0.1, draw: 0.2, encode: 3, send: 0.4 };
const doors = { captured: 1000, encoded: 1006, sent: 1012, server, received: 1012.5, presented: 1024 };
const sum = (stages) => Object.values(stages).reduce((all, ms) => all + ms, 0);

test('every stage of a frame is there, and together they are the whole', () => {
  const { stages, whole, unaccounted, checked } = frameLedger(doors, { jitterBufferMs: 1, decodeMs: 2 });
  const wanted = STAGES.map(({ key }) => key).filter((key) => key !== 'unaccounted');
  assert.deepEqual(Object.keys(stages), wanted, 'in the order in which a frame passes them');
  assert.equal(whole, 24);
  assert.ok(Math.abs(sum(stages) - 24) < 1e-9 && Math.abs(unaccounted) < 1e-9);
  assert.ok(Math.abs(stages.uplink - 0.7) < 1e-9, 'encoder output to the first packet in');
  assert.deepEqual([stages.browser_encode, stages.downlink, stages.jitter_buffer, stages.browser_decode, stages.display], [6, 0.5, 1, 2, 8.5]);
  assert.equal(checked, false);
});

test('whatever the doors say, no stage is negative and nothing is lost', () => {
  const next = random(21);
  const keys = ['captured', 'encoded', 'sent', 'received', 'presented'];
  for (let n = 0; n < 2000; n += 1) {
    const any = Object.fromEntries(keys.map((key) => [key, 1000 + 40 * next()]));
    const times = Object.fromEntries(Object.keys(server).map((key) => [key, 4 * next()]));
    const means = { encodeMs: 9 * next(), jitterBufferMs: 40 * (next() - 0.2), decodeMs: 40 * (next() - 0.2) };
    const given = { ...any, server: times };
    if (next() < 0.3) delete given.encoded;
    const drawn = next() < 0.5 ? 1000 + 10 * next() : undefined;
    for (const ledger of [frameLedger(given, means, drawn), loopbackLedger({ ...given, encoded: any.encoded }, means, drawn)]) {
      assert.ok(Object.values(ledger.stages).every((ms) => ms >= 0), JSON.stringify(ledger));
      assert.ok(Math.abs(sum(ledger.stages) + ledger.unaccounted - ledger.whole) < 1e-9);
      assert.equal(ledger.whole, given.presented - (drawn ?? given.captured));
      assert.equal(ledger.checked, drawn !== undefined);
    }
  }
});

test('a watched frame begins at the server, and its stages are the whole', () => {
  const { stages, whole, unaccounted, checked } = viewerLedger(doors, { jitterBufferMs: 1, decodeMs: 2 });
  assert.deepEqual([...Object.keys(stages), 'unaccounted'], VIEWER_STAGES.map(({ key }) => key));
  assert.ok(Math.abs(whole - 17.3) < 1e-9, 'first packet in to presentation');
  assert.ok(Math.abs(sum(stages) - whole) < 1e-9 && Math.abs(unaccounted) < 1e-9);
  assert.equal(checked, false);
  const apart = viewerLedger({ ...doors, sent: 1013 });
  assert.equal(apart.stages.downlink, 0, 'the clocks are further apart than the way');
  assert.ok(Math.abs(apart.unaccounted + 0.5) < 1e-9, `${apart.unaccounted}`);
  for (const key of ['sent', 'server', 'received', 'presented']) assert.equal(viewerLedger({ ...doors, [key]: undefined }), undefined, key);
});

test('clocks that disagree are no stage’s fault: it stays unaccounted', () => {
  // The server's clock is read 3 ms too early: its first packet seems to come in before the encoder gave it.
  const { stages, unaccounted } = frameLedger({ ...doors, sent: 1009 });
  assert.equal(stages.uplink, 0);
  assert.ok(Math.abs(unaccounted + 2.3) < 1e-9, `${unaccounted}`);
});

test('the stamp in the pixels checks the ledger, and does not feed it', () => {
  const stamped = frameLedger(doors, {}, 998.5);
  assert.deepEqual(stamped.stages, frameLedger(doors).stages);
  assert.ok(Math.abs(stamped.unaccounted - 1.5) < 1e-9 && stamped.checked);
});

test('a frame of which a door is not known has no ledger', () => {
  for (const key of ['captured', 'sent', 'server', 'received', 'presented']) {
    assert.equal(frameLedger({ ...doors, [key]: undefined }), undefined, key);
  }
  assert.equal(frameLedger({ ...doors, server: { receive: 1 } }), undefined, 'its last stage is missing');
  assert.ok(frameLedger({ ...doors, encoded: undefined }, { encodeMs: 2 }).stages.browser_encode === 2);
  assert.equal(loopbackLedger({ ...doors, encoded: undefined }), undefined);
});

test('a ledger without its last stage is no sum', () => {
  assert.equal(ledgerSum({ receive: 1, decode: 2, send: 0.5 }), 3.5);
  assert.equal(ledgerSum({ receive: 1 }), undefined);
  assert.equal(ledgerSum(undefined), undefined);
  assert.equal(ledgerSum({ send: 1, odd: 'x', nothing: null }), 1);
});

test('frames between two connections of the page have stages of their own', () => {
  const { stages } = loopbackLedger(doors, { jitterBufferMs: 1, decodeMs: 2 });
  assert.deepEqual(Object.keys(stages), LOOPBACK_STAGES.map(({ key }) => key).filter((key) => key !== 'unaccounted'));
});

// ---- Many frames ----

test('the book tells what a window of frames took, stage by stage', () => {
  const book = new LedgerBook(1000);
  assert.equal(book.summary(), undefined);
  book.push(0, undefined);
  for (let n = 0; n <= 40; n += 1) book.push(n * 50, frameLedger({ ...doors, presented: 1024 + n }, {}, n % 2 ? 1000 - n / 20 : undefined));
  const { frames, whole, parts, check } = book.summary();
  assert.equal(frames, 21, 'those of the last second');
  assert.ok(Math.abs(whole.p50 - 54.75) < 1.1 && whole.p99 >= whole.p95 && whole.p95 >= whole.p50);
  assert.deepEqual(parts.map(({ key }) => key), STAGES.map(({ key }) => key));
  const means = parts.reduce((all, { mean }) => all + mean, 0);
  assert.ok(Math.abs(means - whole.mean) < 1e-9, 'means add up');
  assert.equal(check.frames, 10);
  assert.ok(check.p50 > 1 && check.p50 <= check.p95 && check.p95 <= 2.0001);
  book.prune(100_000);
  assert.equal(book.summary(), undefined);
});

test('the server is told of each frame once, of none that is impossible, and never of too many', () => {
  const report = new LedgerReport();
  assert.equal(report.take(), undefined);
  report.push(frameLedger(doors, { jitterBufferMs: 1, decodeMs: 2 }, 998.5));
  report.push(frameLedger({ ...doors, presented: 1e6 }));
  const { type, frames } = report.take();
  assert.equal(type, 'ledger');
  assert.deepEqual(frames, [{
    whole_ms: 25.5,
    stages_ms: { browser_encode: 6, uplink: 0.7, downlink: 0.5, jitter_buffer: 1, browser_decode: 2, display: 8.5, unaccounted: 1.5 },
  }]);
  assert.equal(report.take(), undefined);
  for (let n = 0; n < 200; n += 1) report.push(frameLedger({ ...doors, presented: 1024 + n }));
  const { frames: newest } = report.take();
  assert.equal(newest.length, 64);
  assert.equal(newest.at(-1).whole_ms, 223);
});

test('a drawing is found by sender reports too, which are off by milliseconds', () => {
  const clock = new CaptureClock();
  for (let n = 0; n < 60; n += 1) {
    clock.onCapture(1000 + 33 * n);
    clock.onSenderTime((1000 + 33 * n) * 90, 1000 + 33 * n - 4 + (n % 3));
  }
  assert.equal(clock.source, 'reports');
  for (const n of [10, 30, 59]) assert.equal(clock.drawnOf((1000 + 33 * n) * 90), 1000 + 33 * n);
});

test('quantiles are by nearest rank', () => {
  assert.deepEqual(quantilesOf([3, 1, 2], 0, 0.5, 1), [1, 2, 3]);
  assert.deepEqual(quantilesOf([], 0.5), [undefined]);
});

test('a picture that was captured late is dated by its drawing', () => {
  const next = random(7);
  for (let seed = 0; seed < 20; seed += 1) {
    const clock = new CaptureClock();
    const truth = new Map();
    let at = 1000;
    for (let n = 0; n < 110; n += 1) {
      at += 1000 / 30 + 4 * (next() - 0.5);
      const late = next() < 0.05 ? 25 * next() : 0.3 * next();
      const rtp = (Math.floor(at + late) + 5_000_000) * 90;
      truth.set(rtp, at);
      clock.onCapture(at);
      clock.onEncoded(rtp, at + late + 3 + next());
    }
    assert.equal(new CaptureClock().drawnOf(90), undefined);
    assert.ok(clock.fit());
    for (const [rtp, drawn] of truth) assert.equal(clock.drawnOf(rtp), drawn, 'the very drawing');
  }
});

// ---- A result to take along ----

const leg = (stages) => legOf({ frames: 300, whole: { p50: 24.123, p95: 40, p99: 50 }, parts: stages.map(({ key }, n) => ({ key, mean: n, p50: n + 0.004, p95: n + 1, p99: -0.5 })) });
const result = {
  v: 1, at: '2026-11-26T22:00:00.000Z', server: 'Sightline 0.1.0', model: 'face', browser: 'Chromium 156, Linux', size: '640x480', fps: 30, seconds: 30,
  through: leg(STAGES), loopback: leg(LOOPBACK_STAGES), check: { frames: 280, p50: 0.03, p95: 2.6 }, clock: { rtt_ms: 0.6, drift_ppm: -7.32 },
};

test('a result comes back from its address as it was', () => {
  assert.deepEqual(fromHash(toHash(result)), result);
  const little = { ...result, model: 'Gesicht é 顔', loopback: null, check: null, clock: null };
  assert.deepEqual(fromHash(toHash(little)), little);
  assert.match(toHash(result), /^#r=[A-Za-z0-9_-]+$/, 'nothing in it needs quoting');
  assert.ok(toHash(result).length < 3000);
  assert.deepEqual(partsOf(result.through)[1], { key: 'uplink', mean: 1, p50: 1, p95: 2, p99: -0.5 });
  assert.equal(legOf(undefined), null);
});

test('what is no whole result is none, and nothing else of an address is taken', () => {
  for (const spoil of [
    { v: 2 }, { at: 'yesterday-ish' }, { at: 5 }, { server: 'x'.repeat(500) }, { fps: -1 }, { fps: '30' }, { seconds: 1.5 }, { through: undefined }, { through: [] },
    { through: { ...result.through, p50: '24' } }, { through: { ...result.through, p50: 1e9 } }, { through: { ...result.through, stages: { uplink: [1, 2] } } },
    { through: { ...result.through, stages: { uplink: 'long' } } }, { loopback: { ...result.loopback, frames: -3 } },
  ]) assert.equal(fromHash(toHash({ ...result, ...spoil })), undefined, JSON.stringify(spoil));
  const strange = fromHash(toHash({ ...result, extra: 1, through: { ...result.through, stages: { ...result.through.stages, odd: [1, 1, 1, 1], constructor: [1, 1, 1, 1] } } }));
  assert.deepEqual(strange, result);
  assert.equal(fromHash(toHash({ ...result, check: { p50: 'x' } })).check, null);
  for (const hash of ['', '#', '#/streams', '#r=', '#r=%%%', '#r=AAAA', `#r=${'A'.repeat(9000)}`, toHash(null), toHash([]), toHash(1)]) assert.equal(fromHash(hash), undefined, hash.slice(0, 20));
});

test('no text in an address breaks the page', () => {
  const next = random(77);
  const whole = toHash(result);
  for (let n = 0; n < 3000; n += 1) {
    const at = 3 + Math.floor(next() * (whole.length - 3));
    const end = at + Math.floor(next() * 8);
    const noise = String.fromCharCode(...Array.from({ length: Math.floor(next() * 8) }, () => 32 + Math.floor(next() * 200)));
    const back = fromHash(whole.slice(0, at) + noise + whole.slice(end));
    if (back === undefined) continue;
    assert.ok(back.v === 1 && (back.through === null || Number.isFinite(back.through.p50)));
  }
});
