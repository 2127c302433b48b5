// What can go wrong, said plainly: what happened, and what to do about it.

/** An error with a kind of `TEXTS`, or with the server's own words. */
export class Problem extends Error {
  /**
   * @param {string} kind a key of TEXTS, or 'refused-by-server'
   * @param {{detail?: string, retry?: boolean, waitMs?: number}} options `retry`: worth trying again by itself
   */
  constructor(kind, { detail, retry = false, waitMs = 0 } = {}) {
    super(detail ?? kind);
    this.kind = kind;
    this.detail = detail;
    this.retry = retry;
    this.waitMs = waitMs;
  }
}

// `after` follows the server's own message, which then stands in the place of `text`.
const TEXTS = {
  insecure: {
    title: 'This page may not use the camera',
    text: 'Browsers give the camera to secure pages only. Open this page as http://localhost on the machine itself, or put the server behind https. The test pattern works here too.',
  },
  'no-webrtc': {
    title: 'This browser has no WebRTC',
    text: 'Use a current Chrome, Edge, Firefox or Safari, and check that no extension turns WebRTC off.',
  },
  'no-h264': {
    title: 'This browser cannot send H.264',
    text: 'The server speaks H.264 with packetization mode 1. Chrome, Edge and Safari have it; Firefox fetches it as the OpenH264 plug-in a minute after its first start.',
  },
  'no-h264-decoder': {
    title: 'This browser cannot play H.264',
    text: 'Chrome, Edge and Safari have it; Firefox fetches it as the OpenH264 plug-in a minute after its first start.',
  },
  'no-stream': {
    title: 'There is no such stream',
    text: 'It ended, or its camera was removed.',
    after: '',
  },
  'not-now': {
    title: 'The stream cannot be watched now',
    text: 'The page tries again by itself.',
    after: 'The page tries again by itself.',
  },
  unauthorized: {
    title: 'The server asks for its token',
    text: 'Viewers send the one that stands in its configuration ([server] bearer_token).',
    after: '',
  },
  'camera-refused': {
    title: 'The camera was refused',
    text: 'Allow the camera for this page: press the camera or lock sign beside the address, choose Allow, then start again. Or take the test pattern, which needs no camera.',
  },
  'screen-refused': {
    title: 'No screen was shared',
    text: 'The choice was cancelled, or the system forbids sharing. Press Start to choose again.',
  },
  'camera-missing': {
    title: 'No camera was found',
    text: 'Plug one in and press Start, or choose the shared screen or the test pattern as the source.',
  },
  'camera-busy': {
    title: 'The camera is in use',
    text: 'Another program or tab holds it, or the system withholds it. Close the other one, then press Start.',
  },
  'camera-limits': {
    title: 'The camera cannot do that',
    text: 'It offers no such size or frame rate. Choose another size, then press Start.',
  },
  'source-ended': {
    title: 'The source ended',
    text: 'The camera was unplugged or the sharing was stopped. Press Start to begin again.',
  },
  away: {
    title: 'The server is away',
    text: 'It does not answer. Check that it runs; the page connects again by itself.',
  },
  full: {
    title: 'The server is full',
    text: 'It serves as many sessions as it may (max_sessions in its configuration). The page tries again by itself.',
    after: 'The page tries again by itself.',
  },
  lost: {
    title: 'The connection was lost',
    text: 'The page connects again by itself.',
  },
  silent: {
    title: 'The video stopped coming',
    text: 'The connection stands, but no frame came for five seconds. The page connects again by itself.',
  },
  'no-path': {
    title: 'The video finds no way to the server',
    text: 'The server answers over HTTP, but its UDP port (8189 unless set) cannot be reached. Open it in the firewall; behind NAT or in a container start the server with --public-ip.',
  },
  closed: {
    title: 'The server closed the session',
    text: 'Press Start for a new one.',
  },
  foreign: {
    title: 'The server does not accept this address',
    text: 'It answers only to names on its allow-list. Open it by the address that it printed at its start, or add this one to its configuration.',
    after: '',
  },
  taken: {
    title: 'The stream’s name is taken',
    text: 'The server still holds the last session of this name. The page tries again by itself.',
    after: 'The page tries again by itself.',
  },
  unexpected: {
    title: 'Something went wrong',
    text: 'Press Start to try again. The browser’s console tells more.',
  },
};

/** Title and text for a problem. The server's own message is more exact than ours, where there is one. */
export function describe(problem) {
  if (problem.kind === 'refused-by-server') {
    return { title: 'The server refused', text: problem.detail || 'It gave no reason.' };
  }
  const { title, text, after } = TEXTS[problem.kind] ?? TEXTS.unexpected;
  if (after !== undefined && problem.detail) return { title, text: `${problem.detail} ${after}`.trim() };
  return { title, text: problem.detail ? `${text} (${problem.detail})` : text };
}

/** The problem behind an exception of getUserMedia or getDisplayMedia. */
export function mediaProblem(error, source) {
  switch (error?.name) {
    case 'NotAllowedError':
    case 'SecurityError':
      return new Problem(source === 'screen' ? 'screen-refused' : 'camera-refused');
    case 'NotFoundError':
    case 'DevicesNotFoundError':
      return new Problem('camera-missing');
    case 'NotReadableError':
    case 'AbortError':
    case 'TrackStartError':
      return new Problem('camera-busy');
    case 'OverconstrainedError':
      return new Problem('camera-limits');
    default:
      return error instanceof Problem ? error : new Problem('unexpected', { detail: error?.message });
  }
}

const BUSY_WAIT_MS = 5000;
// The server notices a vanished page within five seconds.
const TAKEN_WAIT_MS = 2000;

/** The problem behind an HTTP answer that is not a success. */
export function httpProblem(status, body, retryAfter) {
  const detail = body?.error?.message;
  if (status === 503 || status === 429) {
    const seconds = Number(retryAfter);
    const waitMs = seconds > 0 ? seconds * 1000 : BUSY_WAIT_MS;
    return new Problem('full', { detail, retry: true, waitMs });
  }
  if (status >= 500) return new Problem('away', { detail: detail ?? `HTTP ${status}`, retry: true });
  if (status === 409) return new Problem('taken', { detail, retry: true, waitMs: TAKEN_WAIT_MS });
  if (status === 403 || status === 421) return new Problem('foreign', { detail });
  return new Problem('refused-by-server', { detail: detail ?? `HTTP ${status}` });
}
