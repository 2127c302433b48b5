// The views: the webcam's session, the wall of all streams, the full view of one. The address says which is shown.

import * as api from './api.js';
import { CameraDialog, RemoveDialog, words } from './dialogs.js';
import { route, watchAddress } from './states.js';
import { remembered } from './theme.js';
import { Wall } from './wall.js';
import { Watch } from './watch.js';

const POLL_MS = 1000;
/** Behind the webcam's view only the number of streams is shown. */
const IDLE_POLL_MS = 10_000;
const FIGURES_MS = 1000;
const SPARK_MS = 200;
const KINDS = ['annotated', 'original'];

const $ = (id) => document.getElementById(id);
const calm = matchMedia('(prefers-reduced-motion: reduce)');
const cameraDialog = new CameraDialog(document);
const removeDialog = new RemoveDialog(document);

let view;
let streams = [];
let toldAt = 0;
let pollTimer;
let polling = false;
let pictures = KINDS.includes(remembered.get('sightline.wall')) ? remembered.get('sightline.wall') : 'annotated';

const actions = {
  async add() {
    try {
      const { can_persist: canPersist } = await api.cameras();
      cameraDialog.open(undefined, canPersist);
      complain(undefined);
    } catch (problem) {
      complain(words(problem));
    }
  },
  async pause(name, paused, button) {
    button.disabled = true;
    try {
      await api.changeCamera(name, { enabled: !paused });
      complain(undefined);
    } catch (problem) {
      complain(`${name}: ${words(problem)}`);
    } finally {
      button.disabled = false;
    }
    poll();
  },
  async edit(name) {
    try {
      const camera = await cameraOf(name);
      if (camera) cameraDialog.open(camera, camera.canPersist);
      complain(undefined);
    } catch (problem) {
      complain(words(problem));
    }
  },
  async remove(name) {
    const camera = await cameraOf(name).catch(() => undefined);
    removeDialog.open(name, { viewers: streams.find((one) => one.name === name)?.viewers, origin: camera?.origin });
  },
};

// A camera as the API has it, its configuration among the rest.
async function cameraOf(name) {
  const { cameras, can_persist: canPersist } = await api.cameras();
  const camera = cameras.find((one) => one.name === name);
  // What stands in the file or was given as a flag is kept nowhere else.
  return camera && { ...camera, canPersist: canPersist && camera.origin === 'api' };
}

const wall = new Wall(document, {
  actions,
  async snapshot(name, width, signal) {
    const response = await fetch(api.snapshotAddress(name, pictures, width), { cache: 'no-store', signal });
    if (!response.ok || response.status === 204) throw new Error(`HTTP ${response.status}`);
    return response.blob();
  },
});
const watch = new Watch(document, {
  actions,
  videoChanged(video) {
    history.replaceState(null, '', `${watchAddress(view.stream)}?video=${video}`);
    show();
  },
});

function complain(text) {
  $('wall-problem').textContent = text ?? '';
  $('wall-problem').hidden = !text;
}

// ---- Which view ----

let opening = 0;

async function show() {
  const turn = ++opening;
  const before = view;
  view = route(location.hash);
  for (const name of ['webcam', 'wall', 'watch']) $(`view-${name}`).hidden = name !== view.view;
  document.body.dataset.view = view.view;
  for (const [id, here] of [['nav-webcam', view.view === 'webcam'], ['nav-streams', view.view !== 'webcam']]) {
    if (here) $(id).setAttribute('aria-current', 'page');
    else $(id).removeAttribute('aria-current');
  }
  document.title = view.view === 'watch' ? `${view.stream} · Sightline` : view.view === 'wall' ? 'Streams · Sightline' : 'Sightline';
  $('skip').setAttribute('href', `#${{ webcam: 'stage', wall: 'view-wall', watch: 'watch-name' }[view.view]}`);
  document.dispatchEvent(new CustomEvent('view', { detail: view }));
  wall.visible = view.view === 'wall' && !document.hidden;
  if (view.view !== 'watch') watch.close();
  poll();
  if (view.view !== 'watch') {
    // Whoever comes back from a stream goes on where its tile stands.
    if (view.view === 'wall' && before?.view === 'watch') document.querySelector(`[data-name="${CSS.escape(before.stream)}"] a`)?.focus();
    return;
  }
  if (before?.stream !== view.stream) $('watch-name').focus({ preventScroll: true });
  const video = view.video ?? (await modeOf(view.stream));
  if (turn === opening) watch.open(view.stream, video);
}

// A camera whose own picture is passed on is shown so, and all else with its boxes drawn.
async function modeOf(name) {
  const camera = await cameraOf(name).catch(() => undefined);
  return camera?.mode === 'original' ? 'original' : 'annotated';
}

// The link that skips to the content is no view.
$('skip').addEventListener('click', (event) => {
  event.preventDefault();
  const place = $($('skip').getAttribute('href').slice(1));
  place.focus();
  place.scrollIntoView();
});
addEventListener('hashchange', show);

// ---- What the server tells ----

async function poll() {
  clearTimeout(pollTimer);
  pollTimer = undefined;
  if (document.hidden || polling) return;
  polling = true;
  try {
    streams = (await api.streams()).sort((a, b) => a.name.localeCompare(b.name, undefined, { numeric: true }));
    toldAt = performance.now();
    away(false);
    tell();
  } catch {
    away(true);
  } finally {
    polling = false;
  }
  clearTimeout(pollTimer);
  pollTimer = setTimeout(poll, view.view === 'webcam' ? IDLE_POLL_MS : POLL_MS);
}

function away(is) {
  $('view-wall').dataset.away = String(is);
  if (is) $('wall-summary').textContent = 'The server does not answer. Trying again.';
}

function tell() {
  const age = performance.now() - toldAt;
  $('nav-count').textContent = String(streams.length);
  $('nav-count').hidden = streams.length === 0;
  if (view.view === 'wall') wall.show(streams, age);
  if (view.view === 'watch') watch.tell(streams.find(({ name }) => name === view.stream), age);
}

document.addEventListener('visibilitychange', () => {
  wall.visible = view.view === 'wall' && !document.hidden;
  poll();
});
addEventListener('pagehide', () => watch.close());
addEventListener('pageshow', ({ persisted }) => persisted && show());

// ---- Controls of the wall ----

for (const choice of document.querySelectorAll('input[name="wall-video"]')) {
  choice.checked = choice.value === pictures;
  choice.addEventListener('change', () => {
    pictures = choice.value;
    remembered.set('sightline.wall', pictures);
    wall.refresh();
  });
}
for (const id of ['wall-add', 'wall-empty-add']) $(id).addEventListener('click', actions.add);
cameraDialog.addEventListener('saved', () => poll());
removeDialog.addEventListener('removed', ({ detail }) => {
  if (view.view === 'watch' && view.stream === detail.name) location.hash = '#/streams';
  else poll();
});

api.info().then(({ palette }) => {
  if (!Array.isArray(palette)) return;
  watch.list.palette = palette;
  watch.regions.palette = palette;
  watch.layer.palette = palette;
}, () => {});

setInterval(() => {
  if (view.view === 'watch') watch.look().catch((error) => console.error(error));
}, FIGURES_MS);
setInterval(() => {
  if (view.view === 'watch' && !document.hidden) watch.draw(performance.now());
}, calm.matches ? 1000 : SPARK_MS);

show();
globalThis.sightline = { ...globalThis.sightline, watch, wall };
