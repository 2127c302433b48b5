// One connection with the server that comes back by itself: the peer connection, the datachannel, the watching over both.
// What is offered, and where, is the matter of who extends it.

import { Problem } from './problems.js';

const CONNECT_TIMEOUT_MS = 10_000;
const GATHER_MS = 50;
const DISCONNECTED_GRACE_MS = 2500;
const SILENT_MS = 5000;
const SETTLED_MS = 10_000;
const PING_MS = 1000;
/** Times of more pings in the first second, so that the clocks are joined before anybody looks. */
const FIRST_PINGS_MS = [100, 200, 350, 500, 750];
const BACKOFF_MS = [500, 1000, 2000, 4000, 8000, 10_000];

/**
 * Events: `state` {state, problem?, retryAt?}, `message` {message}, `channel` {open}, `rtt` {ms, offset?, at}, `losing` (the
 * picture is about to go). States: idle, connecting, live, waiting (for the next attempt), failed.
 *
 * Who extends it has `dial(pc, current)`, which negotiates and calls `accept(pc, answer, current)` with what came, and
 * `farewell()`, which tells the server of an end that the connection itself may not get out.
 */
export class Link extends EventTarget {
  #pc;
  #channel;
  #timers = new Set();
  #attempts = 0;
  #generation = 0;
  #pings = new Map();
  #nextId = 1;
  #framesSeenAt = 0;

  constructor() {
    super();
    this.state = 'idle';
    /** Whether nobody can see the picture: its silence then says nothing. */
    this.unseen = false;
  }

  get peer() {
    return this.#pc;
  }

  stop() {
    this.#generation += 1;
    this.#close();
    this.#set('idle');
  }

  /** Tries again now instead of at the end of the wait. */
  retryNow() {
    if (this.state === 'waiting') this.connect();
  }

  /** Sends a message; returns its id, or undefined while the channel is closed. */
  send(message) {
    if (this.#channel?.readyState !== 'open') return undefined;
    const id = this.#nextId++;
    this.#channel.send(JSON.stringify({ ...message, id }));
    return id;
  }

  /** A frame was shown. */
  frameSeen(now) {
    this.#framesSeenAt = now;
  }

  /** Begins anew, without waiting. */
  begin() {
    this.#attempts = 0;
    return this.connect();
  }

  async connect() {
    this.#close();
    const generation = ++this.#generation;
    const current = () => generation === this.#generation;
    this.#set('connecting');
    try {
      if (!globalThis.RTCPeerConnection) throw new Problem('no-webrtc');
      const pc = new RTCPeerConnection({ bundlePolicy: 'max-bundle' });
      this.#pc = pc;
      this.#openChannel(pc, current);
      await this.dial(pc, current);
    } catch (error) {
      if (!current()) return;
      const problem = error instanceof Problem ? error : new Problem('unexpected', { detail: error?.message });
      if (!(error instanceof Problem)) console.error(error);
      this.fail(problem);
    }
  }

  /** The local description, with the candidates that are there at once. */
  async describe(pc) {
    await pc.setLocalDescription();
    await gathered(pc);
    return pc.localDescription;
  }

  /** Takes the answer, waits for the connection, and watches over it. */
  async accept(pc, answer, current, before = () => {}) {
    const connected = this.#connected(pc, current);
    // Whoever loses the race below must not leave an unhandled rejection behind.
    connected.catch(() => {});
    await pc.setRemoteDescription(answer);
    await before();
    await connected;
    if (!current()) return;
    this.#watch(pc, current);
    this.#set('live');
  }

  #openChannel(pc, current) {
    const channel = pc.createDataChannel('detections', { ordered: false, maxRetransmits: 0 });
    this.#channel = channel;
    channel.addEventListener('open', () => {
      if (!current()) return;
      this.emit('channel', { open: true });
      this.#ping();
      for (const wait of FIRST_PINGS_MS) this.#after(wait, () => this.#ping());
      this.#every(PING_MS, () => this.#ping());
    });
    channel.addEventListener('close', () => {
      if (!current()) return;
      this.emit('channel', { open: false });
      if (this.state === 'live') this.fail(new Problem('lost', { retry: true }));
    });
    channel.addEventListener('message', ({ data }) => {
      if (current()) this.#receive(data);
    });
  }

  #receive(data) {
    let message;
    try {
      message = JSON.parse(data);
    } catch {
      return;
    }
    if (message === null || typeof message !== 'object') return;
    const pinged = this.#pings.get(message.id);
    if (pinged !== undefined) {
      this.#pings.delete(message.id);
      if (message.type !== 'pong') return;
      const now = performance.now();
      const ms = now - pinged;
      // What to add to this page's time to get the server's, in Unix milliseconds; off by half the round trip at most.
      const at = pinged + ms / 2;
      const offset = Number.isFinite(message.server_ms) ? message.server_ms - at : undefined;
      this.emit('rtt', { ms, offset, at });
      return;
    }
    if (message.type === 'error' && message.code === 'session_ended') {
      this.fail(this.ended(message));
      return;
    }
    this.emit('message', { message });
  }

  /** The problem that an end by the server's will is. */
  ended({ message }) {
    return new Problem('closed', { detail: message });
  }

  #ping() {
    const now = performance.now();
    const id = this.send({ type: 'ping', t: now });
    if (id === undefined) return;
    this.#pings.set(id, now);
    if (this.#pings.size > 8) this.#pings.delete(this.#pings.keys().next().value);
  }

  #connected(pc, current) {
    return new Promise((resolve, reject) => {
      const noPath = () => reject(new Problem('no-path', { retry: true }));
      this.#after(CONNECT_TIMEOUT_MS, noPath);
      pc.addEventListener('connectionstatechange', () => {
        if (pc.connectionState === 'connected') resolve();
        else if (pc.connectionState === 'failed' && current()) noPath();
      });
    });
  }

  #watch(pc, current) {
    const lost = (kind) => current() && this.fail(new Problem(kind, { retry: true }));
    pc.addEventListener('connectionstatechange', () => {
      if (pc.connectionState === 'failed') lost('lost');
      if (pc.connectionState !== 'disconnected') return;
      this.#after(DISCONNECTED_GRACE_MS, () => {
        if (pc.connectionState === 'disconnected') lost('lost');
      });
    });
    this.#framesSeenAt = performance.now();
    this.#every(1000, () => {
      // A hidden page is shown no frames, and a source muted by the system sends none: neither is the server's fault.
      if (document.hidden || this.unseen || this.silentByItself()) this.#framesSeenAt = performance.now();
      else if (performance.now() - this.#framesSeenAt > SILENT_MS) lost('silent');
    });
    this.#after(SETTLED_MS, () => {
      this.#attempts = 0;
    });
  }

  /** Whether no frame is to be expected, for a reason on this side. */
  silentByItself() {
    return false;
  }

  fail(problem) {
    this.#generation += 1;
    this.emit('losing');
    this.#close();
    if (!problem.retry) {
      this.#set('failed', { problem });
      return;
    }
    const step = BACKOFF_MS[Math.min(this.#attempts, BACKOFF_MS.length - 1)];
    this.#attempts += 1;
    // Spread, so that a server that restarts is not met by all its pages at once.
    const wait = Math.max(step, problem.waitMs) * (0.8 + 0.4 * Math.random());
    this.#set('waiting', { problem, retryAt: performance.now() + wait });
    this.#after(wait, () => this.connect());
  }

  #close() {
    for (const timer of this.#timers) {
      clearTimeout(timer);
      clearInterval(timer);
    }
    this.#timers.clear();
    this.#pings.clear();
    if (this.#pc) this.farewell();
    this.#channel?.close();
    this.#pc?.close();
    this.#channel = undefined;
    this.#pc = undefined;
  }

  /** Told before the connection is closed by this side. */
  farewell() {}

  #after(ms, action) {
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      action();
    }, ms);
    this.#timers.add(timer);
  }

  #every(ms, action) {
    this.#timers.add(setInterval(action, ms));
  }

  #set(state, more = {}) {
    this.state = state;
    this.emit('state', { state, ...more });
  }

  emit(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}

// The server's candidates are enough wherever it can be reached; ours help where only we can. Host candidates are there
// in a few milliseconds, and nothing more is waited for.
function gathered(pc) {
  if (pc.iceGatheringState === 'complete') return Promise.resolve();
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, GATHER_MS);
    pc.addEventListener('icegatheringstatechange', () => {
      if (pc.iceGatheringState !== 'complete') return;
      clearTimeout(timer);
      resolve();
    });
  });
}

/** H.264 in packetization mode 1, constrained baseline first. */
export function h264Codecs(capabilities) {
  const mode1 = (capabilities?.codecs ?? []).filter(
    ({ mimeType, sdpFmtpLine = '' }) =>
      mimeType.toLowerCase() === 'video/h264' && /packetization-mode=1/.test(sdpFmtpLine),
  );
  const rank = ({ sdpFmtpLine }) => (/profile-level-id=42e0/i.test(sdpFmtpLine) ? 0 : /profile-level-id=42/i.test(sdpFmtpLine) ? 1 : 2);
  return mode1.sort((a, b) => rank(a) - rank(b));
}

/** The picture is worth showing when it comes; smoothness is the sender's pace. */
export function playAtOnce(receiver) {
  if ('jitterBufferTarget' in receiver) receiver.jitterBufferTarget = 0;
  else if ('playoutDelayHint' in receiver) receiver.playoutDelayHint = 0;
}

const ABS_CAPTURE_TIME = 'http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time';

/** Has the sender say when its frames were captured, where the browser can: it does so of itself nowhere. */
export function tellCaptureTimes(transceiver) {
  const extensions = transceiver.getHeaderExtensionsToNegotiate?.();
  const wanted = extensions?.find(({ uri }) => uri === ABS_CAPTURE_TIME);
  if (!wanted) return;
  wanted.direction = 'sendrecv';
  transceiver.setHeaderExtensionsToNegotiate(extensions);
}
