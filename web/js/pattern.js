// The test pattern: a camera for machines without one, and a latency probe that trusts nothing but pixels.
//
// Each frame carries the time of its drawing as black and white cells, along the top and the bottom edge. Read back from
// the annotated video, the stamp tells the frame's age whatever happened in between.

const CELLS_ACROSS = 40;
const TIME_BITS = 24;
const CHECK_BITS = 8;
/** Two cells, white and black, tell the levels; then the time, then its check. */
export const STAMP_CELLS = 2 + TIME_BITS + CHECK_BITS;
const TICKS_PER_MS = 16;
const WRAP = 2 ** TIME_BITS;
const SAMPLES_A_CELL = 4;

/** CRC-8 (polynomial 0x07) over the three bytes of a stamp. */
export function check(ticks) {
  let crc = 0xa5;
  for (const byte of [(ticks >> 16) & 255, (ticks >> 8) & 255, ticks & 255]) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit += 1) crc = crc & 0x80 ? ((crc << 1) ^ 0x07) & 255 : crc << 1;
  }
  return crc;
}

/** The cells of a time in milliseconds: true is white. */
export function stampCells(ms) {
  const ticks = Math.floor(ms * TICKS_PER_MS) % WRAP;
  const cells = [true, false];
  for (let bit = TIME_BITS - 1; bit >= 0; bit -= 1) cells.push(((ticks >> bit) & 1) === 1);
  const crc = check(ticks);
  for (let bit = CHECK_BITS - 1; bit >= 0; bit -= 1) cells.push(((crc >> bit) & 1) === 1);
  return cells;
}

/**
 * The time that the cells' brightnesses spell.
 * @param {number[]} levels STAMP_CELLS brightnesses, 0 to 255
 * @param {number} now performance.now(): the newest time that the stamp can mean
 * @returns milliseconds, or undefined where the cells do not hold a stamp
 */
export function readCells(levels, now) {
  if (levels.length !== STAMP_CELLS) return undefined;
  const [white, black] = levels;
  if (!(white - black > 60)) return undefined;
  const middle = (white + black) / 2;
  let ticks = 0;
  let crc = 0;
  levels.slice(2).forEach((level, index) => {
    const bit = level > middle ? 1 : 0;
    if (index < TIME_BITS) ticks = ticks * 2 + bit;
    else crc = crc * 2 + bit;
  });
  if (crc !== check(ticks)) return undefined;
  const nowTicks = Math.floor(now * TICKS_PER_MS);
  const age = (((nowTicks - ticks) % WRAP) + WRAP) % WRAP;
  return now - age / TICKS_PER_MS;
}

/** Reads stamps from a video element. */
export class StampReader {
  constructor() {
    this.canvas = document.createElement('canvas');
    this.canvas.width = STAMP_CELLS * SAMPLES_A_CELL;
    this.canvas.height = SAMPLES_A_CELL;
    this.context = this.canvas.getContext('2d', { willReadFrequently: true });
  }

  /** The drawing time of the frame that `video` shows, or undefined. Tries the top edge, then the bottom edge. */
  read(video, now) {
    const { videoWidth: width, videoHeight: height } = video;
    if (!width || !height) return undefined;
    const cell = width / CELLS_ACROSS;
    return this.#readRow(video, 0, cell, now) ?? this.#readRow(video, height - cell, cell, now);
  }

  #readRow(video, y, cell, now) {
    const { canvas, context } = this;
    context.drawImage(video, 0, y, STAMP_CELLS * cell, cell, 0, 0, canvas.width, canvas.height);
    const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
    const levels = [];
    for (let index = 0; index < STAMP_CELLS; index += 1) {
      // The middle of the cell: its borders are blurred by the codec.
      let sum = 0;
      for (const dy of [1, 2]) {
        for (const dx of [1, 2]) sum += data[4 * (dy * canvas.width + index * SAMPLES_A_CELL + dx) + 1];
      }
      levels.push(sum / 4);
    }
    return readCells(levels, now);
  }
}

const BACKDROP = ['#20323f', '#3f5a63'];
const FACES = [
  { skin: '#dba887', light: '#f3ccb0', shade: '#a9724f', hair: '#3a2a20', shirt: '#3d5a80', size: 0.19, speed: 0.23, phase: 0, middle: 0.29, height: 0.4 },
  { skin: '#a8714b', light: '#d09c73', shade: '#6f452a', hair: '#17110e', shirt: '#7d4a5e', size: 0.18, speed: 0.31, phase: 2.1, middle: 0.69, height: 0.46 },
];

/** Half a refresh of a common screen: nearer to its time than this, a picture is not put off to the next refresh. */
const EARLY_MS = 8;
/** A page whose refresh has not come for so long was hidden meanwhile. */
const LONGEST_REFRESH_MS = 200;

/** A canvas with moving shapes, as a video track. Event `drawn` {at}: a picture was drawn. */
export class TestPattern extends EventTarget {
  #frame;

  constructor({ width, height, fps }) {
    super();
    this.canvas = document.createElement('canvas');
    // A canvas in main memory: each frame is read back by the encoder anyway.
    this.context = this.canvas.getContext('2d', { willReadFrequently: true, alpha: false });
    this.resize({ width, height, fps });
    this.stream = this.canvas.captureStream(0);
    [this.track] = this.stream.getVideoTracks();
    this.#schedule();
  }

  /** Changes size or pace in the middle of the stream. */
  resize({ width, height, fps }) {
    this.canvas.width = width;
    this.canvas.height = height;
    this.period = 1000 / fps;
    this.next = performance.now();
  }

  #schedule() {
    this.next += this.period;
    const now = performance.now();
    if (this.next < now) this.next = now;
    this.timer = setTimeout(() => this.#atRefresh(), this.next - now - EARLY_MS);
  }

  // A canvas is captured when the page is next put on the screen: drawn just before that, its picture waits for nothing. A
  // hidden page is put on no screen, and draws by the clock alone.
  #atRefresh() {
    const draw = () => {
      cancelAnimationFrame(this.#frame);
      clearTimeout(this.timer);
      this.#draw();
      if (this.track.readyState === 'live') this.#schedule();
    };
    if (document.hidden) {
      draw();
      return;
    }
    this.#frame = requestAnimationFrame(draw);
    this.timer = setTimeout(draw, LONGEST_REFRESH_MS);
  }

  #draw() {
    const now = performance.now();
    this.#paint(now / 1000);
    this.#tellTime(now);
    this.#stamp(now);
    this.track.requestFrame();
    this.dispatchEvent(new CustomEvent('drawn', { detail: { at: now } }));
  }

  #paint(seconds) {
    const { context: c, canvas } = this;
    const { width: w, height: h } = canvas;
    const sky = c.createLinearGradient(0, 0, 0, h);
    sky.addColorStop(0, BACKDROP[0]);
    sky.addColorStop(1, BACKDROP[1]);
    c.fillStyle = sky;
    c.fillRect(0, 0, w, h);
    c.fillStyle = '#2b4550';
    for (let bar = 0; bar < 8; bar += 1) c.fillRect((bar * w) / 8, h * 0.72, w / 8 - 2, h * 0.28);
    FACES.forEach((face) => {
      const x = w * (face.middle + 0.13 * Math.sin(seconds * face.speed * 2 * Math.PI + face.phase));
      const y = h * (face.height + 0.06 * Math.sin(seconds * 1.7 + face.phase));
      paintFace(c, x, y, face.size * h, face);
    });
    const hand = seconds * 2 * Math.PI;
    c.strokeStyle = '#f2c14e';
    c.lineWidth = Math.max(3, h / 120);
    c.beginPath();
    c.arc(w * 0.9, h * 0.22, h * 0.08, 0, 2 * Math.PI);
    c.moveTo(w * 0.9, h * 0.22);
    c.lineTo(w * 0.9 + h * 0.07 * Math.sin(hand), h * 0.22 - h * 0.07 * Math.cos(hand));
    c.stroke();
  }

  // For the eye, and for a camera before the screen.
  #tellTime(now) {
    const { context: c, canvas } = this;
    const { width: w, height: h } = canvas;
    c.font = `600 ${Math.round(h / 11)}px ui-monospace, monospace`;
    c.textAlign = 'right';
    c.textBaseline = 'alphabetic';
    c.fillStyle = '#f4f7f8';
    c.fillText(`${((now / 1000) % 1000).toFixed(3)} s`, w * 0.965, h * 0.9);
  }

  #stamp(now) {
    const { context: c, canvas } = this;
    const cell = canvas.width / CELLS_ACROSS;
    for (const y of [0, canvas.height - cell]) {
      c.fillStyle = '#000';
      c.fillRect(0, y, (STAMP_CELLS + 1) * cell, cell);
      c.fillStyle = '#fff';
      stampCells(now).forEach((white, index) => {
        if (white) c.fillRect(index * cell, y, cell, cell);
      });
    }
  }

  stop() {
    clearTimeout(this.timer);
    cancelAnimationFrame(this.#frame);
    this.track.stop();
  }
}

// As much of a face as a detector looks for: a head with light from one side, brows, lidded eyes, a nose with its shadow, lips.
function paintFace(c, x, y, r, { skin, shade, light, hair, shirt }) {
  const at = (dx, dy) => [x + dx * r, y + dy * r];
  const disc = (dx, dy, rx, ry, fill) => {
    c.fillStyle = fill;
    c.beginPath();
    c.ellipse(...at(dx, dy), rx * r, ry * r, 0, 0, 2 * Math.PI);
    c.fill();
  };
  /** A closed shape of quadratic curves: each row is a control point and an end. */
  const shape = (fill, start, ...curves) => {
    c.fillStyle = fill;
    c.beginPath();
    c.moveTo(...at(...start));
    for (const [cx, cy, ex, ey] of curves) c.quadraticCurveTo(...at(cx, cy), ...at(ex, ey));
    c.closePath();
    c.fill();
  };
  const round = (dx, dy, radius, ...stops) => {
    const paint = c.createRadialGradient(...at(dx, dy), 0, ...at(dx, dy), radius * r);
    stops.forEach((colour, n) => paint.addColorStop(n / (stops.length - 1), colour));
    return paint;
  };
  shape(shirt, [-1.7, 5], [-1.6, 1.55, -0.5, 1.4], [0, 1.6, 0.5, 1.4], [1.6, 1.55, 1.7, 5]);
  shape(shade, [-0.42, 0.7], [-0.4, 1.3, -0.55, 1.45], [0, 1.75, 0.55, 1.45], [0.4, 1.3, 0.42, 0.7]);
  disc(0, -0.22, 0.93, 1.02, hair);
  for (const side of [-1, 1]) disc(0.78 * side, 0.08, 0.12, 0.22, shade);
  shape(round(-0.2, -0.15, 1.35, light, skin, shade), [-0.76, -0.2], [-0.82, 0.62, -0.38, 0.98], [0, 1.22, 0.38, 0.98], [0.82, 0.62, 0.76, -0.2], [0.7, -0.95, 0, -0.95], [-0.7, -0.95, -0.76, -0.2]);
  shape(hair, [-0.82, -0.1], [-0.85, -1.2, 0, -1.22], [0.85, -1.2, 0.82, -0.1], [0.72, -0.55, 0.4, -0.72], [-0.3, -0.6, -0.62, -0.5], [-0.76, -0.4, -0.82, -0.1]);
  for (const side of [-1, 1]) {
    disc(0.35 * side, -0.06, 0.27, 0.2, round(0.35 * side, -0.06, 0.27, `${shade}cc`, `${shade}00`));
    shape(hair, [0.12 * side, -0.25], [0.35 * side, -0.4, 0.6 * side, -0.22], [0.35 * side, -0.3, 0.12 * side, -0.19]);
    shape('#f3efe9', [0.18 * side, -0.02], [0.34 * side, -0.17, 0.52 * side, -0.02], [0.34 * side, 0.08, 0.18 * side, -0.02]);
    disc(0.35 * side, -0.04, 0.085, 0.085, '#3b2618');
    disc(0.35 * side, -0.04, 0.045, 0.045, '#0c0806');
    disc(0.35 * side - 0.025, -0.065, 0.018, 0.018, '#ffffff');
    shape('#1b120d', [0.15 * side, -0.01], [0.34 * side, -0.2, 0.55 * side, -0.02], [0.34 * side, -0.15, 0.15 * side, -0.01]);
    disc(0.48 * side, 0.38, 0.22, 0.16, round(0.48 * side, 0.38, 0.22, '#c2564833', '#c2564800'));
  }
  shape(`${shade}aa`, [0.06, -0.1], [0.12, 0.2, 0.2, 0.36], [0.1, 0.46, 0, 0.44], [0.1, 0.3, 0.06, -0.1]);
  disc(-0.02, 0.3, 0.07, 0.09, `${light}aa`);
  for (const side of [-1, 1]) disc(0.09 * side, 0.41, 0.05, 0.032, '#3a1d14cc');
  shape('#9c4740', [-0.3, 0.65], [-0.1, 0.56, 0, 0.6], [0.1, 0.56, 0.3, 0.65], [0, 0.7, -0.3, 0.65]);
  shape('#b65d54', [-0.28, 0.66], [0, 0.84, 0.28, 0.66], [0, 0.7, -0.28, 0.66]);
  disc(0, 0.665, 0.27, 0.014, '#4a1d1a');
  disc(0, 0.85, 0.2, 0.05, `${shade}88`);
}
