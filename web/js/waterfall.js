// The stages of a frame one after the other as they follow in time, and percentiles as bars. Drawn from numbers alone.

import { coloursOf } from './charts.js';
import { element } from './panels.js';

const text = (ms) => (Number.isFinite(ms) ? ms.toFixed(1).replace(/^-0\.0$/, '0.0') : '–');
const percent = (share) => `${(100 * Math.min(1, Math.max(0, share))).toFixed(2)}%`;

/** A table with one row a stage: its bar begins where the one before ends, its numbers stand beside it. */
export class Waterfall {
  #rows = new Map();

  /** @param {HTMLTableElement} table @param {object[]} stages of stages.js @param {string} what it shows, for who cannot see the bars */
  constructor(table, stages, what) {
    table.classList.add('waterfall');
    table.append(element('caption', 'visually-hidden', what));
    const head = element('tr');
    for (const [name, kind] of [['Stage', ''], ['', 'track'], ['p50', 'number'], ['p95', 'number'], ['p99', 'number wide']]) {
      const cell = element(name ? 'th' : 'td', kind, name);
      if (name) cell.scope = 'col';
      head.append(cell);
    }
    const body = element('tbody');
    const colours = coloursOf(stages);
    for (const { key, label, hint } of stages) {
      const row = element('tr');
      row.title = hint;
      const name = element('th', '');
      name.scope = 'row';
      const swatch = element('i');
      swatch.style.background = colours.get(key);
      name.append(swatch, label);
      const track = element('td', 'track');
      const bar = element('i');
      bar.style.background = colours.get(key);
      track.append(bar);
      const numbers = ['number', 'number', 'number wide'].map((kind) => element('td', kind, '–'));
      row.append(name, track, ...numbers);
      body.append(row);
      this.#rows.set(key, { bar, numbers });
    }
    const top = element('thead');
    top.append(head);
    table.append(top, body);
  }

  /**
   * @param {{key: string, mean?: number, p50?: number, p95?: number, p99?: number}[]|undefined} parts in the order of the stages;
   *   the bars are the means, since only means follow one another to the mean of the whole
   * @param {number|undefined} scaleMs what the width stands for; undefined: all parts together
   */
  show(parts = [], scaleMs = undefined) {
    const widths = new Map(parts.map(({ key, mean }) => [key, Math.abs(mean ?? 0)]));
    const all = scaleMs ?? [...widths.values()].reduce((sum, ms) => sum + ms, 0);
    const figures = new Map(parts.map((part) => [part.key, part]));
    let from = 0;
    for (const [key, { bar, numbers }] of this.#rows) {
      const ms = widths.get(key) ?? 0;
      bar.style.marginLeft = all > 0 ? percent(from / all) : '0';
      bar.style.width = all > 0 ? percent(ms / all) : '0';
      from += ms;
      const part = figures.get(key);
      [part?.p50 ?? part?.mean, part?.p95, part?.p99].forEach((value, index) => {
        numbers[index].textContent = text(value);
      });
    }
  }
}

const SHARES = ['p50', 'p95', 'p99'];

/** For each percentile a bar of each series, all to one scale. */
export class PercentileBars {
  #bars = [];

  /** @param {HTMLElement} place @param {{name: string, colour: string}[]} series `colour`: a CSS colour */
  constructor(place, series) {
    place.classList.add('percentiles');
    for (const share of SHARES) {
      const group = element('div', 'percentile');
      group.append(element('span', 'share', share));
      const list = element('div', 'percentile-bars');
      series.forEach(({ name, colour }, index) => {
        const row = element('div', 'percentile-bar');
        row.title = `${name}, ${share}`;
        const track = element('span', 'percentile-track');
        const bar = element('i');
        bar.style.background = colour;
        track.append(bar);
        const value = element('b', '', '–');
        const said = element('span', 'visually-hidden', `${name}, `);
        row.append(said, track, value);
        list.append(row);
        (this.#bars[index] ??= {})[share] = { bar, value };
      });
      group.append(list);
      place.append(group);
    }
  }

  /** @param {({p50?: number, p95?: number, p99?: number}|undefined)[]} figures milliseconds, one for each series */
  show(figures) {
    const top = Math.max(1e-9, ...figures.flatMap((one) => SHARES.map((share) => one?.[share] ?? 0)));
    this.#bars.forEach((bars, index) => {
      for (const share of SHARES) {
        const ms = figures[index]?.[share];
        bars[share].bar.style.width = percent((ms ?? 0) / top);
        bars[share].value.textContent = Number.isFinite(ms) ? `${text(ms)} ms` : '–';
      }
    });
  }
}
