// Wires the page together: the parts know nothing of each other.

import * as api from './api.js';
import { Sparkline, StackedBar } from './charts.js';
import { DetectorControls } from './controls.js';
import { BoundedMap } from './join.js';
import { Measurement } from './measure.js';
import { DetectionList, SESSION_ROWS, StatsTable, element } from './panels.js';
import { Problem } from './problems.js';
import { RegionsPanel } from './regions-panel.js';
import { Session } from './session.js';
import { listSources, openSource } from './sources.js';
import { DETECTOR_STAGES, STAGES } from './stages.js';
import { Stage } from './stage.js';
import { StatsPoller } from './stats.js';
import { remembered, themeToggle } from './theme.js';
import { PercentileBars, Waterfall } from './waterfall.js';

const $ = (id) => document.getElementById(id);
const LOOK_MS = 1000;
const LIST_MS = 125;
const INFO_RETRY_MS = 5000;
const address = new URLSearchParams(location.search);
const webcam = $('view-webcam');
const calm = matchMedia('(prefers-reduced-motion: reduce)');

const stage = new Stage(document);
const controls = new DetectorControls(document);
const list = new DetectionList($('detections'), $('detections-count'), $('detections-empty'));
const table = new StatsTable($('stats'), SESSION_ROWS);
const spark = new Sparkline($('spark'));
const bar = new StackedBar($('bar'), $('legend'), STAGES);
const detectorBar = new StackedBar($('detector-bar'), $('detector-legend'), DETECTOR_STAGES);
const waterfall = new Waterfall($('waterfall'), STAGES, 'Stages of a frame from capture to screen, in milliseconds');
const percentiles = new PercentileBars($('percentiles'), [{ name: 'Glass to glass', colour: 'var(--accent)' }]);
const poller = new StatsPoller();
const measurement = new Measurement($('annotated'));
const session = new Session(encodedWorker());
// The page's own stream ends with its connection, and its regions with the stream.
const regions = new RegionsPanel(document, { stage: $('stage'), video: $('annotated'), bar: $('toolbar'), card: $('regions'), keeps: true });

let media;
let opening = 0;
const sentConfigs = new BoundedMap(32);
let objects = [];
let omitted = 0;
let listedAt = 0;
let looked = { at: performance.now(), presented: 0 };

function encodedWorker() {
  if (!globalThis.RTCRtpScriptTransform || address.get('transform') === 'off') return undefined;
  const worker = new Worker('/js/encoded-worker.js');
  worker.addEventListener('error', () => {
    // Without the worker no frame would leave: go on without it, at the price of the exact capture times.
    session.worker = undefined;
    if (media) session.start({ ...media, name: session.name });
  });
  return worker;
}

// ---- Source, start and stop ----

const wish = () => {
  const [width, height] = $('size').value.split('x').map(Number);
  return { width, height, fps: Number($('fps').value) };
};

async function fillSources() {
  const select = $('source');
  const chosen = select.value || address.get('source') || remembered.get('sightline.source');
  const sources = await listSources();
  select.replaceChildren(...sources.map(({ id, label }) => new Option(label, id)));
  const kept = sources.find(({ id }) => id === chosen) ?? sources.find(({ id }) => chosen === 'camera:' && id.startsWith('camera:'));
  if (kept) select.value = kept.id;
}

function showRunning(running) {
  const button = $('start');
  button.dataset.running = running;
  button.querySelector('span').textContent = running ? 'Stop' : 'Start';
  button.querySelector('use').setAttribute('href', running ? '#i-stop' : '#i-play');
}

async function start() {
  const turn = ++opening;
  showRunning(true);
  stage.show('opening');
  try {
    const opened = await openSource($('source').value, wish());
    if (turn !== opening) {
      opened.stop();
      return;
    }
    use(opened);
    session.start({ ...opened, name: session.name ?? address.get('stream') ?? undefined });
    fillSources();
  } catch (problem) {
    if (turn === opening) fail(problem);
  }
}

// Another source, size or pace in the middle of a session: the connection stays.
async function change() {
  if (!media) return;
  const turn = ++opening;
  const size = wish();
  if (media.pattern && $('source').value === 'pattern') {
    media.pattern.resize(size);
    Object.assign(media, size);
    await session.replace(media);
    return;
  }
  const old = media;
  try {
    // Some cameras serve one size at a time, and all of them one user: the old one goes first.
    old.stop();
    const opened = await openSource($('source').value, size);
    if (turn !== opening) {
      opened.stop();
      return;
    }
    use(opened);
    await session.replace(opened);
  } catch (problem) {
    if (turn === opening) fail(problem);
  }
}

function use(opened) {
  media = opened;
  measurement.watch(opened);
  stage.selfview.srcObject = opened.stream;
  opened.stream.getVideoTracks()[0].addEventListener('ended', () => {
    if (media === opened) fail(new Problem('source-ended'));
  });
}

function release() {
  opening += 1;
  media?.stop();
  media = undefined;
  measurement.watch(undefined);
  stage.selfview.srcObject = null;
  showRunning(false);
  list.clear('Nothing yet.');
  objects = [];
  controls.offline();
  sentConfigs.clear();
}

function stop() {
  release();
  session.stop();
}

function fail(problem) {
  stop();
  stage.show('failed', { problem });
}

$('toolbar').addEventListener('submit', (event) => {
  event.preventDefault();
  if ($('start').dataset.running === 'true') stop();
  else start();
});
stage.veilAction.addEventListener('click', () => (session.state === 'waiting' ? session.retryNow() : start()));
stage.bannerAction.addEventListener('click', () => session.retryNow());
$('source').addEventListener('change', () => {
  remembered.set('sightline.source', $('source').value);
  change();
});
for (const id of ['size', 'fps']) {
  $(id).addEventListener('change', () => {
    remembered.set(`sightline.${id}`, $(id).value);
    change();
  });
}
$('selfview-toggle').addEventListener('click', () => {
  stage.selfview.hidden = !stage.selfview.hidden;
  $('selfview-toggle').setAttribute('aria-pressed', String(!stage.selfview.hidden));
});
$('fullscreen').addEventListener('click', () => {
  if (document.fullscreenElement) document.exitFullscreen();
  else $('stage').requestFullscreen?.().catch(() => {});
});
$('fullscreen').hidden = !document.fullscreenEnabled;
navigator.mediaDevices?.addEventListener?.('devicechange', fillSources);
addEventListener('online', () => session.retryNow());
addEventListener('pagehide', () => {
  session.leave();
  release();
});

// ---- The session ----

session.addEventListener('state', ({ detail }) => {
  if (detail.state === 'connecting') measurement.begin();
  if (detail.state === 'failed') release();
  if (detail.state !== 'live') list.clear(detail.state === 'idle' || detail.state === 'failed' ? 'Nothing yet.' : 'Waiting for the server.');
  if (detail.state === 'live') {
    list.clear('Nothing found in this frame.');
    refreshInfo();
    regions.open(session.name);
  } else if (detail.state !== 'opening') {
    regions.close();
  }
  stage.show(detail.state, detail);
  $('stream-name').textContent = session.name && detail.state === 'live' ? `Stream ${session.name}` : '';
});
session.addEventListener('losing', () => stage.freeze());
session.addEventListener('video', ({ detail }) => {
  stage.video.srcObject = detail.stream;
  stage.video.play().catch(() => {});
});
session.addEventListener('channel', ({ detail }) => {
  if (!detail.open) {
    controls.offline();
    return;
  }
  configure(controls.config);
});
session.addEventListener('encoded', ({ detail }) => measurement.encoded(detail.frames));
session.addEventListener('rtt', ({ detail }) => measurement.pinged(detail));
session.addEventListener('message', ({ detail: { message } }) => {
  if (message.type === 'config_ack') controls.acknowledged(message.config);
  else if (message.type === 'error') controls.refused(message.message, sentConfigs.get(message.id));
  else {
    measurement.message(message);
    regions.message(message);
  }
});
controls.addEventListener('change', ({ detail }) => configure(detail.config));

function configure(config) {
  if (Object.keys(config).length === 0) return;
  const id = session.send({ type: 'config', ...config });
  if (id !== undefined) sentConfigs.set(id, config);
}

measurement.addEventListener('frame', ({ detail: { message, latency, at } }) => {
  session.frameSeen(performance.now());
  if (session.state === 'live') stage.pictureShown();
  spark.push(at, latency);
  if (message) {
    objects = measurement.join.objectsOf(message);
    omitted = message.omitted ?? 0;
  }
  if (at - listedAt < LIST_MS) return;
  listedAt = at;
  if (session.state === 'live') list.show(objects, omitted);
});

// ---- Figures, once a second ----

const METHODS = {
  encoder: 'From each frame’s capture to its annotated presentation, joined by RTP timestamp; ± 1 ms.',
  reports: 'From each frame’s capture by RTCP sender reports to its presentation; ± 5 ms.',
  stamp: 'From the stamp in the pixels to its annotated presentation; ± 1 ms.',
};

function showFigure(place, value) {
  place.textContent = value === undefined ? '–' : value.toFixed(1);
  place.dataset.empty = value === undefined;
}

async function look() {
  const now = performance.now();
  const stats = session.state === 'live' ? await poller.poll(session.peer).catch(() => undefined) : undefined;
  if (session.state !== 'live') looked = { at: now, presented: measurement.presented };
  const { meter } = measurement;
  if (stats) measurement.stats = stats;
  session.tell(measurement.report);
  const { p50, p95, method } = meter.summary();
  const live = session.state === 'live';
  showFigure($('p50'), live ? p50 : undefined);
  showFigure($('p95'), live ? p95 : undefined);
  $('method').textContent = live && method ? METHODS[method] : live ? 'Finding the capture times.' : 'Measured once the video runs.';
  const seconds = (now - looked.at) / 1000;
  const shownFps = seconds > 0.5 ? (measurement.presented - looked.presented) / seconds : undefined;
  looked = { at: now, presented: measurement.presented };
  stage.hudLatency.textContent = p50 === undefined ? 'measuring' : `${Math.round(p50)} ms`;
  stage.hudFps.textContent = shownFps === undefined ? '– fps' : `${shownFps.toFixed(0)} fps`;
  const [rtt] = measurement.rtt.quantiles(0.5);
  const rttMs = rtt ?? stats?.rttMs;
  for (const samples of [meter.recent, meter.encoding, meter.afterReceive, measurement.model, measurement.age]) samples.prune(now);
  const means = measurement.stages.video(now, {
    total: meter.recent.mean(),
    encoding: meter.encoding.mean(),
    afterReceive: meter.afterReceive.mean(),
    rttMs,
    stats,
  });
  measurement.ledger.prune(now);
  const ledger = live ? measurement.ledger.summary() : undefined;
  showLedger(ledger, means.parts, live);
  const video = ledger ? { parts: ledger.parts.map(({ key, mean }) => ({ key, ms: mean })), total: ledger.whole.mean } : means;
  bar.show(video.parts);
  $('ledger-total').textContent = video.total === undefined ? '' : `${video.total.toFixed(1)} ms, mean of ${ledger ? 10 : 2} s`;
  const detector = measurement.stages.detector(now);
  detectorBar.show(detector.parts);
  $('detector-total').textContent = detector.total === undefined ? '' : `${detector.total.toFixed(1)} ms`;
  table.show({
    ...stats,
    fpsDown: stats?.fpsDown ?? (live ? shownFps : undefined),
    rtt: live ? rttMs : undefined,
    widthBack: live ? stage.video.videoWidth : 0,
    heightBack: stage.video.videoHeight,
    modelMs: measurement.model.mean(),
    detectorFps: live ? measurement.model.size / 2 : undefined,
    ageMs: measurement.age.mean(),
    joined: live ? measurement.join.share() : undefined,
  });
}

// Where a frame's own doors are not all told, the means of the single stages stand in the table.
function showLedger(ledger, means, live) {
  waterfall.show(ledger ? ledger.parts : means.map(({ key, ms }) => ({ key, mean: ms })));
  const [p50, p95, p99] = live ? measurement.meter.summary().samples.quantiles(0.5, 0.95, 0.99) : [];
  percentiles.show([ledger?.whole ?? { p50, p95, p99 }]);
  $('stages-window').textContent = ledger ? `${ledger.frames} frames of the last 10 s` : live ? 'means of the last 2 s' : '';
  const { rtt, driftPpm } = measurement.clock;
  $('clock').textContent = live && rtt !== undefined ? `${(rtt / 2).toFixed(2)} ms, drift ${driftPpm.toFixed(0)} ppm` : '–';
  const check = ledger?.check;
  $('check-row').hidden = check === undefined;
  if (check) $('check').textContent = `p50 ${check.p50.toFixed(2)}, p95 ${check.p95.toFixed(2)} ms apart`;
}

setInterval(() => look().catch((error) => console.error(error)), LOOK_MS);
setInterval(() => {
  if (!document.hidden && !webcam.hidden) spark.draw(performance.now());
}, calm.matches ? 1000 : 200);

// ---- What the server says about itself ----

const dismissed = new Set();
let infoTimer;

function notice(text) {
  const box = element('div', 'notice');
  const icon = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  const use = document.createElementNS('http://www.w3.org/2000/svg', 'use');
  icon.setAttribute('aria-hidden', 'true');
  use.setAttribute('href', '#i-alert');
  icon.append(use);
  const close = element('button', 'icon-button');
  close.type = 'button';
  close.setAttribute('aria-label', 'Dismiss');
  const cross = icon.cloneNode(true);
  cross.firstChild.setAttribute('href', '#i-close');
  close.append(cross);
  close.addEventListener('click', () => {
    dismissed.add(text);
    box.remove();
  });
  box.append(icon, element('p', '', text), close);
  return box;
}

async function refreshInfo() {
  clearTimeout(infoTimer);
  try {
    const info = await api.info();
    const { model, palette, warnings = [] } = info;
    list.palette = regions.palette = Array.isArray(palette) ? palette : [];
    list.labels = model?.labels ?? [];
    controls.describe({ labels: list.labels, confidence: info.default_confidence, iou: info.default_iou });
    $('model').textContent = model?.name ? [model.name, model.family].filter(Boolean).join(' · ') : '';
    $('model').hidden = !model?.name;
    $('version').textContent = `Sightline ${info.version ?? ''}`;
    $('notices').replaceChildren(...warnings.filter((text) => !dismissed.has(text)).map(notice));
  } catch (problem) {
    // The server may be on its way up. A running session says so itself, over the video.
    if (session.state === 'idle' && !media) awayNotice(problem);
    infoTimer = setTimeout(refreshInfo, INFO_RETRY_MS);
  }
}

function awayNotice(problem) {
  const text = problem instanceof Problem && problem.kind === 'foreign' ? 'The server does not accept the address of this page.' : 'The server does not answer. This page tries again every few seconds.';
  $('notices').replaceChildren(notice(text));
}

// The session goes on while another view is looked at; the link to this view says so.
document.addEventListener('view', ({ detail }) => {
  session.unseen = detail.view !== 'webcam';
});
session.addEventListener('state', ({ detail }) => {
  const dot = { live: 'live', failed: 'bad', idle: 'idle' }[detail.state] ?? 'busy';
  $('nav-webcam').dataset.tone = media ? dot : 'idle';
});

// ---- Begin ----

themeToggle($('theme'), () => spark.draw(performance.now()));
for (const id of ['size', 'fps']) {
  const wanted = address.get(id) ?? remembered.get(`sightline.${id}`);
  if (wanted && [...$(id).options].some(({ value }) => value === wanted)) $(id).value = wanted;
}
if (address.has('overlay')) controls.setOverlay(address.get('overlay'));
bar.show([]);
spark.draw(performance.now());
stage.show('idle');
refreshInfo();
fillSources().then(() => {
  if (!globalThis.RTCPeerConnection) stage.show('failed', { problem: new Problem('no-webrtc') });
  else if (!navigator.mediaDevices && $('source').value !== 'pattern') stage.show('failed', { problem: new Problem(globalThis.isSecureContext ? 'no-webrtc' : 'insecure') });
  if (address.has('autostart')) start();
});

// For scripts and the curious: see docs/latency-method.md.
globalThis.sightline = { session, measurement, controls, regions, start, stop };
