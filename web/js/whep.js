// One viewer of a stream, by WHEP: an offer that only receives, DELETE on leaving, and coming back by itself.

import { httpProblem, Problem } from './problems.js';
import { Link, h264Codecs, playAtOnce } from './link.js';

const TIMEOUT_MS = 10_000;

/** The address that a viewer of a stream posts its offer to. */
export function whepAddress(stream, video) {
  const query = video ? `?video=${encodeURIComponent(video)}` : '';
  return `/whep/${encodeURIComponent(stream)}${query}`;
}

/**
 * Posts an offer.
 * @returns {Promise<{sdp: string, resource: string|undefined}>} the answer, and the address that ends what it began
 * @throws {Problem}
 */
export async function postOffer(address, sdp, { token, fetch = globalThis.fetch, base = globalThis.document?.baseURI } = {}) {
  let response;
  try {
    response = await fetch(address, {
      method: 'POST',
      headers: { 'content-type': 'application/sdp', ...bearer(token) },
      body: sdp,
      cache: 'no-store',
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
  } catch {
    throw new Problem('away', { retry: true });
  }
  const text = await response.text().catch(() => '');
  if (response.status !== 201) throw viewProblem(response.status, text, response.headers.get('retry-after'));
  const location = response.headers.get('location');
  const resource = location ? new URL(location, new URL(address, base)).href : undefined;
  if (!text.startsWith('v=')) throw new Problem('away', { detail: 'its answer is not SDP', retry: true });
  return { sdp: text, resource };
}

const bearer = (token) => (token ? { authorization: `Bearer ${token}` } : {});

/** Ends a viewer's session; survives the page that asks. The server also notices by itself, so a failure is nobody's loss. */
export function deleteResource(resource, { token, fetch = globalThis.fetch } = {}) {
  if (resource) fetch(resource, { method: 'DELETE', keepalive: true, headers: bearer(token) }).catch(() => {});
}

function viewProblem(status, text, retryAfter) {
  let body;
  try {
    body = JSON.parse(text);
  } catch {
    body = undefined;
  }
  const detail = body?.error?.message;
  if (status === 404) return new Problem('no-stream', { detail });
  if (status === 401) return new Problem('unauthorized');
  // Neither publisher nor name is ours to wait for: the server says what is in the way.
  if (status === 409) return new Problem('not-now', { detail, retry: true, waitMs: 2000 });
  return httpProblem(status, body, retryAfter);
}

/** Events of `Link`, and `video` {stream}, `audio` {stream}: a track has come; audio only once there is some to hear. */
export class Viewer extends Link {
  #resource;
  /** What a server that asks for one is told; it lasts as long as the page. */
  token;

  /** Watches a stream, and comes back by itself until `stop`. */
  start(name, video) {
    this.stop();
    this.name = name;
    this.video = video;
    this.begin();
  }

  async dial(pc, current) {
    const codecs = h264Codecs(globalThis.RTCRtpReceiver?.getCapabilities?.('video'));
    if (codecs.length === 0) throw new Problem('no-h264-decoder');
    pc.addTransceiver('video', { direction: 'recvonly' }).setCodecPreferences?.(codecs);
    pc.addTransceiver('audio', { direction: 'recvonly' });
    pc.addEventListener('track', ({ track, receiver }) => {
      if (!current()) return;
      if (track.kind === 'video') {
        playAtOnce(receiver);
        this.emit('video', { stream: new MediaStream([track]), receiver });
        return;
      }
      // A track is there whenever the server takes the audio section; it is unmuted by the first sound.
      const heard = () => current() && this.emit('audio', { stream: new MediaStream([track]) });
      if (track.muted) track.addEventListener('unmute', heard, { once: true });
      else heard();
    });
    const { sdp } = await this.describe(pc);
    if (!current()) return;
    const answer = await postOffer(whepAddress(this.name, this.video), sdp, { token: this.token });
    if (!current()) {
      deleteResource(answer.resource, { token: this.token });
      return;
    }
    this.#resource = answer.resource;
    await this.accept(pc, { type: 'answer', sdp: answer.sdp }, current);
  }

  farewell() {
    deleteResource(this.#resource, { token: this.token });
    this.#resource = undefined;
  }

  // A viewer's session that the server ends may be begun again: its stream may be back at once, and 404 says if not.
  ended({ message }) {
    return new Problem('lost', { detail: message, retry: true });
  }
}
