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
  const body = await response.json().catch(() => undefined);
  if (!response.ok) throw httpProblem(response.status, body, response.headers.get('retry-after'));
  if (body === undefined) throw new Problem('away', { detail: 'its answer is not JSON', retry: true });
  return body;
}

/** Version, model, palette, default thresholds, warnings. */
export const info = () => request('/api/v1/info');

/** Sends an offer; the answer names the session and the stream. */
export const offer = ({ sdp, type }, stream) =>
  request('/offer', {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(stream ? { sdp, type, stream } : { sdp, type }),
  });

/** Ends a session; survives the page that asks. The server also notices by itself, so a failure is nobody's loss. */
export function leave(session) {
  fetch(`/api/v1/sessions/${encodeURIComponent(session)}`, { method: 'DELETE', keepalive: true }).catch(() => {});
}
