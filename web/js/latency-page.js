// The latency page: one picture goes through the server and, beside it, straight through the browser; both are measured.

import * as api from './api.js';
import { Sparkline } from './charts.js';
import { SampleWindow } from './latency.js';
import { Loopback } from './loopback.js';
import { Measurement } from './measure.js';
import { TestPattern } from './pattern.js';
import { Problem, describe } from './problems.js';
import { fromHash, legOf, partsOf, toHash } from './result.js';
import { Session } from './session.js';
import { LOOPBACK_STAGES, STAGES } from './stages.js';
import { StatsPoller } from './stats.js';
import { themeToggle } from './theme.js';
import { PercentileBars, Waterfall } from './waterfall.js';

const $ = (id) => document.getElementById(id);
const LOOK_MS = 500;
const REPORT_MS = 1000;
const WINDOW_S = 30;
/** So many frames are worth being shown to somebody else. */
const WORTH_COPYING = 100;
const address = new URLSearchParams(location.search);
const calm = matchMedia('(prefers-reduced-motion: reduce)');

/** One way of the picture: its video, and what is measured of it. */
class Leg {
  #lastAt = 0;

  constructor(name, line, options) {
    this.name = name;
    this.line = line;
    this.video = $(name);
    this.measurement = new Measurement(this.video, options);
    this.measurement.ledger.spanMs = 1000 * WINDOW_S;
    this.latency = new SampleWindow(1000 * WINDOW_S);
    this.poller = new StatsPoller();
    this.measurement.addEventListener('frame', ({ detail: { latency, at } }) => {
      session.frameSeen(performance.now());
      // A frame is told a second time when its message comes late.
      if (at <= this.#lastAt) return;
      this.#lastAt = at;
      this.latency.push(at, latency);
      spark.push(at, latency, line);
    });
  }

  show(stream) {
    this.video.srcObject = stream;
    this.video.play().catch(() => {});
  }

  begin() {
    this.measurement.begin();
    this.latency.clear();
  }

  async poll(peer) {
    const stats = await this.poller.poll(peer).catch(() => undefined);
    if (stats) this.measurement.stats = stats;
  }

  /** What was measured so far, as a result tells it. */
  result(now, stages) {
    this.latency.prune(now);
    this.measurement.ledger.prune(now);
    const [p50, p95, p99] = this.latency.quantiles(0.5, 0.95, 0.99);
    if (p50 === undefined) return null;
    const parts = this.measurement.ledger.summary(stages)?.parts;
    return legOf({ frames: this.latency.size, whole: { p50, p95, p99 }, parts });
  }
}

const spark = new Sparkline($('spark'), 2);
const session = new Session(encodedWorker());
const loopback = new Loopback(encodedWorker());
const through = new Leg('through', 0);
const direct = new Leg('direct', 1, { direct: true });
const percentiles = new PercentileBars($('percentiles'), [
  { name: 'Through Sightline', colour: 'var(--leg-through)' },
  { name: 'The browser alone', colour: 'var(--leg-direct)' },
]);
const throughFall = new Waterfall($('through-fall'), STAGES, 'Stages of a frame through the server, in milliseconds');
const directFall = new Waterfall($('direct-fall'), LOOPBACK_STAGES, 'Stages of a frame through the browser alone, in milliseconds');

let media;
/** What is shown, and can be copied. */
let shown;
let server = { version: '', model: '' };

function encodedWorker() {
  if (!globalThis.RTCRtpScriptTransform || address.get('transform') === 'off') return undefined;
  const worker = new Worker('/js/encoded-worker.js');
  worker.addEventListener('error', () => {
    // Without the workers no frame would leave: go on without them, at the price of the stages.
    session.worker = undefined;
    loopback.worker = undefined;
    if (media) restart();
  });
  return worker;
}

// ---- Start and stop ----

const wish = () => {
  const [width, height] = $('size').value.split('x').map(Number);
  return { width, height, fps: Number($('fps').value) };
};

function showRunning(running) {
  const button = $('start');
  button.dataset.running = running;
  button.querySelector('span').textContent = running ? 'Stop' : 'Start';
  button.querySelector('use').setAttribute('href', running ? '#i-stop' : '#i-play');
}

function start() {
  stop();
  history.replaceState(null, '', location.pathname + location.search);
  $('shared').hidden = true;
  say();
  if (!globalThis.RTCPeerConnection) {
    say(new Problem('no-webrtc'));
    return;
  }
  const pattern = new TestPattern(wish());
  media = { stream: pattern.stream, pattern, ...wish() };
  $('source').replaceChildren(pattern.canvas);
  showRunning(true);
  spark.clear();
  restart();
}

function restart() {
  for (const leg of [through, direct]) {
    leg.measurement.watch(media);
    leg.begin();
  }
  session.start({ ...media, name: address.get('stream') ?? undefined });
  loopback.start(media);
}

function stop() {
  session.stop();
  loopback.stop();
  for (const leg of [through, direct]) {
    leg.measurement.watch(undefined);
    leg.video.srcObject = null;
  }
  media?.pattern.stop();
  media = undefined;
  showRunning(false);
}

function say(problem) {
  $('problem').hidden = problem === undefined;
  if (!problem) return;
  const { title, text } = describe(problem);
  $('problem').textContent = `${title}. ${text}`;
}

$('bar').addEventListener('submit', (event) => {
  event.preventDefault();
  if (media) stop();
  else start();
});
for (const id of ['size', 'fps']) $(id).addEventListener('change', () => media && start());
addEventListener('pagehide', () => {
  session.leave();
  stop();
});
addEventListener('online', () => session.retryNow());

const WORDS = { idle: ['Ready', 'idle'], connecting: ['Connecting', 'busy'], live: ['Live', 'live'], waiting: ['Trying again', 'busy'], failed: ['Stopped', 'bad'] };

session.addEventListener('state', ({ detail: { state, problem } }) => {
  const [word, tone] = WORDS[state];
  $('status-text').textContent = word;
  $('status').dataset.tone = tone;
  if (problem || state === 'live') say(problem);
  if (problem || state === 'live') $('live').textContent = problem ? $('problem').textContent : 'Measuring';
  if (state === 'connecting') through.begin();
  if (state === 'failed') stop();
  $('stream-name').textContent = state === 'live' ? `Stream ${session.name}` : '';
  if (state === 'live') refreshInfo();
});
session.addEventListener('video', ({ detail }) => through.show(detail.stream));
session.addEventListener('encoded', ({ detail }) => through.measurement.encoded(detail.frames));
session.addEventListener('rtt', ({ detail }) => through.measurement.pinged(detail));
session.addEventListener('message', ({ detail: { message } }) => through.measurement.message(message));
loopback.addEventListener('video', ({ detail }) => direct.show(detail.stream));
loopback.addEventListener('encoded', ({ detail }) => direct.measurement.encoded(detail.frames));
loopback.addEventListener('failed', ({ detail }) => say(detail.problem));

// ---- What is measured ----

async function look() {
  if (!media || session.state !== 'live') return;
  await Promise.all([through.poll(session.peer), direct.poll(loopback.peer)]);
  if (!media) return;
  const now = performance.now();
  const { clock, ledger } = through.measurement;
  const { width, height, fps } = media;
  const measured = ledger.summary();
  const check = measured?.check;
  render({
    v: 1,
    at: new Date().toISOString(),
    server: server.version,
    model: server.model,
    browser: browserName(),
    size: `${width}x${height}`,
    fps,
    seconds: WINDOW_S,
    through: through.result(now, STAGES),
    loopback: direct.result(now, LOOPBACK_STAGES),
    check: check ? { frames: check.frames, p50: round(check.p50), p95: round(check.p95) } : null,
    clock: clock.rtt === undefined ? null : { rtt_ms: round(clock.rtt), drift_ppm: round(clock.driftPpm) },
  });
}

const round = (value) => Math.round(value * 100) / 100;

function browserName() {
  const { brands = [], platform = '' } = navigator.userAgentData ?? {};
  const brand = brands.find(({ brand: name }) => !/not/i.test(name));
  if (brand) return `${brand.brand} ${brand.version}${platform ? `, ${platform}` : ''}`.slice(0, 100);
  const known = /(Firefox|Version)\/[\d.]+/.exec(navigator.userAgent)?.[0];
  return (known ?? navigator.userAgent).replace('Version/', 'Safari ').replace('/', ' ').slice(0, 100);
}

const total = (leg) => Object.values(leg?.stages ?? {}).reduce((sum, [mean]) => sum + Math.abs(mean), 0);

function figure(place, value) {
  place.textContent = Number.isFinite(value) ? value.toFixed(1) : '–';
  place.dataset.empty = !Number.isFinite(value);
}

function render(result) {
  shown = result;
  figure($('through-p50'), result.through?.p50);
  figure($('direct-p50'), result.loopback?.p50);
  percentiles.show([result.through, result.loopback].map((leg) => leg ?? undefined));
  // One scale for both: what is longer is longer.
  const scale = Math.max(total(result.through), total(result.loopback)) || undefined;
  throughFall.show(partsOf(result.through), scale);
  directFall.show(partsOf(result.loopback), scale);
  for (const [place, leg] of [['through-total', result.through], ['direct-total', result.loopback]]) {
    const all = total(leg);
    $(place).textContent = all > 0 ? `${all.toFixed(1)} ms on average` : '';
  }
  const frames = result.through?.frames ?? 0;
  $('window').textContent = frames > 0 ? `${frames} frames of the last ${result.seconds} s` : '';
  const { check, clock } = result;
  $('check').textContent = check ? `p50 ${check.p50.toFixed(2)}, p95 ${check.p95.toFixed(2)} ms apart, ${check.frames ?? 0} frames` : '–';
  $('clock').textContent = clock ? `${(clock.rtt_ms / 2).toFixed(2)} ms, drift ${clock.drift_ppm.toFixed(0)} ppm` : '–';
  for (const id of ['copy-link', 'copy-json']) $(id).disabled = frames < WORTH_COPYING;
}

// ---- A result to take along ----

async function copy(text, what) {
  const area = $('copy-text');
  try {
    await navigator.clipboard.writeText(text);
    area.hidden = true;
    $('copied').textContent = `${what} copied.`;
  } catch {
    // Not allowed here: for the hand.
    area.value = text;
    area.hidden = false;
    area.focus();
    area.select();
    $('copied').textContent = 'Copy it from below.';
  }
}

$('copy-link').addEventListener('click', () => copy(`${location.origin}${location.pathname}${toHash(shown)}`, 'Link'));
$('copy-json').addEventListener('click', () => copy(JSON.stringify(shown, null, 2), 'JSON'));

function showShared() {
  const result = fromHash(location.hash);
  if (!result) {
    if (location.hash.startsWith('#r=')) say(new Problem('unexpected', { detail: 'This link holds no whole result.' }));
    return;
  }
  stop();
  say();
  const when = new Date(result.at).toLocaleString();
  const what = [`${result.size.replace('x', ' × ')} at ${result.fps} fps`, result.browser, result.server, result.model && `model ${result.model}`];
  $('shared').textContent = `A result that was sent to you, of ${when}: ${what.filter(Boolean).join(' · ')}. Press Start to measure here.`;
  $('shared').hidden = false;
  spark.clear();
  render(result);
}
addEventListener('hashchange', showShared);

// ---- What the server says about itself ----

async function refreshInfo() {
  try {
    const { version, model } = await api.info();
    server = { version: `Sightline ${version ?? ''}`.trim(), model: model?.name ?? '' };
    $('model').textContent = [model?.name, model?.family].filter(Boolean).join(' · ');
    $('model').hidden = !model?.name;
    $('version').textContent = server.version;
  } catch (problem) {
    if (!media) say(problem instanceof Problem ? problem : new Problem('unexpected', { detail: problem?.message }));
  }
}

// ---- Begin ----

themeToggle($('theme'), () => spark.draw(performance.now()));
for (const id of ['size', 'fps']) {
  const wanted = address.get(id);
  if (wanted && [...$(id).options].some(({ value }) => value === wanted)) $(id).value = wanted;
}
setInterval(() => session.tell(through.measurement.report), REPORT_MS);
setInterval(() => look().catch((error) => console.error(error)), LOOK_MS);
setInterval(() => {
  if (!document.hidden) spark.draw(performance.now());
}, calm.matches ? 1000 : 200);
percentiles.show([]);
spark.draw(performance.now());
refreshInfo();
showShared();
if (address.has('autostart')) start();

// For scripts and the curious: see docs/latency-method.md.
globalThis.sightline = { session, loopback, through, direct, start, stop, result: () => shown };
