// A page of one's own as a WHIP publisher and a WHEP viewer in a real Chromium, with nothing but fetch and
// RTCPeerConnection: the offer goes out before candidates are gathered, they follow by PATCH; and both restart ICE
// (RFC 9725 §4.3).

import { base, run } from './e2e_lib.mjs';

/** Runs in the page: the client side of RFC 9725. */
function client() {
  const FRAGMENT = 'application/trickle-ice-sdpfrag';
  const ice = (sdp) => sdp.match(/^a=ice-(ufrag|pwd):.*$/gm).slice(0, 2);
  const section = (sdp) => sdp.match(/^m=.*$/m)[0];
  const fragment = (sdp, candidates) => [
    section(sdp), 'a=mid:0', ...ice(sdp), ...candidates.map((one) => `a=${one.candidate}`), 'a=end-of-candidates', '',
  ].join('\r\n');

  /** Gathers from now on; `all()` waits for the end of it. */
  function gather(pc) {
    const candidates = [];
    const done = new Promise((resolve) => {
      pc.onicecandidate = ({ candidate }) => (candidate?.candidate ? candidates.push(candidate) : resolve());
    });
    return { candidates, all: async () => { await done; return candidates; } };
  }

  async function session(pc, url) {
    const gathering = gather(pc);
    await pc.setLocalDescription();
    const offer = pc.localDescription.sdp;
    const response = await fetch(url, { method: 'POST', headers: { 'content-type': 'application/sdp' }, body: offer });
    const answer = await response.text();
    if (response.status !== 201) throw new Error(`${response.status} ${answer}`);
    const self = {
      url: new URL(response.headers.get('location'), response.url).href,
      etag: response.headers.get('etag'),
      bare: !offer.includes('a=candidate:'),
    };
    self.patch = (body, match) => fetch(self.url, {
      method: 'PATCH', headers: { 'content-type': FRAGMENT, 'if-match': match }, body,
    });
    await pc.setRemoteDescription({ type: 'answer', sdp: answer });
    self.candidates = await gathering.all();
    self.trickled = (await self.patch(fragment(offer, self.candidates), self.etag)).status;
    self.restart = async () => {
      const again = gather(pc);
      await pc.setLocalDescription(await pc.createOffer({ iceRestart: true }));
      const restarted = pc.localDescription.sdp;
      const response = await self.patch(fragment(restarted, await again.all()), '*');
      const said = await response.text();
      const lines = said.split('\r\n');
      const value = (key) => lines.find((line) => line.startsWith(key));
      // The answer as it was, with the credentials and candidates that came.
      const sdp = pc.currentRemoteDescription.sdp
        .replace(/^a=ice-ufrag:.*$/gm, value('a=ice-ufrag:'))
        .replace(/^a=ice-pwd:.*$/gm, value('a=ice-pwd:'));
      await pc.setRemoteDescription({ type: 'answer', sdp });
      const renewed = response.headers.get('etag');
      const result = { status: response.status, renewed: renewed !== self.etag };
      self.etag = renewed;
      // Candidates of the new generation go under its tag.
      result.trickled = (await self.patch(fragment(restarted, again.candidates), self.etag)).status;
      return result;
    };
    return self;
  }

  const report = async (pc, type, kind) => {
    for (const one of (await pc.getStats()).values()) if (one.type === type && one.kind === kind) return one;
    return {};
  };
  /** The user fragment that we send to, of the pair in use. */
  const remote = async (pc) => {
    const stats = await pc.getStats();
    const transport = [...stats.values()].find((one) => one.type === 'transport');
    return { state: transport.iceState, ufrag: transport.iceLocalUsernameFragment };
  };

  async function publish(url) {
    const pc = new RTCPeerConnection();
    const media = await navigator.mediaDevices.getUserMedia({ video: { width: 640, height: 480 }, audio: true });
    for (const track of media.getTracks()) pc.addTransceiver(track, { direction: 'sendonly', streams: [media] });
    return { pc, ...(await session(pc, url)) };
  }

  async function view(url) {
    const pc = new RTCPeerConnection();
    const video = document.createElement('video');
    Object.assign(video, { muted: true, autoplay: true, playsInline: true });
    document.body.append(video);
    const messages = [];
    pc.createDataChannel('detections', { ordered: false, maxRetransmits: 0 }).onmessage =
      ({ data }) => messages.push(JSON.parse(data).type);
    pc.ontrack = ({ track }) => { if (track.kind === 'video') video.srcObject = new MediaStream([track]); };
    for (const kind of ['video', 'audio']) pc.addTransceiver(kind, { direction: 'recvonly' });
    const began = performance.now();
    const first = new Promise((resolve) => {
      video.requestVideoFrameCallback(() => resolve(performance.now() - began));
    });
    const made = await session(pc, url);
    return { pc, video, messages, first, ...made };
  }

  /** Waits until so many more frames are decoded; how many there are. */
  async function frames(pc, more) {
    const from = (await report(pc, 'inbound-rtp', 'video')).framesDecoded ?? 0;
    for (;;) {
      const now = (await report(pc, 'inbound-rtp', 'video')).framesDecoded ?? 0;
      if (now >= from + more) return now;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  window.whip = { publish, view, frames, report, remote };
}

await run(async (page) => {
  await page.goto(`${base}/`);
  await page.evaluate(client);
  return page.evaluate(async () => {
    const { publish, view, frames, report, remote } = window.whip;
    const publisher = await publish('/whip/page');
    const viewer = await view('/whep/page?video=annotated');
    const first = await viewer.first;
    const result = { first_picture_ms: first, bare: [publisher.bare, viewer.bare] };
    result.trickled = [publisher.trickled, viewer.trickled];
    result.frames = await frames(viewer.pc, 60);
    result.size = [viewer.video.videoWidth, viewer.video.videoHeight];
    result.audio = (await report(viewer.pc, 'inbound-rtp', 'audio')).packetsReceived ?? 0;
    const before = [await remote(publisher.pc), await remote(viewer.pc)];
    result.restarts = [await publisher.restart(), await viewer.restart()];
    result.after_restart = await frames(viewer.pc, 60);
    const after = [await remote(publisher.pc), await remote(viewer.pc)];
    result.changed = after.map((one, index) => one.ufrag !== before[index].ufrag);
    result.states = [publisher.pc.connectionState, viewer.pc.connectionState];
    result.messages = [...new Set(viewer.messages)];
    result.plis = (await report(viewer.pc, 'inbound-rtp', 'video')).pliCount;
    result.sessions = (await (await fetch('/api/v1/sessions')).json()).sessions;
    result.ended = [
      (await fetch(viewer.url, { method: 'DELETE' })).status, (await fetch(publisher.url, { method: 'DELETE' })).status,
    ];
    return result;
  });
});
