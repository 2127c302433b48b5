// A viewer behind a link: Chromium watches a stream by WHEP, and all that it gets comes through a relay. Called with the server's media
// port and the relay's after what all scripts get, and for how many seconds to watch before and while it is measured.

import { base, run } from './e2e_lib.mjs';

const [serverPort, relayPort, settle, measure] = process.argv.slice(4).map(Number);

await run(async (page) => {
  await page.goto(`${base}/`);
  return page.evaluate(watch, { serverPort, relayPort, settle, measure });
});

// Runs in the page.
async function watch({ serverPort, relayPort, settle, measure }) {
  const pc = new RTCPeerConnection();
  globalThis.pc = pc;
  pc.addTransceiver('video', { direction: 'recvonly' });
  const video = document.createElement('video');
  video.muted = true;
  document.body.append(video);
  pc.addEventListener('track', ({ track }) => {
    video.srcObject = new MediaStream([track]);
    video.play();
  });
  await pc.setLocalDescription();
  // The server is not told where the browser is, nor the browser where the server is: the relay is the only way.
  const offer = pc.localDescription.sdp.split('\r\n').filter((line) => !line.startsWith('a=candidate:')).join('\r\n');
  const headers = { 'content-type': 'application/sdp' };
  const response = await fetch('/whep/scene?video=annotated', { method: 'POST', headers, body: offer });
  const answer = await response.text();
  if (!response.ok) return { refused: answer };
  const sdp = answer.replaceAll(` ${serverPort} typ host`, ` ${relayPort} typ host`);
  await pc.setRemoteDescription({ type: 'answer', sdp });

  // When frames were shown, and how wide they were.
  const shown = [];
  await new Promise((first) => {
    const each = (now, { width }) => {
      shown.push([now, width]);
      first();
      video.requestVideoFrameCallback(each);
    };
    video.requestVideoFrameCallback(each);
  });
  const inbound = async () => {
    for (const report of (await pc.getStats()).values()) {
      if (report.type === 'inbound-rtp' && report.kind === 'video') return report;
    }
    return {};
  };
  const pause = (seconds) => new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
  await pause(settle);
  const since = performance.now();
  const before = await inbound();
  await pause(measure);
  const after = await inbound();
  const later = shown.filter(([at]) => at >= since);
  const gaps = later.slice(1).map(([at], n) => at - later[n][0]);
  const more = (name) => after[name] - before[name];
  return {
    frames: later.length,
    longest_gap_ms: Math.max(0, ...gaps),
    first_width: shown[0][1],
    width: shown.at(-1)[1],
    decoded: more('framesDecoded'),
    freezes: more('freezeCount'),
    frozen_s: more('totalFreezesDuration'),
    jitter_buffer_ms: (1000 * more('jitterBufferDelay')) / Math.max(1, more('jitterBufferEmittedCount')),
    keyframes: more('keyFramesDecoded'),
    plis: more('pliCount'),
    nacks: more('nackCount'),
    lost: more('packetsLost'),
  };
}
