// The dialogs for cameras: add, edit, remove. What is wrong is said in the dialog, in the server's own words where it has any.

import * as api from './api.js';
import { formOf, requestOf } from './camera.js';
import { describe } from './problems.js';
import { ZoneEditor } from './zone.js';

/** How wide a picture to draw a zone on is asked for, for a dense screen too. */
const ZONE_PICTURE = 1040;

const ORIGINS = {
  config: 'This camera stands in the configuration file, which stays as it is: a change here lasts until the server starts again.',
  flag: 'This camera was named by a flag when the server started: a change here lasts until it starts again.',
};

const AGAIN = {
  config: 'It stands in the configuration file, and is back at the next start.',
  flag: 'It was named by a flag, and is back at the next start.',
};

const words = (problem) => problem.detail || describe(problem).text;

function say(place, text) {
  place.textContent = text ?? '';
  place.hidden = !text;
}

/** Event `saved` {name}: the server has taken a camera or a change. */
export class CameraDialog extends EventTarget {
  #camera;

  constructor(root) {
    super();
    const get = (id) => root.getElementById(`camera-${id}`);
    Object.assign(this, { dialog: get('dialog'), form: get('form'), title: get('title'), note: get('note'), problem: get('problem'), button: get('save'), more: get('more'), zonePart: get('zone') });
    this.zone = new ZoneEditor(root);
    get('cancel').addEventListener('click', () => this.dialog.close());
    this.form.addEventListener('submit', (event) => {
      event.preventDefault();
      this.#save();
    });
    this.dialog.addEventListener('close', () => {
      // A password stays nowhere, not even in a dialog that is shut.
      this.form.reset();
      this.zone.close();
    });
  }

  /** Opens the dialog for a camera as the API gave it, or for a new one. `canPersist`: whether the server can keep it. */
  open(camera, canPersist) {
    this.#camera = camera;
    const fields = formOf(camera, canPersist);
    const { elements } = this.form;
    for (const [name, value] of Object.entries(fields)) {
      const field = elements[name];
      if (!field) continue;
      if (field.type === 'checkbox') field.checked = value;
      else field.value = value;
    }
    this.title.textContent = camera ? `Edit ${camera.name}` : 'Add a camera';
    this.button.textContent = camera ? 'Save' : 'Add';
    elements.name.closest('.field').hidden = Boolean(camera);
    elements.persist.closest('label').hidden = !canPersist;
    elements.password.placeholder = fields.hidden ? 'unchanged' : '';
    // A camera that is not there yet has no picture to draw on.
    this.zonePart.hidden = !camera;
    this.zonePart.open = fields.zone.length > 0;
    this.zone.open(fields.zone, camera && api.snapshotAddress(camera.name, 'original', ZONE_PICTURE));
    this.more.open = Boolean(camera && (camera.detect_url || camera.model || camera.on_demand || (camera.priority ?? 1) !== 1));
    say(this.note, ORIGINS[camera?.origin]);
    this.#refuse(undefined);
    this.dialog.showModal();
    (camera ? elements.address : elements.name).focus();
  }

  #refuse(problem) {
    for (const field of this.form.elements) field.removeAttribute('aria-invalid');
    say(this.problem, problem?.message);
    if (problem?.field === 'zone') {
      this.zonePart.open = true;
      this.zone.picture.focus();
    }
    const field = problem?.field && this.form.elements[problem.field];
    if (!field) return;
    field.setAttribute('aria-invalid', 'true');
    const more = field.closest('details');
    if (more) more.open = true;
    field.focus();
  }

  async #save() {
    const { elements } = this.form;
    const entered = Object.fromEntries(
      [...elements].filter(({ name }) => name).map((field) => [field.name, field.type === 'checkbox' ? field.checked : field.value]),
    );
    entered.zone = this.zone.corners;
    const camera = this.#camera;
    const { body, problem } = requestOf(entered, camera);
    this.#refuse(problem);
    if (problem) return;
    if (Object.keys(body).length === 0) {
      this.dialog.close();
      return;
    }
    this.button.disabled = true;
    try {
      await (camera ? api.changeCamera(camera.name, body) : api.addCamera(body));
      this.dialog.close();
      this.dispatchEvent(new CustomEvent('saved', { detail: { name: camera?.name ?? body.name } }));
    } catch (refused) {
      this.#refuse({ message: words(refused) });
    } finally {
      this.button.disabled = false;
    }
  }
}

/** Asks before a camera is removed. Event `removed` {name}. */
export class RemoveDialog extends EventTarget {
  #name;

  constructor(root) {
    super();
    const get = (id) => root.getElementById(`remove-${id}`);
    Object.assign(this, { dialog: get('dialog'), title: get('title'), note: get('note'), problem: get('problem'), button: get('go') });
    get('cancel').addEventListener('click', () => this.dialog.close());
    get('form').addEventListener('submit', (event) => {
      event.preventDefault();
      this.#remove();
    });
  }

  open(name, { viewers = 0, origin } = {}) {
    this.#name = name;
    this.title.textContent = `Remove ${name}?`;
    const watching = viewers > 0 ? `${viewers} ${viewers === 1 ? 'viewer loses' : 'viewers lose'} the picture. ` : '';
    const again = AGAIN[origin] ?? 'The camera itself is not touched.';
    this.note.textContent = watching + again;
    say(this.problem, undefined);
    this.dialog.showModal();
  }

  async #remove() {
    this.button.disabled = true;
    try {
      await api.removeCamera(this.#name);
      this.dialog.close();
      this.dispatchEvent(new CustomEvent('removed', { detail: { name: this.#name } }));
    } catch (refused) {
      say(this.problem, words(refused));
    } finally {
      this.button.disabled = false;
    }
  }
}

export { words };
