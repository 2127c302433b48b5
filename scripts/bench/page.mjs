// Runs in the browser: one leg of the comparison at a time, measured by the page's own modules.

import { Measurement } from '/js/measure.js';
import { h264Codecs } from '/js/link.js';
import { Session, bitrateFor, withStartBitrate } from '/js/session.js';

const size = { width: 1280, height: 720, fps: 30 };
const video = document.createElement('video');
video.muted = true;
video.playsInline = true;
video.autoplay = true;
video.style.width = '1280px';
document.body.append(video);

let stream;

async function camera({ width, height, fps }) {
  Object.assign(size, { width, height, fps });
  stream ??= await navigator.mediaDevices.getUserMedia({ video: { width, height, frameRate: fps } });
  const settings = stream.getVideoTracks()[0].getSettings();
  if (settings.width !== width || settings.height !== height) throw new Error(`camera gives ${settings.width}×${settings.height}`);
}

function worker() {
  return new Worker('/js/encoded-worker.js');
}

async function loopback(jitterBufferTarget) {
  const [a, b] = [new RTCPeerConnection(), new RTCPeerConnection()];
  a.onicecandidate = ({ candidate }) => b.addIceCandidate(candidate);
  b.onicecandidate = ({ candidate }) => a.addIceCandidate(candidate);
  const kbps = bitrateFor(size.width, size.height, size.fps);
  const transceiver = a.addTransceiver(stream.getVideoTracks()[0], {
    direction: 'sendonly',
    streams: [stream],
    sendEncodings: [{ maxBitrate: kbps * 1000, maxFramerate: size.fps }],
  });
  transceiver.setCodecPreferences(h264Codecs(RTCRtpSender.getCapabilities('video')));
  const encoded = worker();
  transceiver.sender.transform = new RTCRtpScriptTransform(encoded);
  b.ontrack = ({ receiver, streams }) => {
    if (jitterBufferTarget !== undefined) receiver.jitterBufferTarget = jitterBufferTarget;
    video.srcObject = streams[0];
  };
  await a.setLocalDescription();
  await b.setRemoteDescription(a.localDescription);
  await b.setLocalDescription();
  await a.setRemoteDescription({ type: 'answer', sdp: withStartBitrate(b.localDescription.sdp, Math.round(kbps * 0.5)) });
  const parameters = transceiver.sender.getParameters();
  parameters.degradationPreference = 'maintain-framerate';
  await transceiver.sender.setParameters(parameters);
  return {
    pc: b,
    onEncoded: (action) => { encoded.onmessage = ({ data }) => data.encoded && action(data.encoded); },
    close: () => { a.close(); b.close(); encoded.terminate(); },
  };
}

async function server() {
  const encoded = worker();
  const session = new Session(encoded);
  session.addEventListener('video', ({ detail }) => { video.srcObject = detail.stream; });
  const live = new Promise((resolve, reject) => session.addEventListener('state', ({ detail }) => {
    if (detail.state === 'live') resolve();
    if (detail.state === 'failed' || detail.state === 'waiting') reject(new Error(detail.problem?.message ?? detail.state));
  }));
  session.start({ stream, ...size });
  await live;
  return {
    pc: session.peer,
    session,
    onEncoded: (action) => session.addEventListener('encoded', ({ detail }) => action(detail.frames)),
    close: () => { session.leave(); encoded.terminate(); },
  };
}

/** Runs one leg: `kind` is server, loopback or loopback0. Resolves to the latencies of `measureS` seconds, in ms. */
export async function leg(kind, wish, warmS, measureS) {
  await camera(wish);
  const started = performance.now();
  const link = kind === 'server' ? await server() : await loopback(kind === 'loopback0' ? 0 : undefined);
  const measurement = new Measurement(video);
  measurement.begin();
  measurement.watch({ stream });
  link.onEncoded((frames) => measurement.encoded(frames));
  link.session?.addEventListener('message', ({ detail }) => measurement.message(detail.message));
  const latencies = [];
  let measuring = false;
  let callbacks = 0;
  const sizes = new Set();
  const ages = [];
  measurement.addEventListener('frame', ({ detail }) => {
    // Without this the session takes the silence for a fault of the server's, and begins anew.
    link.session?.frameSeen(performance.now());
    if (!measuring) return;
    callbacks += 1;
    sizes.add(`${video.videoWidth}x${video.videoHeight}`);
    if (detail.latency !== undefined) latencies.push(detail.latency);
    if (detail.message?.age_ms !== undefined) ages.push(detail.message.age_ms);
  });
  await new Promise((resolve) => setTimeout(resolve, warmS * 1000));
  measuring = true;
  await new Promise((resolve) => setTimeout(resolve, measureS * 1000));
  measuring = false;
  let jitterBufferMs;
  for (const report of (await link.pc.getStats()).values()) {
    if (report.type === 'inbound-rtp' && report.kind === 'video') {
      jitterBufferMs = (1000 * report.jitterBufferDelay) / report.jitterBufferEmittedCount;
    }
  }
  const method = measurement.meter.clock.source;
  link.close();
  measurement.watch(undefined);
  video.srcObject = null;
  return { kind, latencies, callbacks, sizes: [...sizes], fps: callbacks / measureS, jitterBufferMs, ages, method, tookMs: performance.now() - started };
}

/** Times one connection: offer → connected → first annotated frame, in ms. */
export async function connect(wish) {
  await camera(wish);
  let offered;
  const realFetch = globalThis.fetch;
  globalThis.fetch = (...args) => {
    if (String(args[0]).includes('offer')) offered ??= performance.now();
    return realFetch(...args);
  };
  try {
    const session = new Session(undefined);
    let connectedAt;
    const shown = new Promise((resolve) => {
      session.addEventListener('video', ({ detail }) => {
        video.srcObject = detail.stream;
        video.requestVideoFrameCallback((now) => resolve(now));
      });
    });
    session.addEventListener('state', ({ detail }) => { if (detail.state === 'live') connectedAt ??= performance.now(); });
    session.start({ stream, ...size });
    const first = await shown;
    while (connectedAt === undefined) await new Promise((resolve) => setTimeout(resolve, 1));
    session.leave();
    video.srcObject = null;
    return { connected: connectedAt - offered, first: first - offered };
  } finally {
    globalThis.fetch = realFetch;
  }
}

globalThis.bench = { leg, connect };
