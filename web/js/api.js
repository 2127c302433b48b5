// The server's HTTP interface, as far as the page needs it.

import { Problem, httpProblem } from './problems.js';

const TIMEOUT_MS = 10_000;

async function request(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { cache: 'no-store', signal: AbortSignal.timeout(TIMEOUT_MS), ...options });
  } catch {
    throw new Problem('away', { retry: true });
  }
  if (response.status === 204) return undefined;
  const body = await response.json().catch(() => undefined);
  if (!response.ok) throw httpProblem(response.status, body, response.headers.get('retry-after'));
  if (body === undefined) throw new Problem('away', { detail: 'its answer is not JSON', retry: true });
  return body;
}

/** Version, model, palette, default thresholds, warnings. */
export const info = () => request('/api/v1/info');

const json = (method, body) => ({ method, headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) });
const camera = (name) => `/api/v1/cameras/${encodeURIComponent(name)}`;

/** Every stream with its state and its counters. */
export const streams = async () => (await request('/api/v1/streams')).streams ?? [];

const streamPath = (name) => `/api/v1/streams/${encodeURIComponent(name)}`;

/** One stream with its state and its counters. */
export const stream = (name) => request(streamPath(name));

/** The zones and lines of a stream: `regions` by name, and `draw`. */
export const regions = (name) => request(`${streamPath(name)}/regions`);

/** Puts these in the place of those there are. */
export const setRegions = (name, wanted) => request(`${streamPath(name)}/regions`, json('PUT', wanted));

/** `cameras`: every camera with its configuration, passwords not in it; `can_persist`: whether one can be kept. */
export const cameras = () => request('/api/v1/cameras');

/** Adds a camera. */
export const addCamera = (config) => request('/api/v1/cameras', json('POST', config));

/** Changes what is in `changes` of a camera, and leaves the rest. */
export const changeCamera = (name, changes) => request(camera(name), json('PATCH', changes));

/** Removes a camera. */
export const removeCamera = (name) => request(camera(name), { method: 'DELETE' });

/** The address of a stream's newest picture, about as wide as asked for. */
export const snapshotAddress = (name, video, width) =>
  `${streamPath(name)}/snapshot.jpg?${new URLSearchParams({ video, width: String(width) })}`;

/** Sends an offer; the answer names the session and the stream. */
export const offer = ({ sdp, type }, stream) =>
  request('/offer', json('POST', stream ? { sdp, type, stream } : { sdp, type }));

/** Ends a session; survives the page that asks. The server also notices by itself, so a failure is nobody's loss. */
export function leave(session) {
  fetch(`/api/v1/sessions/${encodeURIComponent(session)}`, { method: 'DELETE', keepalive: true }).catch(() => {});
}
