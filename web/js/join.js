// Joins what the server says about a frame with the frame on the screen, by RTP timestamp.
//
// The server's messages carry the outgoing RTP timestamp, and requestVideoFrameCallback names the frame that it shows by
// the same number, so the join is exact. Messages travel unordered and may be lost: either side may come first.

const CAPACITY = 256;

/** A map that forgets its oldest entry. */
export class BoundedMap extends Map {
  /** @param {number} capacity entries kept */
  constructor(capacity) {
    super();
    this.capacity = capacity;
  }

  set(key, value) {
    this.delete(key);
    super.set(key, value);
    if (this.size > this.capacity) this.delete(this.keys().next().value);
    return this;
  }
}

/** The join of `frame` and `detections` messages with the frames that the browser presented. */
export class FrameJoin {
  constructor({ capacity = CAPACITY } = {}) {
    this.frames = new BoundedMap(capacity);
    this.detections = new BoundedMap(capacity);
    this.waiting = new BoundedMap(capacity);
    this.shown = 0;
    this.joined = 0;
    this.late = 0;
    /** Names of classes by their id, as the messages so far had them. */
    this.names = new BoundedMap(1024);
  }

  /**
   * Takes a message of the server.
   * @returns the presented frame that waited for it, if the video was faster than its message
   */
  message(message) {
    if (message.type === 'detections') {
      if (!Array.isArray(message.detections)) return undefined;
      this.detections.set(message.frame_id, message);
      for (const { class_id: id, class_name: name } of message.detections) this.names.set(id, name);
      return undefined;
    }
    if (message.type !== 'frame') return undefined;
    this.frames.set(message.rtp_timestamp, message);
    const presented = this.waiting.get(message.rtp_timestamp);
    if (presented === undefined) return undefined;
    this.waiting.delete(message.rtp_timestamp);
    this.joined += 1;
    this.late += 1;
    return presented;
  }

  /**
   * Takes a presented frame.
   * @param {number|undefined} rtpTimestamp as requestVideoFrameCallback gives it; undefined where the browser does not
   * @param presented what `message` returns should the frame's message come later
   * @returns the frame's message, or undefined
   */
  present(rtpTimestamp, presented) {
    this.shown += 1;
    if (rtpTimestamp === undefined) return this.newest();
    const frame = this.frames.get(rtpTimestamp);
    if (frame) {
      this.joined += 1;
      return frame;
    }
    this.waiting.set(rtpTimestamp, presented);
    return undefined;
  }

  /** The newest `frame` message: an approximate join for browsers that do not tell a frame's RTP timestamp. */
  newest() {
    let last;
    for (const frame of this.frames.values()) last = frame;
    return last;
  }

  /** The `detections` message that a `frame` message drew from. */
  sourceOf(frame) {
    return this.detections.get(frame.detection_frame_id);
  }

  /** What there is on a frame, with names: what was drawn, or with nothing drawn, what was found. */
  objectsOf(frame) {
    const found = this.sourceOf(frame)?.detections ?? [];
    const boxes = Array.isArray(frame.boxes) ? frame.boxes : [];
    const shown = boxes.length === 0 ? found : boxes;
    return shown.map((box) => ({ ...box, class_name: box.class_name ?? this.names.get(box.class_id) }));
  }

  /** The share of presented frames that found their message, 0 to 1; undefined before the first. */
  share() {
    return this.shown === 0 ? undefined : this.joined / this.shown;
  }
}
