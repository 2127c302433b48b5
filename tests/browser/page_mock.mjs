// Plays the server for the page's own tests: serves web/ with the server's content security policy, and answers offers
// from a second page of the same browser, which draws boxes and tells them on the datachannel.
//
// It cannot keep the RTP timestamps of the frames that it was sent, so its `source_rtp_timestamp` differs from
// `rtp_timestamp` by more than a constant.

import { readFile } from 'node:fs/promises';
import http from 'node:http';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

import { chromium } from 'playwright-core';

import { MockStreams, answerViewer, drawPicture } from './page_mock_streams.mjs';

const WEB = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../../web');
const EXAMPLE = path.join(WEB, '../examples/web/whep.html');
const PAGES = { '/': 'index.html', '/latency': 'latency.html' };
const TYPES = { '.js': 'text/javascript', '.css': 'text/css', '.html': 'text/html; charset=utf-8', '.svg': 'image/svg+xml' };
const POLICY =
  "default-src 'self'; connect-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; style-src 'self'; script-src 'self'";
const FLAGS = [
  '--headless=new', '--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync', '--use-fake-device-for-media-stream=fps=30', '--use-fake-ui-for-media-stream',
  '--autoplay-policy=no-user-gesture-required',
];

export const LABELS = ['face', 'hand', '<img src=x onerror=alert(1)>', 'bag', 'cup'];

/** Starts Chromium: CHROMIUM, or Debian's. */
export const launch = () =>
  chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', headless: true, args: FLAGS });

/** A server on a free port. `behave` steers it: {down, offer: {status, message}, warnings, silent}. */
export async function mockServer(browser) {
  const behave = { down: false, offer: undefined, warnings: [], silent: false };
  const left = [];
  let answering;
  const streams = new MockStreams((offer) => answering.evaluate(answerViewer, offer), (which) => answering.evaluate(drawPicture, which));

  const serve = async (request, response) => {
    const address = new URL(request.url, 'http://page.test');
    const { pathname } = address;
    const json = (status, body) => {
      response.writeHead(status, { 'content-type': 'application/json' });
      response.end(JSON.stringify(body));
    };
    if (pathname === '/whep.html') {
      response.writeHead(200, { 'content-type': 'text/html; charset=utf-8' });
      response.end(await readFile(EXAMPLE));
    } else if (pathname === '/answering') {
      response.writeHead(200, { 'content-type': 'text/html' });
      response.end('<!doctype html><title>The other end</title>');
    } else if (behave.down) {
      request.socket.destroy();
    } else if (pathname === '/api/v1/info') {
      json(200, {
        version: '0.0.0-mock',
        model: { name: 'mock', family: 'drawn', labels: LABELS },
        palette: ['#e4572e', '#17bebb', '#ffc914', '#76b041'],
        default_confidence: 0.5,
        default_iou: 0.45,
        warnings: behave.warnings,
      });
    } else if (await streams.handle(request, response, address)) {
      // Answered.
    } else if (request.method === 'DELETE') {
      left.push(pathname);
      json(200, {});
    } else if (pathname === '/offer') {
      if (behave.offer) {
        json(behave.offer.status, { error: { code: 'mock', message: behave.offer.message } });
        return;
      }
      let body = '';
      for await (const chunk of request) body += chunk;
      json(200, await answering.evaluate(answer, { ...JSON.parse(body), labels: LABELS, silent: behave.silent }));
    } else {
      const file = path.join(WEB, PAGES[pathname] ?? path.normalize(pathname));
      const content = await readFile(file).catch(() => undefined);
      if (!content) return json(404, { error: { code: 'not_found', message: pathname } });
      response.writeHead(200, { 'content-type': TYPES[path.extname(file)], 'content-security-policy': POLICY });
      response.end(content);
    }
  };
  // A page may go in the middle of its request, and the answering one at the end of all.
  const server = http.createServer((request, response) => serve(request, response).catch(() => response.destroy()));
  await new Promise((listening) => server.listen(0, '127.0.0.1', listening));
  const base = `http://127.0.0.1:${server.address().port}`;
  answering = await (await browser.newContext()).newPage();
  await answering.goto(`${base}/answering`);
  return {
    base,
    behave,
    left,
    streams,
    /** Ends every session, as a server that is killed does. */
    hangUp: () => answering.evaluate(() => globalThis.peers?.splice(0).forEach((peer) => peer.close())),
    /** The newest `config` message that came. */
    lastConfig: () => answering.evaluate(() => globalThis.lastConfig),
    /** The newest `ledger` message that came. */
    lastLedger: () => answering.evaluate(() => globalThis.lastLedger),
    /** The next `detections` message of a publisher's session tells of these. */
    happen: (...events) => answering.evaluate((told) => (globalThis.events = told), events),
    close: () => server.close(),
  };
}

// Runs in the answering page.
async function answer({ sdp, type, labels, silent }) {
  const peer = new RTCPeerConnection({ encodedInsertableStreams: true });
  (globalThis.peers ??= []).push(peer);
  const canvas = document.createElement('canvas');
  const c = canvas.getContext('2d', { willReadFrequently: true, alpha: false });
  const stream = canvas.captureStream(0);
  const [track] = stream.getVideoTracks();
  const video = document.createElement('video');
  video.muted = true;
  const config = { confidence_threshold: 0.5, iou_threshold: 0.45, classes: null, overlay: 'latest', max_detections: 100 };
  const drawn = [];
  let channel;
  let frameId = 0;
  const say = (message) => channel?.readyState === 'open' && channel.send(JSON.stringify({ v: 1, stream: 'mock', ...message }));

  peer.addEventListener('datachannel', (event) => {
    channel = event.channel;
    channel.addEventListener('message', ({ data }) => {
      const message = JSON.parse(data);
      const { type: kind, id, ...rest } = message;
      if (kind === 'ping') return say({ type: 'pong', id, t: message.t, server_ms: performance.timeOrigin + performance.now() });
      if (kind === 'ledger') {
        globalThis.lastLedger = message;
        return undefined;
      }
      globalThis.lastConfig = message;
      if (message.iou_threshold === 0) return say({ type: 'error', id, code: 'bad_config', message: 'iou_threshold must be above 0' });
      return say({ type: 'config_ack', id, config: Object.assign(config, rest) });
    });
  });
  peer.addEventListener('track', ({ track: theirs }) => {
    video.srcObject = new MediaStream([theirs]);
    video.play();
    const each = (now, { rtpTimestamp: source }) => {
      video.requestVideoFrameCallback(each);
      if (canvas.width !== video.videoWidth || canvas.height !== video.videoHeight) {
        canvas.width = video.videoWidth;
        canvas.height = video.videoHeight;
      }
      c.drawImage(video, 0, 0);
      const boxes = labels.slice(0, 3).map((_, index) => {
        const x = canvas.width * (0.2 + 0.25 * index + 0.05 * Math.sin(now / 700));
        const y = canvas.height * 0.35;
        return { bbox: [x, y, x + 60, y + 60], confidence: 0.95 - 0.15 * index, class_id: index, track_id: 5 + index };
      });
      const shown = boxes.filter(({ confidence }) => confidence >= config.confidence_threshold);
      c.strokeStyle = '#e4572e';
      c.lineWidth = 3;
      for (const { bbox: [x1, y1, x2, y2] } of shown) c.strokeRect(x1, y1, x2 - x1, y2 - y1);
      frameId += 1;
      drawn.push({ boxes: shown, id: frameId, source });
      if (!silent) track.requestFrame();
    };
    video.requestVideoFrameCallback(each);
  });

  await peer.setRemoteDescription({ sdp, type });
  const transceiver = peer.getTransceivers().find(({ receiver }) => receiver.track.kind === 'video');
  transceiver.direction = 'sendrecv';
  await transceiver.sender.replaceTrack(track);
  transceiver.sender.setStreams(stream);
  const out = transceiver.sender.createEncodedStreams();
  const tell = new TransformStream({
    transform(frame, controller) {
      controller.enqueue(frame);
      const { rtpTimestamp } = frame.getMetadata();
      const { boxes, id, source } = drawn.splice(0).at(-1) ?? { boxes: [], id: frameId, source: 0 };
      const detections = boxes.map((box) => ({ ...box, class_name: labels[box.class_id] }));
      const told = globalThis.events?.splice(0) ?? [];
      const happened = told.length > 0 ? { events: told } : {};
      say({ type: 'detections', ...happened, frame_id: id, rtp_timestamp: rtpTimestamp, source_rtp_timestamp: source, width: canvas.width, height: canvas.height, model: 'mock', detections, processing_time_ms: 6.5, stages_ms: { detect_queue: 0.2, preprocess: 0.4, infer: 6, postprocess: 0.1 } });
      say({ type: 'frame', frame_id: id, rtp_timestamp: rtpTimestamp, source_rtp_timestamp: source, boxes, detection_frame_id: id, age_ms: 30, sent_ms: performance.timeOrigin + performance.now(), ledger_ms: { receive: 0.3, queue: 0.1, decode: 1.1, render_wait: 0.1, draw: 0.1, encode: 3.2, send: 0.2 } });
    },
  });
  out.readable.pipeThrough(tell).pipeTo(out.writable);
  const incoming = transceiver.receiver.createEncodedStreams();
  incoming.readable.pipeTo(incoming.writable);
  await peer.setLocalDescription();
  if (peer.iceGatheringState !== 'complete') {
    await new Promise((done) => {
      peer.addEventListener('icegatheringstatechange', () => peer.iceGatheringState === 'complete' && done());
    });
  }
  return { sdp: peer.localDescription.sdp, type: 'answer', session: `mock-${globalThis.peers.length}`, stream: 'mock' };
}
