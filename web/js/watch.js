// The full view of one stream: its video by WHEP, what is on it, and the figures.

import { BoxLayer } from './boxes.js';
import { Sparkline, StackedBar } from './charts.js';
import { DetectionList, StatsTable, VIEWER_ROWS, element } from './panels.js';
import { RegionsPanel } from './regions-panel.js';
import { Stage } from './stage.js';
import { DETECTOR_STAGES, VIEWER_STAGES } from './stages.js';
import { describeState, kindOf, sinceLastFrame, span } from './states.js';
import { StatsPoller } from './stats.js';
import { Viewing } from './viewing.js';
import { CameraTools } from './wall.js';
import { PercentileBars, Waterfall } from './waterfall.js';
import { Viewer } from './whep.js';

const LIST_MS = 125;
const METHOD = 'From a frame’s first packet in at the server to its presentation here: the server’s times, half the round trip, this browser’s. The camera’s own time is not in it.';

/** The full view. Needs `palette` from the server's info for the colours. */
export class Watch {
  #listedAt = 0;
  #looked = { at: 0, presented: 0 };
  #stream;
  #audio;
  #sources = new Map();

  /** @param {Document} root @param {{actions: object, videoChanged: (video: string) => void}} options */
  constructor(root, { actions, videoChanged }) {
    const get = (id) => root.getElementById(`watch-${id}`);
    this.get = get;
    this.stage = new Stage(root, { prefix: 'watch-', welcome: { title: '', text: '' } });
    this.layer = new BoxLayer(get('boxes'), this.stage.video);
    this.regions = new RegionsPanel(root, { stage: get('stage'), video: this.stage.video, bar: get('toolbar'), card: get('regions') });
    this.viewing = new Viewing(this.stage.video, this.layer);
    this.viewer = new Viewer();
    this.list = new DetectionList(get('detections'), get('detections-count'), get('detections-empty'));
    this.table = new StatsTable(get('stats'), VIEWER_ROWS);
    this.spark = new Sparkline(get('spark'));
    this.bar = new StackedBar(get('bar'), get('legend'), VIEWER_STAGES);
    this.detectorBar = new StackedBar(get('detector-bar'), get('detector-legend'), DETECTOR_STAGES);
    this.waterfall = new Waterfall(get('waterfall'), VIEWER_STAGES, 'Stages of a frame from the server to the screen, in milliseconds');
    this.percentiles = new PercentileBars(get('percentiles'), [{ name: 'Server to glass', colour: 'var(--accent)' }]);
    this.poller = new StatsPoller();
    this.tools = new CameraTools(get('tools'), actions);
    this.choices = [...root.querySelectorAll('input[name="watch-video"]')];
    for (const choice of this.choices) choice.addEventListener('change', () => videoChanged(choice.value));
    get('boxes-on').addEventListener('change', () => {
      this.viewing.drawing = get('boxes-on').checked;
      if (!this.viewing.drawing) this.layer.clear();
    });
    this.#wire();
    this.spark.draw(performance.now());
  }

  #wire() {
    const { viewer, viewing, stage, get } = this;
    viewer.addEventListener('state', ({ detail }) => {
      if (detail.state === 'connecting') viewing.begin();
      if (detail.state !== 'live') this.list.clear(detail.state === 'failed' || detail.state === 'idle' ? 'Nothing yet.' : 'Waiting for the server.');
      if (detail.state === 'live') {
        this.list.clear('Nothing found in this frame.');
        this.regions.open(this.name);
      }
      if (detail.state === 'idle' || detail.state === 'failed') this.regions.close();
      if (detail.state !== 'live') this.#silence();
      stage.show(detail.state, detail);
      get('token').hidden = detail.problem?.kind !== 'unauthorized';
      if (!get('token').hidden) stage.veilAction.hidden = true;
      this.#showState();
    });
    get('token').addEventListener('submit', (event) => {
      event.preventDefault();
      viewer.token = event.target.elements.token.value.trim();
      event.target.reset();
      viewer.start(this.name, this.video);
    });
    viewer.addEventListener('losing', () => stage.freeze());
    viewer.addEventListener('video', ({ detail }) => {
      stage.video.srcObject = detail.stream;
      stage.video.play().catch(() => {});
    });
    viewer.addEventListener('audio', ({ detail }) => {
      this.#audio = detail.stream;
      get('sound').hidden = false;
      if (get('sound').getAttribute('aria-pressed') === 'true') this.#sound(true);
    });
    viewer.addEventListener('rtt', ({ detail }) => viewing.pinged(detail));
    viewer.addEventListener('message', ({ detail: { message } }) => {
      viewing.message(message);
      this.regions.message(message);
    });
    viewing.addEventListener('frame', ({ detail: { objects, latency, at } }) => {
      if (viewer.state === 'idle') return;
      viewer.frameSeen(performance.now());
      if (viewer.state === 'live') {
        stage.pictureShown();
        if (stage.statusText.textContent !== this.#said) this.#showState();
      }
      this.spark.push(at, latency);
      if (objects) this.objects = objects;
      if (at - this.#listedAt < LIST_MS || viewer.state !== 'live') return;
      this.#listedAt = at;
      this.list.show(this.objects ?? []);
    });
    stage.veilAction.addEventListener('click', () => (viewer.state === 'waiting' ? viewer.retryNow() : viewer.start(this.name, this.video)));
    stage.bannerAction.addEventListener('click', () => viewer.retryNow());
    get('sound').addEventListener('click', () => this.#sound(get('sound').getAttribute('aria-pressed') !== 'true'));
    get('full').addEventListener('click', () => {
      if (document.fullscreenElement) document.exitFullscreen();
      else get('stage').requestFullscreen?.().catch(() => {});
    });
    get('full').hidden = !document.fullscreenEnabled;
    addEventListener('online', () => viewer.retryNow());
  }

  /** Watches a stream; `video` is annotated or original. */
  open(name, video) {
    if (name === this.name && video === this.video && this.viewer.state !== 'idle') return;
    const other = name !== this.name;
    if (other) this.close();
    else this.stage.freeze();
    this.name = name;
    this.video = video;
    this.objects = undefined;
    this.get('name').textContent = name;
    for (const choice of this.choices) choice.checked = choice.value === video;
    const original = video === 'original';
    this.viewing.original = original;
    this.layer.canvas.hidden = !original;
    this.get('boxes-label').hidden = !original;
    this.spark.clear();
    this.viewer.start(name, video);
  }

  /** Leaves the stream. */
  close() {
    this.viewer.stop();
    this.#silence();
    this.spark.clear();
    this.name = undefined;
    this.video = undefined;
    this.#stream = undefined;
    this.get('source').replaceChildren();
    this.#sources.clear();
    this.get('detail').textContent = '';
  }

  #silence() {
    this.get('sound').hidden = true;
    this.get('audio').srcObject = null;
    this.#audio = undefined;
  }

  #sound(on) {
    const audio = this.get('audio');
    const button = this.get('sound');
    button.setAttribute('aria-pressed', String(on));
    button.querySelector('use').setAttribute('href', on ? '#i-sound' : '#i-mute');
    button.title = on ? 'Mute' : 'Sound';
    audio.muted = !on;
    // A muted stream is not even played: it would cost a decoder.
    audio.srcObject = on ? (this.#audio ?? null) : null;
    if (on && this.#audio) audio.play().catch(() => {});
  }

  /** What the server says of the stream, `ageMs` ago; undefined when it knows of none of this name. */
  tell(stream, ageMs) {
    this.#stream = stream && { stream, ageMs };
    this.#showState();
    if (stream) this.tools.show(stream);
    this.get('tools').hidden = stream?.kind !== 'camera';
    if (stream) this.#showSource(stream, ageMs);
  }

  #said;

  // The connection's state until there is one, the stream's from then on.
  #showState() {
    const { stage } = this;
    const known = this.#stream;
    const state = known && describeState(known.stream, known.ageMs);
    if (this.viewer.state === 'live' && state) {
      stage.statusText.textContent = state.word;
      stage.status.dataset.tone = state.tone;
    }
    this.#said = stage.statusText.textContent;
    const detail = state?.detail ?? '';
    if (this.get('detail').textContent !== detail) this.get('detail').textContent = detail;
  }

  #showSource(stream, ageMs) {
    const { camera, video, clock } = stream;
    const size = stream.width ? `${stream.width} × ${stream.height}` : undefined;
    const rows = [
      ['Kind', kindOf(stream)],
      ['Codec', [video?.codec, video?.profile].filter(Boolean).join(' ') || undefined],
      ['Size', size],
      ['Frames', Number.isFinite(stream.input_fps) ? `${stream.input_fps.toFixed(1)} fps` : undefined],
      ['Detections', Number.isFinite(stream.detection_fps) ? `${stream.detection_fps.toFixed(1)} /s` : undefined],
      ['Viewers', stream.viewers === undefined ? undefined : String(stream.viewers)],
      ['Last frame', span(sinceLastFrame(stream, ageMs))],
      ['Restarts', camera ? String(camera.restarts ?? 0) : undefined],
    ];
    if (Number.isFinite(clock?.offset_ms)) rows.push(['Clock, at arrival', `${signed(clock.offset_ms, 0)} ms`]);
    if (clock) rows.push(['Clock drift', `${signed(clock.drift_ppm, 0)} ppm`]);
    const notes = [...(camera?.notes ?? []), ...(video?.why_not ? [video.why_not] : [])].join(' ');
    rows.push(['Notes', notes || undefined]);
    for (const [label, value] of rows) this.#row(label, value);
  }

  #row(label, value) {
    let row = this.#sources.get(label);
    if (!row) {
      row = element('div', label === 'Notes' ? 'whole' : '');
      row.append(element('dt', '', label), element('dd'));
      this.#sources.set(label, row);
      this.get('source').append(row);
    }
    row.hidden = value === undefined;
    if (row.lastChild.textContent !== value) row.lastChild.textContent = value ?? '';
  }

  draw(now) {
    this.spark.draw(now);
  }

  /** Shows the figures; once a second. */
  async look() {
    const { viewer, viewing, stage, get } = this;
    const now = performance.now();
    const live = viewer.state === 'live';
    const stats = live ? await this.poller.poll(viewer.peer).catch(() => undefined) : undefined;
    if (stats) viewing.stats = stats;
    for (const samples of [viewing.latency, viewing.recent, viewing.sinceCapture, viewing.afterReceive, viewing.model, viewing.age]) samples.prune(now);
    const [p50, p95] = live ? viewing.latency.quantiles(0.5, 0.95) : [];
    figure(get('p50'), p50);
    figure(get('p95'), p95);
    get('method').textContent = p50 !== undefined ? METHOD : live ? 'The server has told no times for the frames shown.' : 'Measured once the video runs.';
    const capture = live ? viewing.captureFigure() : undefined;
    get('capture').hidden = capture === undefined;
    if (capture) {
      get('capture').textContent = capture.plausible
        ? `${Math.round(capture.p50)} ms since capture, if the camera’s clock agrees with the server’s.`
        : `The camera’s clock is ${span(Math.abs(capture.p50))} off the server’s: it tells no time since capture.`;
    }
    const seconds = (now - this.#looked.at) / 1000;
    const shown = live && seconds < 5 ? (viewing.presented - this.#looked.presented) / seconds : undefined;
    this.#looked = { at: now, presented: viewing.presented };
    stage.hudLatency.textContent = p50 === undefined ? '– ms' : `${Math.round(p50)} ms`;
    stage.hudLatency.title = 'Server to glass, median of the last ten seconds';
    stage.hudFps.textContent = shown === undefined ? '– fps' : `${shown.toFixed(0)} fps`;
    const [rtt] = viewing.rtt.quantiles(0.5);
    const rttMs = rtt ?? stats?.rttMs;
    const measured = { total: viewing.recent.mean(), afterReceive: viewing.afterReceive.mean(), rttMs, stats };
    const means = viewing.stages.video(now, live ? measured : {}, VIEWER_STAGES);
    viewing.ledger.prune(now);
    const ledger = live ? viewing.ledger.summary(VIEWER_STAGES) : undefined;
    const video = ledger ? { parts: ledger.parts.map(({ key, mean }) => ({ key, ms: mean })), total: ledger.whole.mean } : means;
    this.bar.show(video.parts);
    get('ledger-total').textContent = video.total === undefined ? '' : `${video.total.toFixed(1)} ms, mean of ${ledger ? 10 : 2} s`;
    // Where a frame's own doors are not all told, the means of the single stages stand in the table.
    this.waterfall.show(ledger ? ledger.parts : means.parts.map(({ key, ms }) => ({ key, mean: ms })));
    this.percentiles.show([ledger?.whole ?? {}]);
    get('stages-window').textContent = ledger ? `${ledger.frames} frames of the last 10 s` : live ? 'means of the last 2 s' : '';
    const { rtt: joined, driftPpm } = viewing.clock;
    get('clock').textContent = live && joined !== undefined ? `${(joined / 2).toFixed(2)} ms, drift ${driftPpm.toFixed(0)} ppm` : '–';
    const detector = viewing.stages.detector(now);
    this.detectorBar.show(detector.parts);
    get('detector-total').textContent = detector.total === undefined ? '' : `${detector.total.toFixed(1)} ms`;
    this.table.show({
      ...stats,
      fpsDown: stats?.fpsDown ?? shown,
      rtt: live ? rttMs : undefined,
      widthBack: live ? stage.video.videoWidth : 0,
      heightBack: stage.video.videoHeight,
      modelMs: viewing.model.mean(),
      detectorFps: live && viewing.model.size > 0 ? viewing.model.size / 2 : undefined,
      ageMs: viewing.age.mean(),
      joined: live ? viewing.join.share() : undefined,
    });
  }
}

const signed = (value, digits) => `${value > 0 ? '+' : ''}${value.toFixed(digits)}`.replace(/^-0$/, '0');

function figure(place, value) {
  place.textContent = value === undefined ? '–' : value.toFixed(1);
  place.dataset.empty = value === undefined;
}
