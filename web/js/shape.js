// A shape drawn on a picture: the corners of a polygon or the ends of a line, each a share of width and height. A click sets a
// corner; a corner is dragged, or moved with the arrow keys and taken away with Delete.

/** The server takes no more corners of a polygon. */
export const MOST_CORNERS = 64;

const STEP = 0.01;
const LEAP = 0.05;
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

const share = (value) => Math.round(Math.min(Math.max(value, 0), 1) * 10_000) / 10_000;
const percent = (value) => `${Math.round(value * 100)} %`;

/** The `points` of an SVG shape in a box of 100 by 100. */
export const pointsOf = (corners) => corners.map(([x, y]) => `${x * 100},${y * 100}`).join(' ');

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

/** Event `change`: the corners are others. */
export class ShapeEditor extends EventTarget {
  #corners = [];

  /**
   * @param {{picture: HTMLElement, shape: SVGElement, handles: HTMLElement}} places `picture` has the picture's own bounds, and is
   *   clicked; `shape` is drawn in a box of 100 by 100 over it; `handles` holds the corners' buttons
   */
  constructor({ picture, shape, handles }) {
    super();
    Object.assign(this, { picture, shape, handles });
    /** How many corners there may be. */
    this.most = MOST_CORNERS;
    picture.addEventListener('click', (event) => {
      if (event.target.closest('button')) return;
      this.#add(this.#at(event), this.#corners.length);
    });
    picture.addEventListener('keydown', (event) => this.#onKey(event));
  }

  /** The corners, `[x, y]` each. */
  get corners() {
    return this.#corners.map((corner) => [...corner]);
  }

  /** Puts these in the place of those there are; `focus` has the focus then. */
  replace(corners, focus) {
    this.#corners = corners.map((corner) => [...corner]);
    const { children } = this.handles;
    while (children.length > corners.length) this.handles.lastElementChild.remove();
    while (children.length < corners.length) this.handles.append(this.#handle());
    this.#draw();
    focus?.focus();
  }

  /** Takes the last corner away; the focus stays where it is, unless that is `button` and there is nothing left to undo. */
  undo(button) {
    this.#remove(this.#corners.length - 1, button);
  }

  #at({ clientX, clientY }) {
    const { left, top, width, height } = this.picture.getBoundingClientRect();
    return [share((clientX - left) / width), share((clientY - top) / height)];
  }

  #add(corner, index) {
    if (this.#corners.length >= this.most) return;
    this.replace(this.#corners.toSpliced(index, 0, corner));
    this.handles.children[index].focus();
  }

  #remove(index, focus) {
    this.replace(this.#corners.toSpliced(index, 1));
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
    this.shape.setAttribute('points', pointsOf(corners));
    corners.forEach(([x, y], index) => {
      const handle = this.handles.children[index];
      handle.style.left = `${x * 100}%`;
      handle.style.top = `${y * 100}%`;
      handle.setAttribute('aria-label', `Corner ${index + 1} of ${corners.length}: ${percent(x)} from the left, ${percent(y)} from the top`);
    });
    this.dispatchEvent(new Event('change'));
  }
}
