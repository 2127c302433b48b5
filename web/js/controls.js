// The detector's controls: thresholds, classes, overlay. Each change goes out at once, and the server's answer is shown.

import { element } from './panels.js';

const SEND_AFTER_MS = 80;

/** Event `change` {config}: what to send to the server. */
export class DetectorControls extends EventTarget {
  #labels = [];
  #changed = {};
  #pending = {};
  #held = {};
  #timer;

  constructor(root) {
    super();
    const get = (id) => root.querySelector(`#${id}`);
    this.confidence = get('confidence');
    this.iou = get('iou');
    this.confidenceValue = get('confidence-value');
    this.iouValue = get('iou-value');
    this.overlays = [...root.querySelectorAll('input[name="overlay"]')];
    this.applied = get('applied');
    this.classes = get('classes');
    this.classesSummary = get('classes-summary');
    this.classesList = get('classes-list');
    this.filter = get('classes-filter');
    this.confidence.addEventListener('input', () => {
      this.#showValues();
      this.#change({ confidence_threshold: Number(this.confidence.value) });
    });
    this.iou.addEventListener('input', () => {
      this.#showValues();
      this.#change({ iou_threshold: Number(this.iou.value) });
    });
    for (const overlay of this.overlays) {
      overlay.addEventListener('change', () => this.#change({ overlay: overlay.value }));
    }
    this.classesList.addEventListener('change', () => this.#classesChanged());
    this.filter.addEventListener('input', () => this.#applyFilter());
    get('classes-all').addEventListener('click', () => this.#checkShown(true));
    get('classes-none').addEventListener('click', () => this.#checkShown(false));
    this.#showValues();
  }

  /** Takes the server's defaults and the model's classes. What the user has set stays set. */
  describe({ labels = [], confidence, iou }) {
    this.#held = { confidence_threshold: confidence, iou_threshold: iou, ...this.#held };
    this.#showHeld();
    if (labels.join('\n') === this.#labels.join('\n')) return;
    this.#labels = labels;
    delete this.#changed.classes;
    this.classesList.replaceChildren(
      ...labels.map((label) => {
        const item = element('li');
        const line = element('label');
        const box = element('input');
        box.type = 'checkbox';
        box.checked = true;
        box.value = label;
        line.append(box, label);
        item.append(line);
        return item;
      }),
    );
    this.classes.hidden = labels.length === 0;
    this.filter.parentElement.hidden = labels.length < 2;
    this.#showHeld();
    this.#summarise();
  }

  /** Chooses an overlay by program, as the address of the page may. */
  setOverlay(name) {
    const overlay = this.overlays.find(({ value }) => value === name);
    if (!overlay) return;
    overlay.checked = true;
    this.#change({ overlay: name });
  }

  /** What the user has changed so far: a new session is told it all. */
  get config() {
    return { ...this.#changed };
  }

  /** The server applied a configuration; `config` is the whole that holds now. */
  acknowledged(config) {
    this.#held = { ...this.#held, ...config };
    // The server's word counts, but not while the user's own hand is still moving.
    if (this.#timer === undefined) this.#showHeld();
    this.#say('Applied', 'good');
  }

  /** The server refused a message; `config` is what we had asked for, if it was a configuration. */
  refused(message, config = {}) {
    for (const key of Object.keys(config)) delete this.#changed[key];
    if (this.#timer === undefined) this.#showHeld();
    this.#say(message || 'The server refused the change.', 'bad');
  }

  /** No answer can be had now. */
  offline() {
    this.#say('', 'good');
  }

  // What the server holds, but for what the user has asked for since.
  #showHeld() {
    const { confidence_threshold: confidence, iou_threshold: iou, overlay, classes } = { ...this.#held, ...this.#changed };
    if (classes !== undefined) {
      for (const box of this.#boxes()) box.checked = classes === null || classes.includes(box.value);
      this.#summarise();
    }
    if (Number.isFinite(confidence)) this.confidence.value = confidence;
    if (Number.isFinite(iou)) this.iou.value = iou;
    for (const one of this.overlays) if (one.value === overlay) one.checked = true;
    this.#showValues();
  }

  #say(text, tone) {
    this.applied.textContent = text;
    this.applied.dataset.tone = tone;
  }

  #showValues() {
    this.confidenceValue.value = `${Math.round(100 * this.confidence.value)} %`;
    this.iouValue.value = `${Math.round(100 * this.iou.value)} %`;
  }

  #change(part) {
    Object.assign(this.#changed, part);
    this.#pending = { ...this.#pending, ...part };
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      const config = this.#pending;
      this.#pending = {};
      this.dispatchEvent(new CustomEvent('change', { detail: { config } }));
    }, SEND_AFTER_MS);
  }

  #boxes() {
    return [...this.classesList.querySelectorAll('input')];
  }

  #classesChanged() {
    const boxes = this.#boxes();
    const chosen = boxes.filter(({ checked }) => checked).map(({ value }) => value);
    this.#summarise();
    this.#change({ classes: chosen.length === boxes.length ? null : chosen });
  }

  #summarise() {
    const boxes = this.#boxes();
    const chosen = boxes.filter(({ checked }) => checked);
    const all = chosen.length === boxes.length;
    const one = boxes.length === 1 || chosen.length === 1;
    this.classesSummary.textContent =
      chosen.length === 0 ? 'none' : all && boxes.length > 1 ? `all ${boxes.length}` : one ? chosen[0].value : `${chosen.length} of ${boxes.length}`;
  }

  #applyFilter() {
    const wanted = this.filter.value.trim().toLowerCase();
    for (const box of this.#boxes()) box.closest('li').hidden = !box.value.toLowerCase().includes(wanted);
  }

  #checkShown(checked) {
    for (const box of this.#boxes()) if (!box.closest('li').hidden) box.checked = checked;
    this.#classesChanged();
  }
}
