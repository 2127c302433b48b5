// The page's modules that need no browser: `node --test tests/browser/page_units.test.mjs`.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { niceCeiling } from '../../web/js/charts.js';
import { BoundedMap, FrameJoin } from '../../web/js/join.js';
import { CaptureClock, LatencyMeter, RtpMilliseconds, SampleWindow } from '../../web/js/latency.js';
import { STAMP_CELLS, readCells, stampCells } from '../../web/js/pattern.js';
import { Problem, describe, httpProblem, mediaProblem } from '../../web/js/problems.js';
import { h264Codecs } from '../../web/js/link.js';
import { bitrateFor, withStartBitrate } from '../../web/js/session.js';
import { STAGES, StageBook } from '../../web/js/stages.js';
import { pick, summarise } from '../../web/js/stats.js';

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

const frame = (rtp, more = {}) => ({ type: 'frame', rtp_timestamp: rtp, boxes: [], ...more });

test('a frame finds its message by timestamp', () => {
  const join = new FrameJoin();
  join.message(frame(100));
  join.message(frame(3100));
  assert.equal(join.present(3100, {}).rtp_timestamp, 3100);
  assert.equal(join.share(), 1);
});

test('a message that comes after its frame still joins', () => {
  const join = new FrameJoin();
  assert.equal(join.present(100, 'shown'), undefined);
  assert.equal(join.share(), 0);
  assert.equal(join.message(frame(100)), 'shown');
  assert.equal(join.share(), 1);
  assert.equal(join.message(frame(100)), undefined, 'a duplicate joins nothing');
  assert.equal(join.share(), 1);
});

test('the join forgets the oldest, and never grows', () => {
  const join = new FrameJoin({ capacity: 10 });
  for (let rtp = 0; rtp < 1000; rtp += 1) {
    join.message(frame(rtp));
    join.present(5000 + rtp, {});
    join.message({ type: 'detections', frame_id: rtp, detections: [] });
  }
  assert.equal(join.frames.size, 10);
  assert.equal(join.waiting.size, 10);
  assert.equal(join.detections.size, 10);
  assert.equal(join.present(1, {}), undefined);
});

test('without timestamps the newest message stands in', () => {
  const join = new FrameJoin();
  join.message(frame(1));
  join.message(frame(2));
  assert.equal(join.present(undefined, {}).rtp_timestamp, 2);
});

test('a bounded map drops what was set longest ago', () => {
  const map = new BoundedMap(2);
  map.set('a', 1).set('b', 2).set('a', 3).set('c', 4);
  assert.deepEqual([...map], [['a', 3], ['c', 4]]);
});

test('quantiles are of the window alone', () => {
  const window = new SampleWindow(1000);
  for (let at = 0; at <= 2000; at += 100) window.push(at, at);
  window.push(2000, Number.NaN);
  assert.equal(window.size, 11);
  assert.deepEqual(window.quantiles(0, 0.5, 1), [1000, 1500, 2000]);
  window.prune(10_000);
  assert.deepEqual(window.quantiles(0.5), [undefined]);
});

test('RTP milliseconds go on over the wrap, and back', () => {
  const clock = new RtpMilliseconds();
  const start = clock.of(2 ** 32 - 90);
  assert.equal(clock.of(90) - start, 2);
  assert.equal(clock.of(2 ** 32 - 90) - start, 0);
});

// A camera and its encoder: times of capture, and RTP timestamps that know them only up to a constant.
function camera({ seed, frames = 100, jitter, drop = 0, encodeMs = 4, constant = 47_000_000, seen = 1 }) {
  const next = random(seed);
  const clock = new CaptureClock();
  const truth = new Map();
  let at = 1000 + 100 * next();
  for (let index = 0; index < frames; index += 1) {
    at += 1000 / 30 + jitter * (next() - 0.5);
    if (next() < drop) continue;
    const rtp = ((Math.floor(at) + constant) * 90) % 2 ** 32;
    truth.set(rtp, at);
    if (next() < seen) clock.onCapture(at);
    clock.onEncoded(rtp, at + encodeMs + 3 * next());
  }
  return { clock, truth };
}

const worst = ({ clock, truth }) => Math.max(...[...truth].slice(-50).map(([rtp, at]) => Math.abs(clock.captureOf(rtp) - at)));

test('the capture clock finds the constant to a millisecond, whatever the camera does', () => {
  for (let seed = 1; seed <= 40; seed += 1) {
    for (const options of [{ jitter: 0 }, { jitter: 2 }, { jitter: 15 }, { jitter: 3, drop: 0.2 }, { jitter: 2, seen: 0.7 }, { jitter: 4, encodeMs: 25 }]) {
      const one = camera({ seed, ...options });
      assert.ok(one.clock.fit(), JSON.stringify({ seed, ...options }));
      assert.ok(worst(one) <= 1.01, `${JSON.stringify({ seed, ...options })} is off by ${worst(one)} ms`);
    }
  }
});

test('an encoder slower than a frame is told from the next frame by the camera’s own unevenness', () => {
  for (let seed = 1; seed <= 20; seed += 1) {
    const one = camera({ seed, jitter: 10, encodeMs: 70 });
    assert.ok(one.clock.fit());
    assert.ok(worst(one) <= 1.01, `seed ${seed} is off by ${worst(one)} ms`);
  }
});

test('the capture clock says nothing before it knows', () => {
  const clock = new CaptureClock();
  assert.equal(clock.fit(), false);
  assert.equal(clock.captureOf(90), undefined);
  for (let n = 0; n < 5; n += 1) {
    clock.onCapture(n * 33);
    clock.onEncoded(n * 2970, n * 33 + 5);
  }
  assert.equal(clock.fit(), false, 'five frames are too few');
});

test('captures that do not fit the encoder’s frames give no constant', () => {
  const next = random(3);
  const clock = new CaptureClock();
  let at = 0;
  for (let n = 0; n < 100; n += 1) {
    at += 20 + 30 * next();
    clock.onCapture(at);
    clock.onEncoded(Math.floor(next() * 2 ** 32), at + 5);
  }
  assert.equal(clock.fit(), false);
});

test('the capture clock works over the wrap of the timestamps', () => {
  const one = camera({ seed: 5, jitter: 3, constant: 2 ** 32 / 90 - 2500 });
  assert.ok(one.clock.fit());
  assert.ok(worst(one) <= 1.01);
});

test('sender reports serve where the encoder cannot be seen, and give way to it', () => {
  const one = camera({ seed: 9, jitter: 3 });
  const reports = new CaptureClock();
  for (const [rtp, at] of one.truth) reports.onSenderTime(rtp, at + 2);
  const [rtp, at] = [...one.truth].at(-1);
  assert.equal(reports.source, 'reports');
  assert.ok(Math.abs(reports.captureOf(rtp) - at - 2) < 1.01);
  one.clock.onSenderTime(rtp, at + 500);
  one.clock.fit();
  assert.equal(one.clock.source, 'encoder');
  one.clock.onSenderTime(rtp, at + 500);
  assert.ok(worst(one) <= 1.01);
});

test('the meter measures from capture to presentation, and prefers the stamp', () => {
  const { clock, truth } = camera({ seed: 2, jitter: 2 });
  const meter = new LatencyMeter();
  meter.clock = clock;
  clock.fit();
  for (const [rtpTimestamp, at] of truth) meter.presented({ presentationTime: at + 24, expectedDisplayTime: at + 25 }, rtpTimestamp);
  const { p50, method } = meter.summary();
  assert.equal(method, 'encoder');
  assert.ok(Math.abs(p50 - 25) < 1.01);
  assert.equal(meter.presented({ presentationTime: 50_000 }, undefined, 49_970), 30);
  assert.equal(meter.summary().method, 'stamp');
  meter.reset();
  assert.equal(meter.presented({ presentationTime: 50_000 }, 5), undefined);
});

const levels = (cells, white = 220, black = 30) => cells.map((cell) => (cell ? white : black));

test('a stamp reads back as the time of its drawing', () => {
  const next = random(11);
  for (let n = 0; n < 500; n += 1) {
    const drawn = next() * 5e7;
    const now = drawn + next() * 5000;
    const read = readCells(levels(stampCells(drawn)), now);
    assert.ok(Math.abs(read - drawn) <= 1 / 8, `${drawn} came back as ${read}`);
  }
});

test('a stamp with wrong cells is not read', () => {
  const cells = levels(stampCells(123_456.7));
  for (let index = 2; index < STAMP_CELLS; index += 1) {
    const spoilt = [...cells];
    spoilt[index] = 250 - spoilt[index];
    assert.equal(readCells(spoilt, 123_500), undefined);
  }
  assert.equal(readCells(cells.map(() => 128), 123_500), undefined, 'grey');
  assert.equal(readCells(cells.map(() => Number.NaN), 123_500), undefined);
  assert.equal(readCells(cells.slice(1), 123_500), undefined);
});

test('every problem has words, and the server’s own come first', () => {
  for (const name of ['NotAllowedError', 'NotFoundError', 'NotReadableError', 'OverconstrainedError', 'TypeError']) {
    const { title, text } = describe(mediaProblem({ name, message: 'm' }, 'camera'));
    assert.ok(title.length > 5 && text.length > 20);
  }
  const refused = httpProblem(400, { error: { code: 'bad_sdp', message: 'The SDP has no video.' } });
  assert.equal(refused.retry, false);
  assert.equal(describe(refused).text, 'The SDP has no video.');
  const full = httpProblem(503, { error: { message: 'All 8 sessions are taken.' } }, '7');
  assert.deepEqual([full.retry, full.waitMs], [true, 7000]);
  assert.match(describe(full).text, /^All 8 sessions are taken\./);
  assert.equal(httpProblem(502, undefined).kind, 'away');
  assert.equal(httpProblem(403, undefined).kind, 'foreign');
  assert.equal(describe(new Problem('no such kind')).title, 'Something went wrong');
});

test('only H.264 in packetization mode 1 is offered, constrained baseline first', () => {
  const codec = (mimeType, sdpFmtpLine) => ({ mimeType, clockRate: 90_000, sdpFmtpLine });
  const codecs = h264Codecs({
    codecs: [
      codec('video/VP8'),
      codec('video/H264', 'level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=4d001f'),
      codec('video/H264', 'level-asymmetry-allowed=1;packetization-mode=0;profile-level-id=42e01f'),
      codec('video/H264', 'level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f'),
      codec('video/rtx'),
    ],
  });
  assert.deepEqual(codecs.map(({ sdpFmtpLine }) => sdpFmtpLine.slice(-6)), ['42e01f', '4d001f']);
  assert.deepEqual(h264Codecs(null), []);
});

test('the start bitrate goes into the H.264 lines alone', () => {
  const sdp = 'v=0\r\na=rtpmap:102 H264/90000\r\na=fmtp:102 packetization-mode=1\r\na=rtpmap:111 opus/48000/2\r\na=fmtp:111 minptime=10\r\n';
  assert.equal(
    withStartBitrate(sdp, 900),
    'v=0\r\na=rtpmap:102 H264/90000\r\na=fmtp:102 packetization-mode=1;x-google-start-bitrate=900\r\na=rtpmap:111 opus/48000/2\r\na=fmtp:111 minptime=10\r\n',
  );
  assert.ok(bitrateFor(320, 240, 15) >= 600 && bitrateFor(3840, 2160, 60) <= 12_000);
});

test('statistics are rates over the time between two looks', () => {
  const report = (timestamp, frames, bytes) =>
    new Map([
      ['o', { id: 'o', type: 'outbound-rtp', kind: 'video', timestamp, framesSent: frames, bytesSent: bytes, totalEncodeTime: frames * 0.002, framesEncoded: frames, packetsSent: frames, totalPacketSendDelay: 0 }],
      ['i', { id: 'i', type: 'inbound-rtp', kind: 'video', timestamp, framesDecoded: frames, bytesReceived: bytes, packetsReceived: frames, packetsLost: frames / 100, jitterBufferDelay: frames * 0.001, jitterBufferEmittedCount: frames, totalDecodeTime: 0 }],
      ['t', { id: 't', type: 'transport', timestamp, selectedCandidatePairId: 'p' }],
      ['p', { id: 'p', type: 'candidate-pair', timestamp, currentRoundTripTime: 0.002 }],
      ['q', { id: 'q', type: 'candidate-pair', timestamp, currentRoundTripTime: 9 }],
    ]);
  const summary = summarise(pick(report(2000, 60, 250_000)), pick(report(1000, 30, 0)));
  assert.equal(summary.fpsUp, 30);
  assert.equal(summary.kbpsDown, 2000);
  assert.equal(summary.rttMs, 2);
  assert.ok(Math.abs(summary.encodeMs - 2) < 1e-9 && Math.abs(summary.jitterBufferMs - 1) < 1e-9);
  assert.ok(Math.abs(summary.lossDown - 0.3 / 30.3) < 1e-9);
  const nothing = summarise(pick(new Map()), pick(new Map()));
  assert.ok(Object.values(nothing).every((value) => value === undefined));
});

test('the stages add up to the measured whole', () => {
  const book = new StageBook();
  book.note(1000, { receive: 0.5, decode: 1, encode: 3, draw: Number.NaN, ['__proto__']: 1 });
  book.note(1000, null);
  const { parts, total } = book.video(1000, { total: 20, encoding: 4, afterReceive: 9, rttMs: 2, stats: { jitterBufferMs: 1, decodeMs: 2, packetSendMs: 0.5 } });
  assert.equal(total, 20);
  assert.deepEqual(parts.map(({ key }) => key), STAGES.map(({ key }) => key));
  const sum = parts.reduce((all, { ms }) => all + (ms ?? 0), 0);
  assert.ok(Math.abs(sum - 20) < 1e-9);
  assert.equal(parts.find(({ key }) => key === 'display').ms, 6);
  assert.equal(parts.find(({ key }) => key === 'draw').ms, undefined);
  assert.equal(book.video(9000, {}).total, undefined, 'old figures are gone');
});

test('a scale ends at a round number that holds the value', () => {
  for (let value = 0; value < 5000; value += 7) {
    const top = niceCeiling(value);
    assert.ok(top >= value && top <= Math.max(10, value * 2.5), `${value} → ${top}`);
  }
});
