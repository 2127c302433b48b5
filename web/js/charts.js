// The sparkline and the stacked bars, drawn from numbers alone.

const SPAN_MS = 30_000;

/**
 * One line or two of the last 30 seconds on a canvas; their colours come from the canvas's own style, `color` and `column-rule-color`.
 */
export class Sparkline {
  /** @param {HTMLCanvasElement} canvas @param {number} lines how many */
  constructor(canvas, lines = 1) {
    this.canvas = canvas;
    this.context = canvas.getContext('2d');
    this.lines = Array.from({ length: lines }, () => []);
  }

  push(at, value, line = 0) {
    if (!Number.isFinite(value)) return;
    const points = this.lines[line];
    points.push({ at, value });
    while (points.length > 0 && at - points[0].at > SPAN_MS) points.shift();
  }

  clear() {
    for (const points of this.lines) points.length = 0;
    this.draw(performance.now());
  }

  draw(now) {
    const { canvas, context: c } = this;
    const { clientWidth: width, clientHeight: height } = canvas;
    if (width === 0 || height === 0) return;
    const scale = globalThis.devicePixelRatio || 1;
    if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
      canvas.width = Math.round(width * scale);
      canvas.height = Math.round(height * scale);
    }
    const style = getComputedStyle(canvas);
    c.setTransform(scale, 0, 0, scale, 0, 0);
    c.clearRect(0, 0, width, height);
    const sorted = this.lines.flat().map((point) => point.value).sort((a, b) => a - b);
    const high = sorted[Math.floor(sorted.length * 0.99)] ?? 0;
    const top = niceCeiling(high * 1.15);
    const left = 34;
    const bottom = height - 4;
    const y = (value) => bottom - (Math.min(value, top) / top) * (bottom - 8);
    c.font = `11px ${style.fontFamily}`;
    c.textAlign = 'right';
    c.textBaseline = 'middle';
    c.fillStyle = style.borderTopColor;
    c.strokeStyle = style.outlineColor;
    c.lineWidth = 1;
    for (const tick of [0, top / 2, top]) {
      c.beginPath();
      c.moveTo(left, Math.round(y(tick)) + 0.5);
      c.lineTo(width, Math.round(y(tick)) + 0.5);
      c.stroke();
      c.fillText(String(tick), left - 6, Math.min(bottom - 2, Math.max(7, y(tick))));
    }
    const x = (at) => Math.max(left, left + (1 - (now - at) / SPAN_MS) * (width - left));
    c.lineWidth = 1.5;
    c.lineJoin = 'round';
    this.lines.forEach((points, index) => {
      c.beginPath();
      let last = -Infinity;
      for (const { at, value } of points) {
        // A gap of a second is a pause of the video, not a slope.
        if (at - last > 1000) c.moveTo(x(at), y(value));
        else c.lineTo(x(at), y(value));
        last = at;
      }
      c.strokeStyle = index === 0 ? style.color : style.columnRuleColor;
      c.stroke();
    });
  }
}

/** The next of 10, 20, 40, 50, 100, 200 … that is not below `value`. */
export function niceCeiling(value) {
  if (!(value > 10)) return 10;
  const decade = 10 ** Math.floor(Math.log10(value));
  for (const step of [1, 2, 4, 5, 10]) if (value <= step * decade) return step * decade;
  return 10 * decade;
}

/** The CSS colour of each stage, by its key: its group's colours in turn. */
export function coloursOf(stages) {
  const turn = {};
  return new Map(
    stages.map(({ key, group }) => {
      turn[group] = (turn[group] ?? 0) + 1;
      return [key, `var(--${group === 'rest' ? 'rest' : `${group}-${turn[group]}`})`];
    }),
  );
}

/** A stacked bar with its legend. The legend is the readable form; the bar repeats it as one sentence. */
export class StackedBar {
  #segments = new Map();

  constructor(bar, legend, stages) {
    this.bar = bar;
    this.what = stages;
    const colours = coloursOf(stages);
    for (const { key, label, group, hint } of stages) {
      const colour = colours.get(key);
      const segment = document.createElement('i');
      segment.style.background = colour;
      segment.title = `${label}: ${hint}`;
      bar.append(segment);
      const row = document.createElement('div');
      row.title = hint;
      const term = document.createElement('dt');
      const swatch = document.createElement('i');
      swatch.style.background = colour;
      term.append(swatch, label);
      const value = document.createElement('dd');
      value.textContent = '–';
      row.append(term, value);
      legend.append(row);
      this.#segments.set(key, { segment, value, label, group });
    }
  }

  /** @param {{key: string, ms: number|undefined}[]} parts times in milliseconds */
  show(parts) {
    const width = parts.reduce((sum, { ms }) => sum + Math.max(0, ms ?? 0), 0);
    const said = [];
    for (const { key, ms } of parts) {
      const { segment, value, label, group } = this.#segments.get(key);
      const share = width > 0 && ms > 0 ? (100 * ms) / width : 0;
      segment.style.width = `${share.toFixed(2)}%`;
      value.textContent = ms === undefined ? '–' : ms.toFixed(1).replace(/^-0\.0$/, '0.0');
      if (ms !== undefined) said.push(`${group === 'server' ? 'server ' : ''}${label.toLowerCase()} ${ms.toFixed(1)}`);
    }
    this.bar.setAttribute('aria-label', said.length > 0 ? `Milliseconds: ${said.join(', ')}` : 'No stages measured yet');
  }
}
