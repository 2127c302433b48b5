// The state of a stream in words. No browser is needed here.

const KINDS = { camera: 'Camera', whip: 'WHIP', offer: 'Webcam' };

/** Milliseconds as a person says them. */
export function span(ms) {
  if (!Number.isFinite(ms)) return undefined;
  if (ms < 950) return `${Math.max(0, Math.round(ms / 100) / 10).toFixed(1)} s`;
  const seconds = Math.round(ms / 1000);
  if (seconds < 100) return `${seconds} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172_800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86_400)} d`;
}

/** Milliseconds since the camera's last frame, for what was told `ageMs` ago; undefined before the first frame. */
export const sinceLastFrame = ({ camera }, ageMs) => (Number.isFinite(camera?.since_last_frame_ms) ? camera.since_last_frame_ms + ageMs : undefined);

// word: what the chip says; tone: its colour; hint: what to do, where the server's own reason does not say it.
const STATES = {
  connecting: { word: 'Connecting', tone: 'busy' },
  live: { word: 'Live', tone: 'live' },
  stalled: { word: 'No signal', tone: 'bad' },
  backoff: { word: 'Retrying', tone: 'bad' },
  unauthorized: { word: 'Unauthorized', tone: 'bad', hint: 'The camera refuses the user name or the password: edit the camera.' },
  unsupported: { word: 'Unsupported', tone: 'bad', hint: 'The server cannot decode this stream.' },
  disabled: { word: 'Paused', tone: 'idle', hint: 'The camera is not connected to until it is resumed.' },
  idle: { word: 'Idle', tone: 'idle', hint: 'The camera is opened when somebody watches.' },
};

/** The name of a stream's kind. */
export const kindOf = (stream) => KINDS[stream.kind] ?? 'Stream';

/**
 * A stream's state in words.
 * @param {object} stream as `GET /api/v1/streams` gives it
 * @param {number} ageMs how long ago it was asked for
 * @returns {{state: string, word: string, tone: string, detail: string}} detail: why, and what comes next; may be empty
 */
export function describeState(stream, ageMs = 0) {
  const camera = stream.camera;
  if (!camera) {
    // A publisher has no supervisor: what stands in its picture tells.
    if (!stream.no_signal) return { state: 'live', word: 'Live', tone: 'live', detail: '' };
    return { state: 'stalled', word: 'No signal', tone: 'bad', detail: 'Nothing comes from the publisher.' };
  }
  const { word, tone, hint = '' } = STATES[camera.state] ?? { word: String(camera.state ?? 'Unknown'), tone: 'idle' };
  const reason = camera.last_error ?? '';
  let detail = reason || hint;
  if (camera.state === 'live') detail = '';
  if (camera.state === 'disabled' || camera.state === 'idle') detail = hint;
  if (camera.state === 'stalled') {
    const since = span(sinceLastFrame(stream, ageMs));
    detail = [since ? `No frame for ${since}.` : '', reason].filter(Boolean).join(' ');
  }
  const retry = Number.isFinite(camera.retry_in_ms) && camera.state !== 'live' && camera.state !== 'disabled' ? Math.max(0, camera.retry_in_ms - ageMs) : undefined;
  if (retry !== undefined && camera.state !== 'connecting') {
    const next = retry < 500 ? 'Trying again.' : `Next try in ${Math.ceil(retry / 1000)} s.`;
    detail = [detail && sentence(detail), next].filter(Boolean).join(' ');
  }
  return { state: camera.state, word, tone, detail };
}

const sentence = (text) => (/[.!?]$/.test(text) ? text : `${text}.`);

/** How many streams are in which condition, as one sentence. */
export function summary(states) {
  if (states.length === 0) return 'No streams';
  const count = (test) => states.filter(test).length;
  const parts = [
    [count(({ tone }) => tone === 'live'), 'live'],
    [count(({ tone }) => tone === 'busy'), 'connecting'],
    [count(({ tone }) => tone === 'bad'), 'in trouble'],
    [count(({ state }) => state === 'idle'), 'idle'],
    [count(({ state }) => state === 'disabled'), 'paused'],
  ];
  return parts.filter(([number]) => number > 0).map(([number, what]) => `${number} ${what}`).join(' · ');
}

/** What the page's address asks for: `#/`, `#/streams`, `#/streams/NAME`, `#/streams/NAME?video=original`. */
export function route(hash) {
  const [, view = '', name = '', query = ''] = /^#?\/?([^/?]*)\/?([^?]*)\??(.*)/.exec(hash) ?? [];
  if (view !== 'streams') return { view: 'webcam' };
  let stream;
  try {
    stream = decodeURIComponent(name);
  } catch {
    stream = '';
  }
  if (!stream) return { view: 'wall' };
  const video = new URLSearchParams(query).get('video');
  return { view: 'watch', stream, video: video === 'annotated' || video === 'original' ? video : undefined };
}

/** The address of a stream's full view. */
export const watchAddress = (name) => `#/streams/${encodeURIComponent(name)}`;
