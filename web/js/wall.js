// The wall: a tile for each stream, in the order of their names, changed in place so that neither focus nor picture jumps.

import { element } from './panels.js';
import { describeState, kindOf, sinceLastFrame, span, summary, watchAddress } from './states.js';
import { ThumbLoader } from './thumbs.js';

/** An icon of the page's own sprite. */
export function icon(name) {
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  const use = document.createElementNS('http://www.w3.org/2000/svg', 'use');
  svg.setAttribute('aria-hidden', 'true');
  use.setAttribute('href', `#i-${name}`);
  svg.append(use);
  return svg;
}

/** A button with an icon alone; `label` is its name. */
export function iconButton(name, label) {
  const button = element('button', 'icon-button');
  button.type = 'button';
  button.setAttribute('aria-label', label);
  button.title = label;
  button.append(icon(name));
  return button;
}

/** The buttons of a camera: pause or resume, edit, remove. */
export class CameraTools {
  /** @param {HTMLElement} place @param {{pause: Function, edit: Function, remove: Function}} actions called with the name */
  constructor(place, actions) {
    this.pause = iconButton('pause', '');
    this.edit = iconButton('edit', '');
    this.remove = iconButton('bin', '');
    this.pause.addEventListener('click', () => actions.pause(this.name, !this.paused, this.pause));
    this.edit.addEventListener('click', () => actions.edit(this.name));
    this.remove.addEventListener('click', () => actions.remove(this.name));
    place.append(this.pause, this.edit, this.remove);
    this.place = place;
  }

  show(stream) {
    this.name = stream.name;
    this.paused = stream.camera?.state === 'disabled';
    this.place.hidden = stream.kind !== 'camera';
    const word = this.paused ? 'Resume' : 'Pause';
    this.#label(this.pause, `${word} ${stream.name}`, word);
    this.pause.querySelector('use').setAttribute('href', this.paused ? '#i-play' : '#i-pause');
    this.#label(this.edit, `Edit ${stream.name}`, 'Edit');
    this.#label(this.remove, `Remove ${stream.name}`, 'Remove');
  }

  #label(button, label, title) {
    button.setAttribute('aria-label', label);
    button.title = title;
  }
}

/** The wall of all streams. */
export class Wall {
  #tiles = new Map();
  #observer;
  #thumbs;
  #visible = false;

  /**
   * @param {Document} root
   * @param {{snapshot: (name: string, width: number, signal: AbortSignal) => Promise<Blob>, actions: object}} options
   *   `snapshot` fetches a stream's newest picture; `actions` as of CameraTools
   */
  constructor(root, { snapshot, actions }) {
    const get = (id) => root.getElementById(id);
    this.list = get('wall');
    this.empty = get('wall-empty');
    this.summary = get('wall-summary');
    this.actions = actions;
    this.#thumbs = new ThumbLoader(async (name, signal) => {
      const tile = this.#tiles.get(name);
      if (!tile) return;
      const wide = Math.min(960, Math.ceil((tile.image.clientWidth || 320) * Math.min(2, devicePixelRatio || 1) / 80) * 80);
      tile.picture(await snapshot(name, wide, signal));
    });
    this.#observer = new IntersectionObserver((entries) => {
      for (const { target, isIntersecting } of entries) {
        const tile = this.#tiles.get(target.dataset.name);
        if (!tile) continue;
        tile.seen = isIntersecting;
        this.#ask(tile);
      }
    });
  }

  /** Whether the wall is looked at: a wall behind another view asks for no pictures. */
  set visible(visible) {
    this.#visible = visible;
    for (const tile of this.#tiles.values()) this.#ask(tile);
  }

  /** The other kind of pictures from now on. */
  refresh() {
    this.#thumbs.refresh();
  }

  /** Shows what the server told `ageMs` ago. */
  show(streams, ageMs) {
    const names = new Set(streams.map(({ name }) => name));
    for (const [name, tile] of this.#tiles) {
      if (names.has(name)) continue;
      this.#thumbs.drop(name);
      this.#observer.unobserve(tile.item);
      tile.remove();
      this.#tiles.delete(name);
    }
    const states = [];
    let place = this.list.firstElementChild;
    for (const stream of streams) {
      let tile = this.#tiles.get(stream.name);
      if (!tile) {
        tile = new Tile(stream.name, this.actions);
        this.#tiles.set(stream.name, tile);
        this.#observer.observe(tile.item);
      }
      if (tile.item !== place) this.list.insertBefore(tile.item, place);
      else place = place.nextElementSibling;
      states.push(tile.show(stream, ageMs));
      this.#ask(tile);
    }
    this.list.dataset.many = String(streams.length > 6);
    this.list.hidden = streams.length === 0;
    this.empty.hidden = streams.length > 0;
    const told = summary(states);
    if (this.summary.textContent !== told) this.summary.textContent = told;
  }

  #ask(tile) {
    // A picture of an idle camera would wake it.
    if (this.#visible && tile.seen && tile.state !== 'idle' && tile.state !== 'disabled') this.#thumbs.want(tile.name, tile.state === 'live');
    else this.#thumbs.drop(tile.name);
  }
}

class Tile {
  #shown;

  constructor(name, actions) {
    this.name = name;
    this.seen = false;
    this.item = element('li', 'tile');
    this.item.dataset.name = name;
    const link = element('a', 'tile-link');
    link.href = watchAddress(name);
    const frame = element('span', 'tile-picture');
    this.image = element('img');
    this.image.alt = '';
    this.image.hidden = true;
    this.chip = element('span', 'tile-state');
    this.word = element('span');
    this.chip.append(element('span', 'dot'), this.word);
    frame.append(icon('camera'), this.image, this.chip);
    const head = element('span', 'tile-head');
    this.kind = element('span', 'tile-kind');
    head.append(element('span', 'tile-name', name), this.kind);
    this.figures = element('span', 'tile-figures');
    this.detail = element('span', 'tile-detail');
    link.append(frame, head, this.figures, this.detail);
    const tools = element('div', 'tile-tools');
    this.item.append(link, tools);
    this.tools = new CameraTools(tools, actions);
  }

  /** Shows a picture; the one before it is let go once this one stands. */
  picture(blob) {
    const address = URL.createObjectURL(blob);
    const before = this.#shown;
    this.#shown = address;
    this.image.src = address;
    this.image.hidden = false;
    return this.image.decode().catch(() => {}).finally(() => before && URL.revokeObjectURL(before));
  }

  remove() {
    this.item.remove();
    if (this.#shown) URL.revokeObjectURL(this.#shown);
    this.#shown = undefined;
  }

  show(stream, ageMs) {
    const state = describeState(stream, ageMs);
    this.state = state.state;
    this.item.dataset.tone = state.tone;
    this.item.dataset.state = state.state;
    set(this.word, state.word);
    set(this.kind, kindOf(stream));
    set(this.detail, state.detail);
    this.detail.hidden = !state.detail;
    const { viewers = 0, camera } = stream;
    const figures = [
      [state.tone === 'live' ? figure(stream.input_fps) : undefined, 'fps'],
      [state.tone === 'live' ? figure(stream.detection_fps) : undefined, 'detections/s'],
      [viewers > 0 ? String(viewers) : undefined, viewers === 1 ? 'viewer' : 'viewers'],
      [camera?.restarts > 0 ? String(camera.restarts) : undefined, camera?.restarts === 1 ? 'restart' : 'restarts'],
      [state.tone !== 'live' && state.state !== 'stalled' ? span(sinceLastFrame(stream, ageMs)) : undefined, 'since the last frame'],
    ].filter(([value]) => value !== undefined);
    const told = figures.map(([value, unit]) => `${value} ${unit}`).join(' · ');
    set(this.figures, told);
    this.tools.show(stream);
    return state;
  }
}

const figure = (rate) => (rate === undefined ? undefined : rate >= 9.95 ? rate.toFixed(0) : rate.toFixed(1));

// Writing the same text again would make a screen reader say it again.
function set(place, text) {
  if (place.textContent !== text) place.textContent = text;
}
