// A page of one's own: sends on one transceiver, receives on another, with audio, and without a `detections` channel of its
// own.

import { base, run, sessions } from './e2e_lib.mjs';

await run(async (page) => {
  await page.goto(`${base}/`);
  const result = await page.evaluate(async () => {
    const media = await navigator.mediaDevices.getUserMedia({ audio: true, video: { width: 640, height: 480, frameRate: 30 } });
    const pc = new RTCPeerConnection();
    globalThis.pc = pc;
    const messages = [];
    const tracks = [];
    const channels = [];
    const players = [];
    globalThis.players = players;
    pc.addEventListener('datachannel', ({ channel }) => {
      channels.push({ label: channel.label, ordered: channel.ordered });
      channel.addEventListener('message', ({ data }) => messages.push(JSON.parse(data)));
    });
    pc.addEventListener('track', ({ track, streams, transceiver }) => {
      tracks.push({ kind: track.kind, mid: transceiver.mid, streams: streams.map(({ id }) => id) });
      // What is not played is not decoded.
      const player = document.createElement(track.kind);
      player.srcObject = new MediaStream([track]);
      player.play();
      players.push(player);
    });
    // The application section is there, the channel is not.
    pc.createDataChannel('chat');
    const up = pc.addTransceiver(media.getVideoTracks()[0], { direction: 'sendonly', streams: [media] });
    const down = pc.addTransceiver('video', { direction: 'recvonly' });
    const audio = pc.addTransceiver(media.getAudioTracks()[0], { direction: 'sendrecv', streams: [media] });
    await pc.setLocalDescription();
    const response = await fetch('/offer', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ sdp: pc.localDescription.sdp, type: 'offer', stream: 'own-page' }),
    });
    const answer = await response.json();
    if (!response.ok) return { answer };
    await pc.setRemoteDescription(answer);

    const inbound = async () => {
      const found = {};
      for (const report of (await pc.getStats()).values()) {
        if (report.type === 'inbound-rtp') {
          found[report.kind] = { packets: report.packetsReceived, mid: report.mid, frames: report.framesDecoded, energy: report.totalAudioEnergy };
        }
      }
      return found;
    };
    const started = performance.now();
    let seen = {};
    // The fake microphone beeps once a second.
    while (performance.now() - started < 20_000) {
      seen = await inbound();
      const told = ['frame', 'detections'].every((kind) => messages.filter(({ type }) => type === kind).length > 10);
      if (told && seen.video?.frames > 30 && seen.audio?.packets > 60 && seen.audio.energy > 0) break;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    return {
      answer: { stream: answer.stream, type: answer.type },
      directions: { up: up.currentDirection, down: down.currentDirection, audio: audio.currentDirection },
      mids: { up: up.mid, down: down.mid, audio: audio.mid },
      tracks, channels, inbound: seen,
      messages: Object.fromEntries(['frame', 'detections'].map((kind) => [kind, messages.filter(({ type }) => type === kind).length])),
    };
  });
  result.sessions = await sessions();
  return result;
});
