// The webcam's session: sends a track, and gets it back annotated on the same connection.

import * as api from './api.js';
import { Link, h264Codecs, playAtOnce, tellCaptureTimes } from './link.js';
import { Problem } from './problems.js';

/** Kilobits per second that H.264 in real time needs for a good picture of this size. */
export function bitrateFor(width, height, fps) {
  const kbps = (width * height * Math.min(fps, 60) * 0.14) / 1000;
  return Math.round(Math.min(12_000, Math.max(600, kbps)));
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

/** Events of `Link`, and `video` {stream}, `encoded` {frames}. */
export class Session extends Link {
  /** @param {Worker|undefined} worker runs encoded-worker.js, where the browser has encoded transforms */
  constructor(worker) {
    super();
    this.worker = worker;
    worker?.addEventListener('message', ({ data }) => {
      if (data.encoded) this.emit('encoded', { frames: data.encoded });
    });
  }

  /** Starts to send `stream`'s video track, and comes back by itself until `stop`. */
  start({ stream, width, height, fps, name }) {
    this.stop();
    this.media = { stream, width, height, fps };
    this.name = name;
    this.begin();
  }

  /** Sends another track from now on, without a new negotiation. */
  async replace({ stream, width, height, fps }) {
    this.media = { stream, width, height, fps };
    const sender = this.peer?.getSenders().find((one) => one.track?.kind === 'video');
    if (!sender) return;
    await sender.replaceTrack(stream.getVideoTracks()[0]);
    await this.#limit(sender);
  }

  /** Tells the server what became of the frames; `report` is a `LedgerReport`. */
  tell(report) {
    const message = report.take();
    if (message) this.send(message);
  }

  /** The page goes away: tell the server, since the connection's own farewell may not get out. */
  leave() {
    if (this.id && this.peer) api.leave(this.id);
    this.stop();
  }

  async dial(pc, current) {
    const { stream, width, height, fps } = this.media;
    const codecs = h264Codecs(RTCRtpSender.getCapabilities?.('video'));
    if (codecs.length === 0) throw new Problem('no-h264');
    const kbps = bitrateFor(width, height, fps);
    const transceiver = pc.addTransceiver(stream.getVideoTracks()[0], {
      direction: 'sendrecv',
      streams: [stream],
      sendEncodings: [{ maxBitrate: kbps * 1000, maxFramerate: fps }],
    });
    transceiver.setCodecPreferences?.(codecs);
    tellCaptureTimes(transceiver);
    if (this.worker) transceiver.sender.transform = new RTCRtpScriptTransform(this.worker);
    pc.addEventListener('track', ({ track, receiver, streams }) => {
      if (track.kind !== 'video') return;
      playAtOnce(receiver);
      this.emit('video', { stream: streams[0] ?? new MediaStream([track]) });
    });
    const offer = await this.describe(pc);
    if (!current()) return;
    const answer = await api.offer(offer, this.name);
    if (!current()) {
      api.leave(answer.session);
      return;
    }
    this.id = answer.session;
    this.name = answer.stream ?? this.name;
    const sdp = withStartBitrate(answer.sdp, Math.round(kbps * 0.5));
    await this.accept(pc, { type: answer.type, sdp }, current, () => this.#limit(transceiver.sender));
  }

  farewell() {
    this.id = undefined;
  }

  silentByItself() {
    const [track] = this.media.stream.getVideoTracks();
    return !track || track.muted;
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
}
