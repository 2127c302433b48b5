// The list of detections and the table of statistics.

/** Makes an element with a class and a text. Texts from the network go through here: never as HTML. */
export function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

const COLOUR = /^#[0-9a-f]{6}$/i;
const MOST_SHOWN = 40;

/** The objects on the frame that is shown, kept in a steady order so that the list does not flicker. */
export class DetectionList {
  #rows = [];
  #order = new Map();
  #turn = 0;

  constructor(list, count, empty) {
    this.list = list;
    this.count = count;
    this.empty = empty;
    this.palette = [];
    this.labels = [];
  }

  /**
   * @param {{class_id: number, class_name?: string, confidence: number, track_id?: number}[]} objects
   * @param {number} omitted how many more there are than the message could hold
   */
  show(objects, omitted = 0) {
    const shown = this.#steady(objects).slice(0, MOST_SHOWN);
    while (this.#rows.length < shown.length) this.#rows.push(this.#row());
    this.#rows.forEach((row, index) => {
      row.item.hidden = index >= shown.length;
      if (index < shown.length) this.#fill(row, shown[index]);
    });
    this.count.textContent = String(objects.length + omitted);
    this.empty.hidden = objects.length > 0;
  }

  /** Shows that there is no answer, rather than an empty one. */
  clear(text) {
    this.show([]);
    this.#order.clear();
    this.count.textContent = '–';
    this.empty.textContent = text;
  }

  // Tracked objects keep the order of their first sight; the others follow, the surest first.
  #steady(objects) {
    this.#turn += 1;
    for (const { track_id: id } of objects) {
      if (id === undefined || id === null) continue;
      const known = this.#order.get(id);
      this.#order.set(id, { rank: known?.rank ?? this.#turn, seen: this.#turn });
    }
    if (this.#order.size > 500) {
      for (const [id, { seen }] of this.#order) if (seen < this.#turn - 50) this.#order.delete(id);
    }
    const rank = ({ track_id: id }) => this.#order.get(id)?.rank ?? Infinity;
    return [...objects].sort((a, b) => compare(rank(a), rank(b)) || compare(b.confidence, a.confidence));
  }

  #row() {
    const row = {
      item: element('li'),
      swatch: element('span', 'swatch'),
      name: element('span', 'name'),
      track: element('span', 'track'),
      level: element('i'),
      score: element('span', 'score'),
    };
    const meter = element('span', 'meter');
    meter.setAttribute('aria-hidden', 'true');
    meter.append(row.level);
    row.item.append(row.swatch, row.name, row.track, meter, row.score);
    this.list.append(row.item);
    return row;
  }

  #fill(row, { class_id: classId, class_name: className, confidence, track_id: trackId }) {
    const colour = this.palette.length > 0 ? this.palette[classId % this.palette.length] : undefined;
    row.swatch.style.background = COLOUR.test(colour) ? colour : '';
    row.name.textContent = className ?? this.labels[classId] ?? `class ${classId}`;
    row.track.textContent = trackId === undefined || trackId === null ? '' : `#${trackId}`;
    const share = Math.round(100 * Math.min(1, Math.max(0, Number(confidence) || 0)));
    row.level.style.width = `${share}%`;
    row.score.textContent = `${share} %`;
  }
}

const compare = (a, b) => (a < b ? -1 : a > b ? 1 : 0);

const number = (value, digits, unit) => (value === undefined ? '–' : `${value.toFixed(digits)} ${unit}`);
const bitrate = (kbps) => (kbps === undefined ? '–' : kbps >= 1000 ? `${(kbps / 1000).toFixed(2)} Mbit/s` : `${Math.round(kbps)} kbit/s`);
const percent = (share) => (share === undefined ? '–' : `${(100 * share).toFixed(share > 0 && share < 0.1 ? 2 : 1)} %`);

/** What the table says of a webcam's session. */
export const SESSION_ROWS = [
  ['Frames sent', 'Frames a second that this browser sends', (s) => number(s.fpsUp, 1, 'fps')],
  ['Frames back', 'Annotated frames a second that this browser decodes', (s) => number(s.fpsDown, 1, 'fps')],
  ['Bitrate up', 'Video to the server', (s) => bitrate(s.kbpsUp)],
  ['Bitrate down', 'Annotated video from the server', (s) => bitrate(s.kbpsDown)],
  ['Size sent', 'What the browser sends now; it shrinks when the network or the processor is short', (s) => (s.widthUp ? `${s.widthUp} × ${s.heightUp}` : '–')],
  ['Size back', 'The annotated picture', (s) => (s.widthBack ? `${s.widthBack} × ${s.heightBack}` : '–')],
  ['Round trip', 'A message to the server and back, median of the last ten', (s) => number(s.rtt, 1, 'ms')],
  ['Loss up / down', 'Share of packets lost', (s) => `${percent(s.lossUp)} / ${percent(s.lossDown)}`],
  ['Model time', 'Preprocessing, inference and postprocessing of one frame', (s) => number(s.modelMs, 1, 'ms')],
  ['Detections', 'Frames a second that the detector finished', (s) => number(s.detectorFps, 1, '/s')],
  ['Age of boxes', 'From the detected frame to the frame that shows its boxes', (s) => number(s.ageMs, 0, 'ms')],
  ['Frames joined', 'Shown frames that found their own message', (s) => percent(s.joined)],
];

/** What the table says of a viewer. */
export const VIEWER_ROWS = [
  ['Frames shown', 'Frames a second that this browser decodes', (s) => number(s.fpsDown, 1, 'fps')],
  ['Bitrate', 'Video from the server', (s) => bitrate(s.kbpsDown)],
  ['Size', 'The picture as it comes', (s) => (s.widthBack ? `${s.widthBack} × ${s.heightBack}` : '–')],
  ['Round trip', 'A message to the server and back, median of the last ten', (s) => number(s.rtt, 1, 'ms')],
  ['Loss', 'Share of packets lost on the way here', (s) => percent(s.lossDown)],
  ['Frames dropped', 'Frames a second that this browser threw away', (s) => number(s.dropped, 1, '/s')],
  ['Model time', 'Preprocessing, inference and postprocessing of one frame', (s) => number(s.modelMs, 1, 'ms')],
  ['Detections', 'Frames a second that the detector finished', (s) => number(s.detectorFps, 1, '/s')],
  ['Age of boxes', 'From the detected frame to the frame that shows its boxes', (s) => number(s.ageMs, 0, 'ms')],
  ['Frames joined', 'Shown frames that found what the server says of them', (s) => percent(s.joined)],
];

/** A table of statistics. */
export class StatsTable {
  #rows;
  #values;

  constructor(list, rows) {
    this.#rows = rows;
    this.#values = rows.map(([label, hint]) => {
      const row = element('div');
      row.title = hint;
      const value = element('dd', '', '–');
      row.append(element('dt', '', label), value);
      list.append(row);
      return value;
    });
  }

  show(stats) {
    this.#rows.forEach(([, , text], index) => {
      this.#values[index].textContent = text(stats);
    });
  }
}
