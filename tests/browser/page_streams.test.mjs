// The parts of the wall and of the viewer that need no browser: `node --test tests/browser/page_streams.test.mjs`.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { BoxTimeline, OLDEST_MS, moved, rtpSpan } from '../../web/js/boxes.js';
import { formOf, joinAddress, requestOf, splitAddress } from '../../web/js/camera.js';
import { nextCorner, nextIndex } from '../../web/js/shape.js';
import { describeZone } from '../../web/js/zone.js';
import { FrameJoin } from '../../web/js/join.js';
import { presentationOf } from '../../web/js/latency.js';
import { describeState, route, span, summary, watchAddress } from '../../web/js/states.js';
import { ThumbLoader } from '../../web/js/thumbs.js';
import { deleteResource, postOffer, whepAddress } from '../../web/js/whep.js';

const camera = (state, more = {}) => ({ name: 'c', kind: 'camera', camera: { state, last_error: null, restarts: 0, since_last_frame_ms: null, retry_in_ms: null, notes: [], ...more } });

// ---- States ----

test('every state of a camera has a word, a tone, and what comes next', () => {
  const words = {
    connecting: ['Connecting', 'busy', ''],
    live: ['Live', 'live', ''],
    disabled: ['Paused', 'idle', /resumed/],
    idle: ['Idle', 'idle', /somebody watches/],
    unauthorized: ['Unauthorized', 'bad', /edit the camera/],
    unsupported: ['Unsupported', 'bad', /cannot decode/],
  };
  for (const [state, [word, tone, detail]] of Object.entries(words)) {
    const told = describeState(camera(state));
    assert.equal(told.word, word);
    assert.equal(told.tone, tone);
    if (detail) assert.match(told.detail, detail);
    else assert.equal(told.detail, '');
  }
  assert.equal(describeState(camera('something_new')).word, 'something_new', 'a later server’s word is shown as it is');
});

test('the server’s own reason is told, and the next try counts down', () => {
  const backoff = camera('backoff', { last_error: 'connection refused', retry_in_ms: 7200 });
  assert.equal(describeState(backoff, 0).detail, 'connection refused. Next try in 8 s.');
  assert.equal(describeState(backoff, 5000).detail, 'connection refused. Next try in 3 s.');
  assert.equal(describeState(backoff, 9000).detail, 'connection refused. Trying again.');
  const unsupported = camera('unsupported', { last_error: 'H.265: build with `--features ffmpeg`' });
  assert.equal(describeState(unsupported).detail, 'H.265: build with `--features ffmpeg`');
  assert.equal(describeState(camera('stalled', { since_last_frame_ms: 4000 }), 1000).detail, 'No frame for 5 s.');
  assert.equal(describeState(camera('live', { last_error: 'of yesterday', retry_in_ms: 5 })).detail, '');
});

test('what stands in a publisher’s picture tells its state', () => {
  assert.equal(describeState({ kind: 'whip', no_signal: null }).tone, 'live');
  assert.equal(describeState({ kind: 'offer', no_signal: 'no signal' }).word, 'No signal');
});

test('the conditions of all streams make one sentence', () => {
  const states = ['live', 'live', 'backoff', 'disabled', 'idle', 'connecting'].map((state) => describeState(camera(state)));
  assert.equal(summary(states), '2 live · 1 connecting · 1 in trouble · 1 idle · 1 paused');
  assert.equal(summary([]), 'No streams');
});

test('a span is said as a person does', () => {
  assert.deepEqual([0, 340, 4000, 402_000, 7_200_000, 864_000_000].map(span), ['0.0 s', '0.3 s', '4 s', '7 min', '2 h', '10 d']);
  assert.equal(span(undefined), undefined);
});

test('the address of the page names the view', () => {
  assert.deepEqual(route(''), { view: 'webcam' });
  assert.deepEqual(route('#/'), { view: 'webcam' });
  assert.deepEqual(route('#/streams'), { view: 'wall' });
  assert.deepEqual(route('#/streams/'), { view: 'wall' });
  assert.deepEqual(route('#/streams/a%2'), { view: 'wall' }, 'no such name can be');
  assert.deepEqual(route('#/streams/door?video=original'), { view: 'watch', stream: 'door', video: 'original' });
  assert.deepEqual(route('#/streams/door?video=other'), { view: 'watch', stream: 'door', video: undefined });
  assert.equal(route(watchAddress('a b?c/d')).stream, 'a b?c/d');
});

// ---- Boxes over the original ----

const found = (rtp, more = {}) => ({ type: 'detections', rtp_timestamp: rtp, width: 1000, height: 500, detections: [{ bbox: [100, 100, 200, 200], class_id: 0, velocity: [300, -90] }], ...more });

test('a box stands where its track is at the time of the shown frame', () => {
  const timeline = new BoxTimeline();
  timeline.add(found(90_000), 0);
  const { boxes, ageMs } = timeline.at(90_000 + 9000, 100);
  assert.equal(ageMs, 100);
  assert.deepEqual(boxes[0].bbox, [130, 91, 230, 191]);
  assert.deepEqual(timeline.at(90_000, 0).boxes[0].bbox, [100, 100, 200, 200], 'on its own frame it is not moved');
});

test('the newest message that is not of a later frame counts, in whatever order they come', () => {
  const timeline = new BoxTimeline();
  for (const [rtp, x] of [[6000, 6], [3000, 3], [9000, 9]]) timeline.add(found(rtp, { detections: [{ bbox: [x, 0, x + 10, 10], class_id: 0 }] }), 0);
  const left = (rtp) => timeline.at(rtp, 0).boxes[0]?.bbox[0];
  assert.deepEqual([2999, 3000, 5999, 6000, 8000, 9000, 12_000].map(left), [undefined, 3, 3, 6, 6, 9, 9]);
});

test('boxes older than half a second are not shown', () => {
  const timeline = new BoxTimeline();
  timeline.add(found(0), 0);
  assert.equal(timeline.at(OLDEST_MS * 90, 0).boxes.length, 1);
  assert.deepEqual(timeline.at(OLDEST_MS * 90 + 1, 0), { boxes: [], ageMs: undefined, message: undefined });
  assert.equal(timeline.at(undefined, OLDEST_MS).boxes.length, 1, 'without timestamps by the time of its coming');
  assert.equal(timeline.at(undefined, OLDEST_MS + 1).boxes.length, 0);
  timeline.clear();
  assert.equal(timeline.at(0, 0).boxes.length, 0);
});

test('timestamps wrap, and the join goes on', () => {
  assert.equal(rtpSpan(0xffff_ff00, 0x0000_0104), (0x104 + 0x100) / 90);
  assert.ok(rtpSpan(100, 0xffff_ff00) < 0);
  const timeline = new BoxTimeline();
  timeline.add(found(0xffff_ffff - 4499), 0);
  assert.equal(timeline.at(4500, 0).ageMs, 100);
});

test('a moved box stays in the picture, and one that left it is gone', () => {
  assert.deepEqual(moved([10, 10, 50, 50], [-400, 0], 100, 640, 480), [0, 10, 10, 50]);
  assert.deepEqual(moved([10, 10, 50, 50], undefined, 100, 640, 480), [10, 10, 50, 50]);
  const timeline = new BoxTimeline();
  timeline.add(found(0, { detections: [{ bbox: [0, 0, 20, 20], class_id: 0, velocity: [-100, 0] }, { bbox: [1, 2, Number.NaN, 4], class_id: 0 }, { class_id: 1 }] }), 0);
  assert.equal(timeline.at(90 * 400, 0).boxes.length, 0);
});

test('broken messages are passed over, and memory is bounded', () => {
  const timeline = new BoxTimeline();
  timeline.add({ detections: [] }, 0);
  timeline.add({ rtp_timestamp: 5 }, 0);
  assert.equal(timeline.at(5, 0).message, undefined);
  for (let rtp = 0; rtp < 100_000; rtp += 100) timeline.add(found(rtp), 0);
  assert.equal(timeline.at(50_000, 0).boxes.length, 0, 'long forgotten');
  assert.equal(timeline.at(99_900, 0).boxes.length, 1);
});

test('what was drawn is named by what the messages said so far', () => {
  const join = new FrameJoin();
  join.message({ type: 'detections', frame_id: 7, rtp_timestamp: 1, detections: [{ class_id: 3, class_name: 'dog', confidence: 0.5 }] });
  assert.equal(join.objectsOf({ boxes: [{ class_id: 3 }], detection_frame_id: 99 })[0].class_name, 'dog');
  assert.equal(join.objectsOf({ boxes: [], detection_frame_id: 7 })[0].class_name, 'dog', 'with nothing drawn, what was found');
  assert.deepEqual(join.objectsOf({}), []);
  assert.equal(join.message({ type: 'detections', frame_id: 8 }), undefined);
});

// ---- Times ----

test('a frame is presented at the next refresh, and at no later frame’s time', () => {
  const at = (expectedDisplayTime) => presentationOf({ presentationTime: 1000, expectedDisplayTime });
  assert.deepEqual([1016, 1000, 990, undefined, 1050, 1498].map(at), [1016, 1000, 1000, 1000, 1050, 1000]);
});

// ---- WHEP ----

const reply = (status, body = '', headers = {}) => ({ status, ok: status < 300, text: async () => body, headers: new Headers(headers) });
const base = 'http://host.test/page';

test('an offer is posted as SDP, and the answer’s resource is found', async () => {
  let asked;
  const fetch = async (...request) => {
    asked = request;
    return reply(201, 'v=0\r\n', { location: '/whep/door/s1' });
  };
  const answer = await postOffer(whepAddress('door a', 'original'), 'v=0 offer', { fetch, base });
  assert.deepEqual(answer, { sdp: 'v=0\r\n', resource: 'http://host.test/whep/door/s1' });
  assert.equal(asked[0], '/whep/door%20a?video=original');
  assert.equal(asked[1].headers['content-type'], 'application/sdp');
  assert.equal(asked[1].body, 'v=0 offer');
  assert.equal(whepAddress('door'), '/whep/door');
  assert.equal(asked[1].headers.authorization, undefined);
  await postOffer('/whep/door', 'v=0', { fetch, base, token: 'abc' });
  assert.equal(asked[1].headers.authorization, 'Bearer abc');
});

test('a refusal says what it is, and whether to try again', async () => {
  const refuse = (status, message, headers) => postOffer('/whep/x', 'v=0', { base, fetch: async () => reply(status, JSON.stringify({ error: { message } }), headers) });
  const cases = [
    [404, 'no-stream', false],
    [401, 'unauthorized', false],
    [406, 'refused-by-server', false],
    [409, 'not-now', true],
    [503, 'full', true],
    [502, 'away', true],
  ];
  for (const [status, kind, retry] of cases) {
    await assert.rejects(refuse(status, 'words'), (problem) => problem.kind === kind && problem.retry === retry && (status === 401 || problem.detail === 'words'), `${status}`);
  }
  await assert.rejects(refuse(503, 'full', { 'retry-after': '7' }), ({ waitMs }) => waitMs === 7000);
  const unreachable = { base, fetch: () => Promise.reject(new TypeError('network')) };
  await assert.rejects(postOffer('/whep/x', 'v=0', unreachable), ({ kind, retry }) => kind === 'away' && retry);
  await assert.rejects(postOffer('/whep/x', 'v=0', { base, fetch: async () => reply(201, '<html>') }), ({ kind }) => kind === 'away');
  await assert.rejects(postOffer('/whep/x', 'v=0', { base, fetch: async () => reply(200, 'v=0') }), ({ retry }) => !retry, 'WHEP answers 201');
});

test('leaving deletes the resource, and a failure of it is nobody’s loss', async () => {
  const asked = [];
  const fetch = (...request) => {
    asked.push(request);
    return Promise.reject(new TypeError('network'));
  };
  deleteResource('http://host.test/whep/door/s1', { fetch });
  deleteResource(undefined, { fetch });
  await new Promise((done) => setImmediate(done));
  assert.deepEqual(asked, [['http://host.test/whep/door/s1', { method: 'DELETE', keepalive: true, headers: {} }]]);
});

// ---- Thumbnails ----

// A clock that a test turns, and loads that end when it says.
function bench(options) {
  const state = { now: 0, timers: [], loads: [] };
  const loader = new ThumbLoader(
    (key, signal) => new Promise((resolve, reject) => {
      state.loads.push({ key, signal, resolve, reject });
    }),
    {
      now: () => state.now,
      after: (action, ms) => {
        const timer = { action, at: state.now + ms };
        state.timers.push(timer);
        return timer;
      },
      cancel: (timer) => {
        state.timers = state.timers.filter((one) => one !== timer);
      },
      ...options,
    },
  );
  const settle = () => new Promise((done) => setImmediate(done));
  return {
    loader,
    keys: () => state.loads.map(({ key }) => key),
    signal: (index) => state.loads[index].signal,
    async end(key, error) {
      const load = state.loads.findLast((one) => one.key === key);
      if (error) load.reject(new Error('no picture'));
      else load.resolve();
      await settle();
    },
    async pass(ms) {
      state.now += ms;
      for (const timer of state.timers.filter(({ at }) => at <= state.now)) {
        state.timers = state.timers.filter((one) => one !== timer);
        timer.action();
      }
      await settle();
    },
  };
}

test('pictures are asked for in turn, a few at a time', async () => {
  const { loader, keys, end, pass } = bench({ atOnce: 2, everyMs: 2000 });
  for (const key of ['a', 'b', 'c', 'd']) loader.want(key, true);
  assert.deepEqual(keys(), ['a', 'b']);
  await end('b');
  assert.deepEqual(keys(), ['a', 'b', 'c']);
  await pass(1);
  await end('a');
  await end('c');
  await end('d');
  assert.equal(loader.running, 0);
  await pass(1998);
  assert.equal(keys().length, 4, 'not before its time');
  await pass(1);
  assert.deepEqual(keys().slice(4), ['b']);
  await end('b');
  await pass(1);
  assert.deepEqual(keys().slice(4), ['b', 'a', 'c'], 'the longest overdue first');
});

test('what failed waits longer, what does not change is had once, and what is not seen is given up', async () => {
  const { loader, keys, signal, end, pass } = bench({ atOnce: 4, everyMs: 1000, failedMs: 10_000 });
  loader.want('bad', true);
  loader.want('still', false);
  loader.want('gone', true);
  await end('bad', true);
  await end('still');
  loader.drop('gone');
  assert.equal(signal(2).aborted, true);
  assert.equal(loader.running, 0);
  await pass(5000);
  assert.deepEqual(keys(), ['bad', 'still', 'gone']);
  loader.want('still', true);
  assert.deepEqual(keys().slice(3), ['still'], 'it lives again');
  await end('still');
  await pass(5000);
  assert.equal(keys().filter((key) => key === 'bad').length, 2);
  loader.clear();
  await pass(60_000);
  assert.equal(loader.running, 0);
});

test('sixteen streams are asked for less often than one', async () => {
  const { loader, keys, end, pass } = bench({ atOnce: 16, everyMs: 2000 });
  const names = Array.from({ length: 16 }, (_, n) => `c${n}`);
  for (const name of names) loader.want(name, true);
  for (const name of names) await end(name);
  await pass(3999);
  assert.equal(keys().length, 16);
  await pass(1);
  assert.equal(keys().length, 32);
});

test('another kind of picture is asked for at once, and an answer to the old question counts for nothing', async () => {
  const { loader, keys, signal, end } = bench({ atOnce: 1 });
  loader.want('a', true);
  loader.refresh();
  assert.equal(signal(0).aborted, true);
  assert.deepEqual(keys(), ['a', 'a']);
  await end('a');
  assert.equal(loader.running, 0);
});

// ---- Cameras ----

test('an address comes apart and together', () => {
  assert.deepEqual(splitAddress('rtsp://admin:p%40ss@10.0.0.2:554/s?x=1@2'), { address: 'rtsp://10.0.0.2:554/s?x=1@2', user: 'admin', password: 'p@ss', hidden: false });
  assert.deepEqual(splitAddress('rtsp://admin:***@host/s'), { address: 'rtsp://host/s', user: 'admin', password: '', hidden: true });
  assert.deepEqual(splitAddress('rtsp://host/a@b'), { address: 'rtsp://host/a@b', user: '', password: '', hidden: false });
  assert.deepEqual(splitAddress('file:clip.mp4'), { address: 'file:clip.mp4', user: '', password: '', hidden: false });
  assert.equal(joinAddress({ address: 'rtsp://host/s', user: 'a:b', password: 'p@/ss%' }), 'rtsp://a%3Ab:p%40%2Fss%25@host/s');
  assert.equal(joinAddress({ address: ' file:clip.mp4 ', user: '', password: '' }), 'file:clip.mp4');
  for (const password of ['x', 'ä€', '***x', '%41', 'a b:c@d/e?f#g']) {
    assert.equal(splitAddress(joinAddress({ address: 'http://h:81/p', user: 'u', password })).password, password);
  }
});

const door = { name: 'door', url: 'rtsp://admin:***@host/s', transport: 'tcp', detect_url: null, mode: 'annotated', model: null, priority: 1, on_demand: false, enabled: true, persisted: true };

test('a new camera is sent as it was entered', () => {
  const { body } = requestOf({ ...formOf(), name: ' gate ', address: 'rtsp://u:p%40@host/s', mode: 'original' }, undefined);
  assert.deepEqual(body, { name: 'gate', url: 'rtsp://u:p%40@host/s', transport: 'tcp', mode: 'original', priority: 1, on_demand: false, persist: true });
  const forget = requestOf({ ...formOf(), name: 'gate', address: 'file:a.mp4', persist: false, detect_url: ' rtsp://h/sub ' }, undefined);
  assert.equal(forget.body.persist, undefined);
  assert.equal(forget.body.detect_url, 'rtsp://h/sub');
});

test('a change sends what was changed, and never a password that it does not know', () => {
  assert.deepEqual(requestOf(formOf(door), door).body, {}, 'nothing changed');
  assert.deepEqual(requestOf({ ...formOf(door), transport: 'udp' }, door).body, { transport: 'udp' });
  assert.deepEqual(requestOf({ ...formOf(door), password: 'new one' }, door).body, { url: 'rtsp://admin:new%20one@host/s' });
  assert.deepEqual(requestOf({ ...formOf(door), user: '' }, door).body.url, 'rtsp://host/s', 'without a user there is no password');
  for (const change of [{ address: 'rtsp://other/s' }, { user: 'root' }]) {
    assert.equal(requestOf({ ...formOf(door), ...change }, door).problem.field, 'password', JSON.stringify(change));
  }
  const sub = { ...door, detect_url: 'rtsp://admin:***@host/sub' };
  assert.deepEqual(requestOf(formOf(sub), sub).body, {}, 'a hidden part that was not touched stays');
  assert.equal(requestOf({ ...formOf(sub), detect_url: 'rtsp://admin:***@host/sub2' }, sub).problem.field, 'detect_url');
  assert.deepEqual(requestOf({ ...formOf(sub), detect_url: '' }, sub).body, { detect_url: null });
});

test('a zone is sent when its corners changed, and taken away by null', () => {
  const zone = [[0, 0], [0.5, 0.25], [0, 1]];
  assert.deepEqual(requestOf({ ...formOf(door), zone }, door).body, { zone });
  const zoned = { ...door, zone };
  assert.deepEqual(requestOf({ ...formOf(zoned), zone: structuredClone(zone) }, zoned).body, {});
  assert.deepEqual(requestOf({ ...formOf(zoned), zone: [] }, zoned).body, { zone: null });
  for (const few of [1, 2]) assert.equal(requestOf({ ...formOf(door), zone: zone.slice(0, few) }, door).problem.field, 'zone');
  assert.equal('zone' in requestOf({ ...formOf(), name: 'gate', address: 'rtsp://h/s' }, undefined).body, false);
});

test('corners that are set without a pointer make a zone, each where it is missed', () => {
  const corners = [];
  for (let n = 0; n < 6; n += 1) corners.splice(nextIndex(corners), 0, nextCorner(corners));
  assert.ok(corners.flat().every((share) => share >= 0 && share <= 1));
  assert.equal(new Set(corners.map(String)).size, 6);
  const area = corners.reduce((sum, [x, y], n) => sum + x * corners[(n + 1) % 6][1] - corners[(n + 1) % 6][0] * y, 0) / 2;
  assert.ok(Math.abs(area) > 0.03, `it encloses something: ${area}`);
  const square = [[0, 0], [1, 0], [1, 0.5], [0, 0.5]];
  assert.deepEqual([nextCorner(square), nextIndex(square)], [[0.5, 0], 1]);
});

test('what is said of a zone tells what is missing', () => {
  assert.match(describeZone([]), /whole picture/);
  assert.match(describeZone([[0, 0]]), /three/);
  assert.match(describeZone([[0, 0], [1, 0], [1, 1]]), /3 corners/);
});

test('whether a camera is kept is told only where it changes', () => {
  assert.deepEqual(requestOf({ ...formOf(door), persist: false }, door).body, { persist: false });
  const passing = { ...door, persisted: false };
  assert.deepEqual(requestOf(formOf(passing), passing).body, {});
  assert.deepEqual(requestOf({ ...formOf(passing), persist: true }, passing).body, { persist: true });
  assert.equal(formOf(undefined, false).persist, false, 'where nothing can be kept, nothing is asked for');
});

test('what is missing is said by its field', () => {
  const wrong = (change) => requestOf({ ...formOf(), name: 'a', address: 'rtsp://h/', ...change }, undefined).problem?.field;
  assert.equal(wrong({}), undefined);
  assert.equal(wrong({ name: ' ' }), 'name');
  assert.equal(wrong({ address: '' }), 'address');
  assert.equal(wrong({ password: 'x' }), 'user');
  assert.equal(wrong({ priority: '0' }), 'priority');
  assert.equal(wrong({ address: 'rtsp://h/?token=***' }), 'address');
});
