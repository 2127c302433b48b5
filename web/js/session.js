// One session with the server: the offer, the peer connection, the datachannel, and coming back by itself.

import * as api from './api.js';
import { Problem } from './problems.js';

const CONNECT_TIMEOUT_MS = 10_000;
const GATHER_MS = 50;
const DISCONNECTED_GRACE_MS = 2500;
const SILENT_MS = 5000;
const SETTLED_MS = 10_000;
const PING_MS = 1000;
const BACKOFF_MS = [500, 1000, 2000, 4000, 8000, 10_000];

/** Kilobits per second that H.264 in real time needs for a good picture of this size. */
export function bitrateFor(width, height, fps) {
  const kbps = (width * height * Math.min(fps, 60) * 0.14) / 1000;
  return Math.round(Math.min(12_000, Math.max(600, kbps)));
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

/**
 * Lets the encoder start near the bitrate that it will reach. Without this Chromium begins at 300 kbit/s and shows a
 * shrunken picture for the first seconds. Other browsers pass over the parameter.
 */
export function withStartBitrate(sdp, kbps) {
  const h264 = new Set([...sdp.matchAll(/^a=rtpmap:(\d+) H264\/90000/gim)].map((match) => match[1]));
  return sdp.replace(/^a=fmtp:(\d+) ([^\r\n]*)/gm, (line, payload) =>
    h264.has(payload) ? `${line};x-google-start-bitrate=${kbps}` : line,
  );
}

/**
 * Events: `state` {state, problem?, retryAt?}, `message` {message}, `video` {stream}, `channel` {open}, `encoded` {frames},
 * `rtt` {ms}, `losing` (the picture is about to go). States: idle, connecting, live, waiting (for the next attempt), failed.
 */
export class Session extends EventTarget {
  #pc;
  #channel;
  #timers = new Set();
  #attempts = 0;
  #generation = 0;
  #pings = new Map();
  #nextId = 1;
  #framesSeenAt = 0;

  /** @param {Worker|undefined} worker runs encoded-worker.js, where the browser has encoded transforms */
  constructor(worker) {
    super();
    this.worker = worker;
    this.state = 'idle';
    worker?.addEventListener('message', ({ data }) => {
      if (data.encoded) this.#emit('encoded', { frames: data.encoded });
    });
  }

  get peer() {
    return this.#pc;
  }

  /** Starts to send `stream`'s video track, and comes back by itself until `stop`. */
  start({ stream, width, height, fps, name }) {
    this.stop();
    this.media = { stream, width, height, fps };
    this.name = name;
    this.#attempts = 0;
    this.#connect();
  }

  /** Sends another track from now on, without a new negotiation. */
  async replace({ stream, width, height, fps }) {
    this.media = { stream, width, height, fps };
    const sender = this.#pc?.getSenders().find((one) => one.track?.kind === 'video');
    if (!sender) return;
    await sender.replaceTrack(stream.getVideoTracks()[0]);
    await this.#limit(sender);
  }

  stop() {
    this.#generation += 1;
    this.#close();
    this.#set('idle');
  }

  /** The page goes away: tell the server, since the connection's own farewell may not get out. */
  leave() {
    if (this.id && this.#pc) api.leave(this.id);
    this.stop();
  }

  /** Tries again now instead of at the end of the wait. */
  retryNow() {
    if (this.state === 'waiting') this.#connect();
  }

  /** Sends a message; returns its id, or undefined while the channel is closed. */
  send(message) {
    if (this.#channel?.readyState !== 'open') return undefined;
    const id = this.#nextId++;
    this.#channel.send(JSON.stringify({ ...message, id }));
    return id;
  }

  /** A frame of the annotated video was shown. */
  frameSeen(now) {
    this.#framesSeenAt = now;
  }

  async #connect() {
    this.#close();
    const generation = ++this.#generation;
    const current = () => generation === this.#generation;
    this.#set('connecting');
    try {
      await this.#negotiate(current);
    } catch (error) {
      if (!current()) return;
      const problem = error instanceof Problem ? error : new Problem('unexpected', { detail: error?.message });
      if (!(error instanceof Problem)) console.error(error);
      this.#fail(problem);
    }
  }

  async #negotiate(current) {
    if (!globalThis.RTCPeerConnection) throw new Problem('no-webrtc');
    const { stream, width, height, fps } = this.media;
    const codecs = h264Codecs(RTCRtpSender.getCapabilities?.('video'));
    if (codecs.length === 0) throw new Problem('no-h264');
    const pc = new RTCPeerConnection({ bundlePolicy: 'max-bundle' });
    this.#pc = pc;
    this.#openChannel(pc, current);
    const kbps = bitrateFor(width, height, fps);
    const transceiver = pc.addTransceiver(stream.getVideoTracks()[0], {
      direction: 'sendrecv',
      streams: [stream],
      sendEncodings: [{ maxBitrate: kbps * 1000, maxFramerate: fps }],
    });
    transceiver.setCodecPreferences?.(codecs);
    if (this.worker) transceiver.sender.transform = new RTCRtpScriptTransform(this.worker);
    pc.addEventListener('track', ({ track, receiver, streams }) => {
      if (track.kind !== 'video') return;
      // The picture is worth showing when it comes; smoothness is the sender's pace.
      if ('jitterBufferTarget' in receiver) receiver.jitterBufferTarget = 0;
      else if ('playoutDelayHint' in receiver) receiver.playoutDelayHint = 0;
      this.#emit('video', { stream: streams[0] ?? new MediaStream([track]) });
    });
    await pc.setLocalDescription();
    await gathered(pc);
    if (!current()) return;
    const answer = await api.offer(pc.localDescription, this.name);
    this.id = answer.session;
    if (!current()) {
      api.leave(answer.session);
      return;
    }
    this.name = answer.stream ?? this.name;
    const connected = this.#connected(pc, current);
    // Whoever loses the race below must not leave an unhandled rejection behind.
    connected.catch(() => {});
    await pc.setRemoteDescription({ type: answer.type, sdp: withStartBitrate(answer.sdp, Math.round(kbps * 0.5)) });
    await this.#limit(transceiver.sender);
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
      this.#emit('channel', { open: true });
      this.#every(PING_MS, () => this.#ping());
    });
    channel.addEventListener('close', () => {
      if (!current()) return;
      this.#emit('channel', { open: false });
      if (this.state === 'live') this.#fail(new Problem('lost', { retry: true }));
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
      if (message.type === 'pong') this.#emit('rtt', { ms: performance.now() - pinged });
      return;
    }
    if (message.type === 'error' && message.code === 'session_ended') {
      this.#fail(new Problem('closed', { detail: message.message }));
      return;
    }
    this.#emit('message', { message });
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
    const lost = (kind) => current() && this.#fail(new Problem(kind, { retry: true }));
    pc.addEventListener('connectionstatechange', () => {
      if (pc.connectionState === 'failed') lost('lost');
      if (pc.connectionState !== 'disconnected') return;
      this.#after(DISCONNECTED_GRACE_MS, () => {
        if (pc.connectionState === 'disconnected') lost('lost');
      });
    });
    this.#framesSeenAt = performance.now();
    this.#every(1000, () => {
      const [track] = this.media.stream.getVideoTracks();
      // A hidden page is shown no frames, and a source muted by the system sends none: neither is the server's fault.
      if (document.hidden || !track || track.muted) this.#framesSeenAt = performance.now();
      else if (performance.now() - this.#framesSeenAt > SILENT_MS) lost('silent');
    });
    this.#after(SETTLED_MS, () => {
      this.#attempts = 0;
    });
  }

  async #limit(sender) {
    const { width, height, fps } = this.media;
    const parameters = sender.getParameters();
    if (!parameters.encodings?.length) return;
    parameters.degradationPreference = 'maintain-framerate';
    parameters.encodings[0].maxBitrate = bitrateFor(width, height, fps) * 1000;
    parameters.encodings[0].maxFramerate = fps;
    // A browser that knows none of these sends by its own measure.
    await sender.setParameters(parameters).catch(() => {});
  }

  #fail(problem) {
    this.#generation += 1;
    this.#emit('losing');
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
    this.#after(wait, () => this.#connect());
  }

  #close() {
    for (const timer of this.#timers) {
      clearTimeout(timer);
      clearInterval(timer);
    }
    this.#timers.clear();
    this.#pings.clear();
    this.#channel?.close();
    this.#pc?.close();
    this.#channel = undefined;
    this.#pc = undefined;
    this.id = undefined;
  }

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
    this.#emit('state', { state, ...more });
  }

  #emit(name, detail) {
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
