// The regions of the stream that is shown: drawn on its video, listed with their counts, and what happens at them.

import * as api from './api.js';
import { words } from './dialogs.js';
import { element } from './panels.js';
import { LEAST, MOST_REGIONS, cornersOf, countWords, describeShape, eventWords, freeName, inOrder, kindOf, regionOf } from './regions.js';
import { MOST_CORNERS, ShapeEditor, pointsOf } from './shape.js';
import { iconButton } from './wall.js';

const COUNT_MS = 1000;
const MOST_EVENTS = 40;
const COLOUR = /^#[0-9a-f]{6}$/i;
const SVG = 'http://www.w3.org/2000/svg';

/** Clones a template, and finds its parts by their `data-part`. */
function cloned(root, id) {
  const part = root.getElementById(id).content.firstElementChild.cloneNode(true);
  const parts = Object.fromEntries([...part.querySelectorAll('[data-part]')].map((one) => [one.dataset.part, one]));
  return { part, ...parts };
}

/** Needs `palette` from the server's info for the colours. */
export class RegionsPanel {
  #name;
  #regions = {};
  #draw = false;
  #counts = {};
  #editing;
  #timer;
  #turn = 0;
  #saved;

  /**
   * @param {Document} root
   * @param {{stage: HTMLElement, video: HTMLVideoElement, bar: HTMLElement, card: HTMLElement, keeps?: boolean}} places where the
   *   layer is put, and the form and the list; `keeps`: what was saved here is sent again when the stream begins anew
   */
  constructor(root, { stage, video, bar, card, keeps = false }) {
    Object.assign(this, { stage, video, bar, card, keeps, palette: [] });
    this.layer = cloned(root, 'regions-layer');
    this.form = cloned(root, 'regions-form');
    this.parts = cloned(root, 'regions-list');
    // Over the video, and under what is said over it.
    video.after(this.layer.part);
    bar.before(this.form.part);
    card.append(this.parts.part);
    this.shape = new ShapeEditor({ picture: this.layer.part, shape: this.layer.shape, handles: this.layer.handles });
    this.shape.addEventListener('change', () => this.#say());
    this.#wire();
    this.#place();
    new ResizeObserver(() => this.#place()).observe(stage);
    video.addEventListener('resize', () => this.#place());
    this.close();
  }

  #wire() {
    const { form, parts, layer } = this;
    const { elements } = form.part;
    parts.zone.addEventListener('click', () => this.#begin('zone'));
    parts.line.addEventListener('click', () => this.#begin('line'));
    parts.draw.addEventListener('change', () => this.#send(this.#regions, parts.draw.checked).catch((problem) => this.#complain(problem)));
    form.undo.addEventListener('click', () => this.shape.undo(form.undo));
    form.cancel.addEventListener('click', () => this.#end());
    form.part.addEventListener('submit', (event) => {
      event.preventDefault();
      this.#save();
    });
    elements.kind.addEventListener('change', () => this.#say());
    for (const place of [layer.part, form.part]) {
      place.addEventListener('keydown', (event) => {
        if (event.key !== 'Escape') return;
        event.preventDefault();
        this.#end();
      });
    }
  }

  /** Shows the regions of a stream that has begun. */
  async open(name) {
    const turn = ++this.#turn;
    if (name !== this.#name) this.parts.events.replaceChildren();
    this.#name = name;
    try {
      let told = await api.regions(name);
      if (this.keeps && this.#saved && Object.keys(told.regions).length === 0) told = await api.setRegions(name, this.#saved);
      if (turn !== this.#turn) return;
      this.#take(told);
      this.card.hidden = false;
    } catch (problem) {
      if (turn === this.#turn) this.#complain(problem);
    }
    this.#count();
  }

  /** The stream is gone, or another is looked at. */
  close() {
    this.#turn += 1;
    clearTimeout(this.#timer);
    this.#name = undefined;
    this.#end(false);
    this.card.hidden = true;
    this.#take({ regions: {}, draw: false });
    this.parts.events.replaceChildren();
  }

  /** Takes a message of the server: events are in those of type `detections`. */
  message(message) {
    if (message.type !== 'detections' || !Array.isArray(message.events)) return;
    const at = new Date();
    for (const event of message.events) this.#tell(event, at);
  }

  #tell(event, at) {
    const { events } = this.parts;
    const { who, verb, where, more } = eventWords(event);
    const item = element('li');
    item.dataset.kind = event.kind;
    const time = element('time', '', at.toLocaleTimeString([], { hour12: false }));
    time.dateTime = at.toISOString();
    const text = element('span');
    text.append(element('b', '', who), ` ${verb} `, element('b', '', where), more ? element('small', '', ` ${more}`) : '');
    item.append(time, text);
    events.prepend(item);
    while (events.children.length > MOST_EVENTS) events.lastElementChild.remove();
    this.parts.quiet.hidden = true;
  }

  // ---- What there is ----

  #take({ regions, draw }) {
    this.#regions = regions;
    this.#draw = Boolean(draw);
    const { parts } = this;
    const any = Object.keys(regions).length > 0;
    parts.draw.checked = this.#draw;
    parts.shown.hidden = !any;
    parts.empty.hidden = any;
    parts.quiet.hidden = !any || parts.events.children.length > 0;
    parts.count.textContent = String(Object.keys(regions).length);
    parts.zone.disabled = parts.line.disabled = Object.keys(regions).length >= MOST_REGIONS;
    parts.list.replaceChildren(...inOrder(regions).map((one) => this.#row(one)));
    this.#outline();
  }

  #row({ name, region, colour }) {
    const item = element('li');
    const swatch = element('span', 'swatch');
    swatch.style.background = this.#colour(colour);
    const label = element('span', 'region-name');
    const edit = iconButton('edit', `Edit ${name}`);
    edit.addEventListener('click', () => this.#begin(kindOf(region), name));
    const remove = iconButton('bin', `Remove ${name}`);
    remove.addEventListener('click', () => this.#remove(name, remove));
    const counts = element('small', '', countWords(region, this.#counts[name]));
    counts.dataset.region = name;
    label.append(element('b', '', name), counts);
    item.append(swatch, label, edit, remove);
    return item;
  }

  #colour(index) {
    const wanted = this.palette[index % Math.max(1, this.palette.length)];
    return COLOUR.test(wanted) ? wanted : '#e4572e';
  }

  // The other regions, while one is drawn.
  #outline() {
    const shapes = inOrder(this.#regions).filter(({ name }) => name !== this.#editing?.name).map(({ region, colour }) => {
      const shape = document.createElementNS(SVG, 'polygon');
      shape.setAttribute('points', pointsOf(cornersOf(region)));
      shape.style.stroke = this.#colour(colour);
      return shape;
    });
    this.layer.others.replaceChildren(...shapes);
  }

  async #count() {
    clearTimeout(this.#timer);
    const turn = this.#turn;
    const name = this.#name;
    const seen = !document.hidden && this.card.checkVisibility();
    if (seen && Object.keys(this.#regions).length > 0) {
      const stream = await api.stream(name).catch(() => undefined);
      if (turn !== this.#turn) return;
      this.#counts = stream?.regions ?? this.#counts;
      for (const place of this.parts.list.querySelectorAll('[data-region]')) {
        const region = this.#regions[place.dataset.region];
        const told = region && countWords(region, this.#counts[place.dataset.region]);
        if (told && place.textContent !== told) place.textContent = told;
      }
    }
    if (turn === this.#turn && name !== undefined) this.#timer = setTimeout(() => this.#count(), COUNT_MS);
  }

  // ---- Drawing one ----

  #begin(kind, name) {
    const region = name === undefined ? undefined : this.#regions[name];
    this.#editing = { name, region, back: document.activeElement };
    const { layer, form, parts } = this;
    const { elements } = form.part;
    elements.name.value = name ?? freeName(kind, this.#regions);
    elements.kind.value = kind;
    elements.dwell.value = region?.dwell_s ?? '';
    form.kind.hidden = kind === 'line';
    this.shape.most = kind === 'line' ? LEAST.line : MOST_CORNERS;
    this.#refuse(undefined);
    layer.part.hidden = form.part.hidden = false;
    parts.part.dataset.editing = 'true';
    this.#outline();
    this.#place();
    this.shape.replace(cornersOf(region ?? {}), layer.part);
    this.stage.scrollIntoView({ block: 'nearest' });
  }

  #end(back = true) {
    const place = this.#editing?.back;
    this.#editing = undefined;
    this.layer.part.hidden = this.form.part.hidden = true;
    delete this.parts.part.dataset.editing;
    this.shape.replace([]);
    if (back && place) (place.isConnected ? place : this.parts.zone).focus();
  }

  #say() {
    if (!this.#editing) return;
    const { form, shape } = this;
    const kind = form.part.elements.kind.value;
    form.note.textContent = describeShape(kind, shape.corners);
    form.dwell.hidden = kind !== 'zone';
    form.undo.disabled = shape.corners.length === 0;
    form.save.disabled = shape.corners.length < LEAST[kind];
  }

  #refuse(problem) {
    const { elements } = this.form.part;
    for (const field of elements) field.removeAttribute('aria-invalid');
    this.form.problem.textContent = problem?.message ?? '';
    this.form.problem.hidden = !problem;
    const field = problem?.field && elements[problem.field];
    if (!field) return;
    field.setAttribute('aria-invalid', 'true');
    field.focus();
  }

  async #save() {
    const { form, shape } = this;
    const { elements } = form.part;
    const { name: before, region: old } = this.#editing;
    const entered = { name: elements.name.value, kind: elements.kind.value, dwell: elements.dwell.value };
    const taken = Object.keys(this.#regions).filter((name) => name !== before);
    const { name, region, problem } = regionOf(entered, shape.corners, old, taken);
    this.#refuse(problem);
    if (problem) return;
    const regions = { ...this.#regions };
    if (before !== undefined) delete regions[before];
    regions[name] = region;
    // Who draws the first one wants to see it.
    const draw = Object.keys(this.#regions).length === 0 ? true : this.#draw;
    form.save.disabled = true;
    try {
      await this.#send(regions, draw);
      this.#end();
    } catch (refused) {
      this.#refuse({ message: words(refused) });
    } finally {
      form.save.disabled = false;
    }
  }

  async #remove(name, button) {
    const { [name]: _, ...regions } = this.#regions;
    button.disabled = true;
    try {
      await this.#send(regions, this.#draw);
      this.parts.zone.focus();
    } catch (problem) {
      this.#complain(problem);
    } finally {
      button.disabled = false;
    }
  }

  async #send(regions, draw) {
    const turn = this.#turn;
    const told = await api.setRegions(this.#name, { regions, draw });
    this.#saved = { regions, draw };
    if (turn !== this.#turn) return;
    this.parts.problem.hidden = true;
    this.#take(told);
  }

  #complain(problem) {
    this.parts.problem.textContent = words(problem);
    this.parts.problem.hidden = false;
    this.parts.draw.checked = this.#draw;
  }

  // The layer lies on the picture, which the stage shows with bars beside it or above.
  #place() {
    const { videoWidth, videoHeight } = this.video;
    const { clientWidth, clientHeight } = this.stage;
    if (!videoWidth || !clientWidth) return;
    const scale = Math.min(clientWidth / videoWidth, clientHeight / videoHeight);
    const [width, height] = [videoWidth * scale, videoHeight * scale];
    Object.assign(this.layer.part.style, {
      left: `${(clientWidth - width) / 2}px`,
      top: `${(clientHeight - height) / 2}px`,
      width: `${width}px`,
      height: `${height}px`,
    });
  }
}
