// The zone of a camera, drawn on its picture: the corners of a polygon, each a share of width and height. A click sets a corner;
// a corner is dragged, or moved with the arrow keys and taken away with Delete.

/** The server takes no more. */
export const MOST_CORNERS = 64;

const STEP = 0.01;
const LEAP = 0.05;
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

const share = (value) => Math.round(Math.min(Math.max(value, 0), 1) * 10_000) / 10_000;
const percent = (value) => `${Math.round(value * 100)} %`;

/** The middle of the longest side: where a corner is missed most; the picture's middle when there is no side. */
export function nextCorner(corners) {
  if (corners.length < 2) return corners.length === 0 ? [0.5, 0.5] : [share(corners[0][0] + (corners[0][0] < 0.5 ? 0.3 : -0.3)), corners[0][1]];
  if (corners.length === 2) {
    // Beside the line, so that it becomes a triangle.
    const [[ax, ay], [bx, by]] = corners;
    const [x, y] = [(ax + bx) / 2, (ay + by) / 2];
    return Math.abs(bx - ax) >= Math.abs(by - ay) ? [share(x), share(y + (y < 0.5 ? 0.3 : -0.3))] : [share(x + (x < 0.5 ? 0.3 : -0.3)), share(y)];
  }
  return longestSide(corners).middle;
}

/** Where in the row the corner of `nextCorner` belongs. */
export function nextIndex(corners) {
  return corners.length < 3 ? corners.length : longestSide(corners).after + 1;
}

function longestSide(corners) {
  let longest = { length: -1 };
  corners.forEach(([ax, ay], after) => {
    const [bx, by] = corners[(after + 1) % corners.length];
    const length = Math.hypot(bx - ax, by - ay);
    if (length > longest.length) longest = { length, after, middle: [share((ax + bx) / 2), share((ay + by) / 2)] };
  });
  return longest;
}

/** What is to be said of these corners. */
export function describeZone(corners) {
  if (corners.length === 0) return 'The whole picture counts. Click corners on the picture to count in a part of it only.';
  if (corners.length < 3) return `${corners.length === 1 ? 'One corner' : 'Two corners'}: a zone needs three at least.`;
  return `${corners.length} corners: what stands inside counts.`;
}

export class ZoneEditor {
  #corners = [];
  #address;

  constructor(root) {
    const get = (id) => root.getElementById(`camera-zone-${id}`);
    this.part = root.getElementById('camera-zone');
    Object.assign(this, { picture: get('picture'), image: get('image'), shape: get('shape'), handles: get('handles'), note: get('note'), undo: get('undo'), clearing: get('clear') });
    // Not before somebody looks.
    this.part.addEventListener('toggle', () => this.#look());
    this.image.addEventListener('load', () => {
      this.picture.style.aspectRatio = `${this.image.naturalWidth} / ${this.image.naturalHeight}`;
      this.image.hidden = false;
    });
    this.image.addEventListener('error', () => (this.image.hidden = true));
    this.picture.addEventListener('click', (event) => {
      if (event.target.closest('button')) return;
      this.#add(this.#at(event), this.#corners.length);
    });
    this.picture.addEventListener('keydown', (event) => this.#onKey(event));
    this.undo.addEventListener('click', () => this.#remove(this.#corners.length - 1, this.undo));
    this.clearing.addEventListener('click', () => this.#replace([], this.picture));
  }

  /** The corners, `[x, y]` each. */
  get corners() {
    return this.#corners.map((corner) => [...corner]);
  }

  /** Begins with these corners over the picture at `address`; where there is none, over darkness. */
  open(corners, address) {
    this.picture.style.aspectRatio = '';
    this.close();
    this.#address = address;
    this.#replace(corners.map((corner) => [...corner]));
    this.#look();
  }

  #look() {
    if (this.part.open && this.#address && !this.image.hasAttribute('src')) this.image.src = this.#address;
  }

  /** Lets go of the picture. */
  close() {
    this.#address = undefined;
    this.image.hidden = true;
    this.image.removeAttribute('src');
  }

  #at({ clientX, clientY }) {
    const { left, top, width, height } = this.picture.getBoundingClientRect();
    return [share((clientX - left) / width), share((clientY - top) / height)];
  }

  #add(corner, index) {
    if (this.#corners.length >= MOST_CORNERS) return;
    this.#corners.splice(index, 0, corner);
    this.#replace(this.#corners);
    this.handles.children[index].focus();
  }

  #remove(index, focus) {
    this.#corners.splice(index, 1);
    this.#replace(this.#corners);
    if (focus?.disabled || !focus) (this.handles.children[Math.min(index, this.#corners.length - 1)] ?? this.picture).focus();
  }

  #onKey(event) {
    const index = [...this.handles.children].indexOf(event.target);
    const arrow = ARROWS[event.key];
    if (event.key === 'Enter' || (event.key === ' ' && index < 0)) {
      // Inside a form Enter would save.
      this.#add(nextCorner(this.#corners), nextIndex(this.#corners));
    } else if (index >= 0 && arrow) {
      const step = event.shiftKey ? LEAP : STEP;
      this.#move(index, this.#corners[index].map((value, axis) => share(value + arrow[axis] * step)));
    } else if (index >= 0 && (event.key === 'Delete' || event.key === 'Backspace')) {
      this.#remove(index);
    } else {
      return;
    }
    event.preventDefault();
  }

  #move(index, corner) {
    this.#corners[index] = corner;
    this.#draw();
  }

  #replace(corners, focus) {
    this.#corners = corners;
    while (this.handles.children.length > corners.length) this.handles.lastElementChild.remove();
    while (this.handles.children.length < corners.length) this.handles.append(this.#handle());
    this.#draw();
    focus?.focus();
  }

  #handle() {
    const handle = document.createElement('button');
    handle.type = 'button';
    handle.className = 'zone-corner';
    handle.addEventListener('pointerdown', (event) => {
      handle.setPointerCapture(event.pointerId);
      const move = (to) => this.#move([...this.handles.children].indexOf(handle), this.#at(to));
      handle.addEventListener('pointermove', move);
      handle.addEventListener('lostpointercapture', () => handle.removeEventListener('pointermove', move), { once: true });
    });
    return handle;
  }

  #draw() {
    const corners = this.#corners;
    this.shape.setAttribute('points', corners.map(([x, y]) => `${x * 100},${y * 100}`).join(' '));
    corners.forEach(([x, y], index) => {
      const handle = this.handles.children[index];
      handle.style.left = `${x * 100}%`;
      handle.style.top = `${y * 100}%`;
      handle.setAttribute('aria-label', `Corner ${index + 1} of ${corners.length}: ${percent(x)} from the left, ${percent(y)} from the top`);
    });
    this.note.textContent = describeZone(corners);
    this.undo.disabled = this.clearing.disabled = corners.length === 0;
  }
}
