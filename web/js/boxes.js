// The boxes that the page draws itself, over the camera's own picture.
//
// A `detections` message names the frame that it speaks of by RTP timestamp, and the browser names the frame that it shows
// by the same number. The shown frame is mostly some frames newer than the newest message, so each box is moved forward by
// its track's velocity for just that long.

import { BoundedMap } from './join.js';

const TICKS_PER_MS = 90;
/** Boxes older than this, in milliseconds, are not drawn: they would stand where nothing is. */
export const OLDEST_MS = 500;
const KEPT = 64;

/** Milliseconds of media time from one 32-bit RTP timestamp to another; negative when `to` is the earlier one. */
export const rtpSpan = (from, to) => ((to - from) | 0) / TICKS_PER_MS;

/** A box moved by its velocity, kept inside the picture. `velocity` is in pixels a second. */
export function moved([x1, y1, x2, y2], velocity, ms, width, height) {
  const [vx, vy] = Array.isArray(velocity) ? velocity : [0, 0];
  const dx = (vx * ms) / 1000;
  const dy = (vy * ms) / 1000;
  const into = (value, most) => Math.min(Math.max(value, 0), most);
  return [into(x1 + dx, width), into(y1 + dy, height), into(x2 + dx, width), into(y2 + dy, height)];
}

/** The `detections` messages of the last while, and the boxes of the frame that is shown. */
export class BoxTimeline {
  #messages = new BoundedMap(KEPT);
  #newest;

  clear() {
    this.#messages.clear();
    this.#newest = undefined;
  }

  /** Takes a `detections` message that came at `now` (performance.now() milliseconds). */
  add(message, now) {
    if (!Number.isFinite(message.rtp_timestamp) || !Array.isArray(message.detections)) return;
    this.#messages.set(message.rtp_timestamp, message);
    this.#newest = { message, at: now };
  }

  /**
   * The boxes for a shown frame: of the newest message that is not about a later frame, moved forward to this one.
   * @param {number|undefined} rtpTimestamp of the shown frame; undefined where the browser does not tell: the newest message
   *   then stands in, unmoved
   * @returns {{boxes: object[], ageMs: number|undefined, message: object|undefined}} none where all are too old. `ageMs` is
   *   how much older than the frame the message's frame is
   */
  at(rtpTimestamp, now) {
    if (rtpTimestamp === undefined) {
      const newest = this.#newest;
      if (!newest || now - newest.at > OLDEST_MS) return { boxes: [], ageMs: undefined, message: undefined };
      return { boxes: newest.message.detections, ageMs: undefined, message: newest.message };
    }
    let best;
    let age = Infinity;
    for (const message of this.#messages.values()) {
      const ms = rtpSpan(message.rtp_timestamp, rtpTimestamp);
      if (ms >= 0 && ms < age) {
        best = message;
        age = ms;
      }
    }
    if (!best || age > OLDEST_MS) return { boxes: [], ageMs: undefined, message: undefined };
    const { width = Infinity, height = Infinity } = best;
    const boxes = best.detections
      .filter(({ bbox }) => Array.isArray(bbox) && bbox.length === 4 && bbox.every(Number.isFinite))
      .map((one) => ({ ...one, bbox: moved(one.bbox, one.velocity, age, width, height) }))
      .filter(({ bbox: [x1, y1, x2, y2] }) => x2 > x1 && y2 > y1);
    return { boxes, ageMs: age, message: best };
  }
}

const COLOUR = /^#[0-9a-f]{6}$/i;

/** A canvas over a video, as large as its picture: the style sheet lets both fit their frame the same way. */
export class BoxLayer {
  /** @param {HTMLCanvasElement} canvas @param {HTMLVideoElement} video */
  constructor(canvas, video) {
    this.canvas = canvas;
    this.video = video;
    this.context = canvas.getContext('2d');
    this.palette = [];
  }

  clear() {
    this.context.clearRect(0, 0, this.canvas.width, this.canvas.height);
  }

  /** Draws boxes that are in pixels of a picture of `width` × `height`. */
  draw(boxes, width, height) {
    const { canvas, context: c, video } = this;
    const { videoWidth, videoHeight } = video;
    if (videoWidth === 0) return;
    if (canvas.width !== videoWidth || canvas.height !== videoHeight) {
      canvas.width = videoWidth;
      canvas.height = videoHeight;
    }
    this.clear();
    const scaleX = videoWidth / (width || videoWidth);
    const scaleY = videoHeight / (height || videoHeight);
    // Lines and letters as thick on the screen whatever the picture's size.
    const unit = videoWidth / (video.clientWidth || videoWidth);
    const size = 12 * unit;
    c.lineWidth = 2.5 * unit;
    c.font = `600 ${size}px system-ui, sans-serif`;
    c.textBaseline = 'middle';
    for (const { bbox: [x1, y1, x2, y2], class_id: classId = 0, class_name: name, track_id: track, confidence } of boxes) {
      const wanted = this.palette.length > 0 ? this.palette[classId % this.palette.length] : undefined;
      const colour = COLOUR.test(wanted) ? wanted : '#e4572e';
      const [x, y, w, h] = [x1 * scaleX, y1 * scaleY, (x2 - x1) * scaleX, (y2 - y1) * scaleY];
      c.strokeStyle = colour;
      c.strokeRect(x, y, w, h);
      const share = Number.isFinite(confidence) ? ` ${Math.round(100 * confidence)} %` : '';
      const label = `${name ?? `class ${classId}`}${track === undefined || track === null ? '' : ` #${track}`}${share}`;
      const wide = c.measureText(label).width + size * 0.8;
      const top = y >= size * 1.6 ? y - size * 1.6 : y;
      c.fillStyle = colour;
      c.fillRect(Math.max(0, Math.min(x - c.lineWidth / 2, videoWidth - wide)), top, wide, size * 1.6);
      c.fillStyle = dark(colour) ? '#fff' : '#000';
      c.fillText(label, Math.max(0, Math.min(x - c.lineWidth / 2, videoWidth - wide)) + size * 0.4, top + size * 0.85);
    }
  }
}

function dark(colour) {
  const [r, g, b] = [1, 3, 5].map((at) => Number.parseInt(colour.slice(at, at + 2), 16));
  return 0.299 * r + 0.587 * g + 0.114 * b < 140;
}
