// A camera as a form has it, and as the API has it. No browser is needed here.
//
// The server never tells a password: an address comes as `rtsp://user:***@host/path`. So the form has the password in a
// field of its own, which is empty for an unknown one, and an address that was not touched is not sent.

const HIDDEN = '***';
const PARTS = /^([a-z][a-z0-9+.-]*:(?:\/\/)?)(?:([^@/]*)@)?(.*)$/i;

const decoded = (text) => {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
};

/**
 * Takes an address apart.
 * @returns {{address: string, user: string, password: string, hidden: boolean}} `address` without user and password;
 *   `hidden`: there is a password, which the server keeps to itself
 */
export function splitAddress(url = '') {
  const [, scheme, credentials, rest] = PARTS.exec(url.trim()) ?? [];
  if (credentials === undefined) return { address: url.trim(), user: '', password: '', hidden: false };
  const colon = credentials.indexOf(':');
  const user = decoded(colon < 0 ? credentials : credentials.slice(0, colon));
  const password = colon < 0 ? '' : credentials.slice(colon + 1);
  const hidden = password === HIDDEN;
  return { address: scheme + rest, user, password: hidden ? '' : decoded(password), hidden };
}

/** Puts an address together again. */
export function joinAddress({ address, user, password }) {
  const [, scheme, , rest] = PARTS.exec(address.trim()) ?? [];
  if (!user && !password) return address.trim();
  if (scheme === undefined) return address.trim();
  const credentials = encodeURIComponent(user) + (password ? `:${encodeURIComponent(password)}` : '');
  return `${scheme}${credentials}@${rest}`;
}

/** The fields of the form for a camera, or for a new one; a new one is kept where that is possible. */
export function formOf(camera, canPersist = true) {
  const { address, user, hidden } = splitAddress(camera?.url);
  return {
    name: camera?.name ?? '',
    address,
    user,
    password: '',
    hidden,
    transport: camera?.transport ?? 'tcp',
    detect_url: camera?.detect_url ?? '',
    mode: camera?.mode ?? 'annotated',
    model: camera?.model ?? '',
    priority: String(camera?.priority ?? 1),
    on_demand: camera?.on_demand ?? false,
    zone: camera?.zone ?? [],
    persist: canPersist && (camera ? Boolean(camera.persisted) : true),
  };
}

/** Corners are compared one by one, all else as it is. */
const alike = (a, b) => a === b || (Array.isArray(a) && Array.isArray(b) && JSON.stringify(a) === JSON.stringify(b));

/** What is wrong with an entry, by field. Only what the server could not say better. */
function check(form, before) {
  if (!before && !form.name.trim()) return { field: 'name', message: 'Give the camera a name.' };
  if (!form.address.trim()) return { field: 'address', message: 'Give the camera’s address, as rtsp://192.168.1.20/stream1.' };
  if (form.password && !form.user) return { field: 'user', message: 'A password needs a user name.' };
  if (!/^[1-9]\d*$/.test(form.priority.trim())) return { field: 'priority', message: 'The priority is a whole number from 1.' };
  if (form.zone.length === 1 || form.zone.length === 2) return { field: 'zone', message: 'A zone has three corners at least: click more of them, or clear it.' };
  return undefined;
}

/**
 * What to send to the API.
 * @param {object} entered the form's fields
 * @param {object|undefined} camera what is edited, as the API gave it; undefined for a new camera
 * @returns {{body?: object, problem?: {field: string, message: string}}} `body` holds only what was changed
 */
export function requestOf(entered, camera) {
  const before = camera ? formOf(camera) : undefined;
  const form = { ...entered };
  // A whole address may have been pasted.
  const pasted = splitAddress(form.address);
  form.address = pasted.address;
  if (pasted.user || pasted.password) Object.assign(form, { user: form.user || pasted.user, password: form.password || pasted.password });
  const problem = check(form, before);
  if (problem) return { problem };
  const same = before && form.address === before.address && form.user === before.user && !form.password;
  if (!same) {
    if (form.address.includes(HIDDEN)) return { problem: { field: 'address', message: 'A part of the address is hidden (***): enter it whole.' } };
    if (before?.hidden && form.user && !form.password) {
      return { problem: { field: 'password', message: 'Enter the password again: the page does not know it, and the address or the user changed.' } };
    }
  }
  const url = same ? undefined : joinAddress(form);
  const detect = form.detect_url.trim();
  if (detect.includes(HIDDEN) && detect !== before?.detect_url) {
    return { problem: { field: 'detect_url', message: 'A part of the address is hidden (***): enter it whole.' } };
  }
  const all = {
    url,
    transport: form.transport,
    detect_url: detect || null,
    mode: form.mode,
    model: form.model.trim() || null,
    priority: Number(form.priority),
    on_demand: form.on_demand,
    zone: form.zone.length > 0 ? form.zone : null,
  };
  const had = before && { ...before, url: undefined, detect_url: before.detect_url || null, model: before.model || null, priority: Number(before.priority), zone: before.zone.length > 0 ? before.zone : null };
  const body = {};
  for (const [key, value] of Object.entries(all)) {
    if (value === undefined) continue;
    // A new camera leaves out what is empty; a changed one tells that it became so.
    if (had ? !alike(had[key], value) : value !== null) body[key] = value;
  }
  if (!before) body.name = form.name.trim();
  if (before ? form.persist !== Boolean(camera.persisted) : form.persist) body.persist = form.persist;
  return { body };
}
