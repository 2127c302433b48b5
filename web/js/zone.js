// The zone of a camera, drawn on its picture in the camera's dialog.

import { ShapeEditor } from './shape.js';

/** What is to be said of these corners. */
export function describeZone(corners) {
  if (corners.length === 0) return 'The whole picture counts. Click corners on the picture to count in a part of it only.';
  if (corners.length < 3) return `${corners.length === 1 ? 'One corner' : 'Two corners'}: a zone needs three at least.`;
  return `${corners.length} corners: what stands inside counts.`;
}

export class ZoneEditor {
  #address;

  constructor(root) {
    const get = (id) => root.getElementById(`camera-zone-${id}`);
    this.part = root.getElementById('camera-zone');
    Object.assign(this, { picture: get('picture'), image: get('image'), note: get('note'), undo: get('undo'), clearing: get('clear') });
    this.shape = new ShapeEditor({ picture: this.picture, shape: get('shape'), handles: get('handles') });
    this.shape.addEventListener('change', () => {
      const corners = this.corners;
      this.note.textContent = describeZone(corners);
      this.undo.disabled = this.clearing.disabled = corners.length === 0;
    });
    // Not before somebody looks.
    this.part.addEventListener('toggle', () => this.#look());
    this.image.addEventListener('load', () => {
      this.picture.style.aspectRatio = `${this.image.naturalWidth} / ${this.image.naturalHeight}`;
      this.image.hidden = false;
    });
    this.image.addEventListener('error', () => (this.image.hidden = true));
    this.undo.addEventListener('click', () => this.shape.undo(this.undo));
    this.clearing.addEventListener('click', () => this.shape.replace([], this.picture));
  }

  /** The corners, `[x, y]` each. */
  get corners() {
    return this.shape.corners;
  }

  /** Begins with these corners over the picture at `address`; where there is none, over darkness. */
  open(corners, address) {
    this.picture.style.aspectRatio = '';
    this.close();
    this.#address = address;
    this.shape.replace(corners);
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
}
