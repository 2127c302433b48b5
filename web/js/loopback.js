// The browser by itself: a track goes from one peer connection of this page to another, with no server in between. What it takes is
// what any server has to be held against.

import { h264Codecs, playAtOnce } from './link.js';
import { Problem } from './problems.js';
import { bitrateFor, withStartBitrate } from './session.js';

/** Events `video` {stream}, `encoded` {frames}, `failed` {problem}. Codec, bitrate and jitter buffer are a session's own. */
export class Loopback extends EventTarget {
  #ends = [];

  /** @param {Worker|undefined} worker runs encoded-worker.js, where the browser has encoded transforms */
  constructor(worker) {
    super();
    this.worker = worker;
    worker?.addEventListener('message', ({ data }) => {
      if (data.encoded) this.#emit('encoded', { frames: data.encoded });
    });
  }

  /** The connection that the video comes out of. */
  get peer() {
    return this.#ends[1];
  }

  async start({ stream, width, height, fps }) {
    this.stop();
    const ends = [new RTCPeerConnection(), new RTCPeerConnection()];
    this.#ends = ends;
    const current = () => this.#ends === ends;
    try {
      await this.#connect(ends, { stream, width, height, fps });
    } catch (error) {
      if (!current()) return;
      this.stop();
      this.#emit('failed', { problem: error instanceof Problem ? error : new Problem('unexpected', { detail: error?.message }) });
    }
  }

  async #connect([there, here], { stream, width, height, fps }) {
    const other = new Map([[there, here], [here, there]]);
    for (const [end, far] of other) {
      end.addEventListener('icecandidate', ({ candidate }) => {
        // A candidate that comes after the end is of no use to anybody.
        if (candidate) far.addIceCandidate(candidate).catch(() => {});
      });
    }
    const codecs = h264Codecs(RTCRtpSender.getCapabilities?.('video'));
    if (codecs.length === 0) throw new Problem('no-h264');
    const kbps = bitrateFor(width, height, fps);
    const transceiver = there.addTransceiver(stream.getVideoTracks()[0], {
      direction: 'sendonly',
      streams: [stream],
      sendEncodings: [{ maxBitrate: kbps * 1000, maxFramerate: fps }],
    });
    transceiver.setCodecPreferences?.(codecs);
    if (this.worker) transceiver.sender.transform = new RTCRtpScriptTransform(this.worker);
    here.addEventListener('track', ({ track, receiver, streams }) => {
      playAtOnce(receiver);
      this.#emit('video', { stream: streams[0] ?? new MediaStream([track]) });
    });
    await there.setLocalDescription();
    await here.setRemoteDescription(there.localDescription);
    await here.setLocalDescription();
    const sdp = withStartBitrate(here.localDescription.sdp, Math.round(kbps * 0.5));
    await there.setRemoteDescription({ type: 'answer', sdp });
    const parameters = transceiver.sender.getParameters();
    parameters.degradationPreference = 'maintain-framerate';
    // A browser that does not know this sends by its own measure.
    await transceiver.sender.setParameters(parameters).catch(() => {});
  }

  stop() {
    for (const end of this.#ends) end.close();
    this.#ends = [];
  }

  #emit(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}
