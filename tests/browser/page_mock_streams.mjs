// The streams of the server that the page's own tests talk to: their list, their cameras, their pictures, and WHEP from the
// answering page, whose video has a square whose place is known.

const ERROR_TEXT = {
  bad_url: 'url: "https://…" is no camera’s address; rtsp://, http:// and file: are possible',
};
const redacted = (url = '') => url.replace(/^([a-z]+:\/\/[^:@/]*):[^@/]*@/, '$1:***@');

/** One stream of each state, then live ones up to `count`. */
export function sampleStreams(count) {
  const camera = (name, state, more = {}, stream = {}) => ({
    name, kind: 'camera', width: 1280, height: 720, viewers: 0, input_fps: state === 'live' ? 25.02 : 0, detection_fps: state === 'live' ? 12.5 : 0,
    video: { codec: 'H.264', profile: 'Main', reorders: false, forwarded: true, why_not: null },
    camera: { state, last_error: null, restarts: 0, since_last_frame_ms: state === 'live' ? 20 : null, retry_in_ms: null, notes: [], ...more },
    ...stream,
  });
  const streams = [
    camera('front-door', 'live', { restarts: 2, notes: ['audio AAC is not passed through'] }, { viewers: 3 }),
    camera('garage', 'backoff', { last_error: 'connecting to 192.168.1.21:554: connection refused', restarts: 7, since_last_frame_ms: 402_000, retry_in_ms: 11_400 }),
    camera('garden', 'unauthorized', { last_error: 'the camera answered 401: user or password is wrong', retry_in_ms: 28_000 }),
    camera('hall', 'stalled', { since_last_frame_ms: 4300, restarts: 1 }),
    camera('loading-dock-and-the-yard-behind-it', 'unsupported', { last_error: 'H.265: build with `--features ffmpeg` to decode it', retry_in_ms: 25_000 }),
    camera('office', 'disabled'),
    camera('parking', 'idle', { since_last_frame_ms: 95_000 }),
    camera('roof', 'connecting'),
    { name: 'drone', kind: 'whip', width: 1920, height: 1080, viewers: 1, input_fps: 30, detection_fps: 9 },
    { name: 'x7k2pd', kind: 'offer', width: 640, height: 480, viewers: 1, input_fps: 30, detection_fps: 28 },
  ];
  for (let n = streams.length; n < count; n += 1) streams.push(camera(`cam-${n}`, 'live'));
  return streams.slice(0, count);
}

/** The part of the server that is about streams; `whep` answers an offer in the answering page. */
export class MockStreams {
  constructor(whep, picture) {
    this.whep = whep;
    this.picture = picture;
    this.list = [];
    this.refuse = undefined;
    this.canPersist = true;
    this.token = undefined;
    this.bodies = [];
    this.left = [];
    this.pictures = [];
    this.pictureMs = 0;
    this.underWay = 0;
    this.most = 0;
    this.sessions = 0;
    /** By stream: `{regions, draw}`. */
    this.regions = new Map();
    this.regionCounts = {};
    this.refuseRegions = undefined;
  }

  find(name) {
    return this.list.find((stream) => stream.name === name);
  }

  /** Answers what is its to answer; `false` for anything else. */
  async handle(request, response, { pathname, searchParams }) {
    const send = (status, type, body, headers = {}) => {
      response.writeHead(status, { 'content-type': type, ...headers });
      response.end(body);
    };
    const json = (status, body) => send(status, 'application/json', JSON.stringify(body));
    const refused = (status, code, message) => json(status, { error: { code, message } });
    const text = async () => {
      let body = '';
      for await (const chunk of request) body += chunk;
      return body;
    };
    const part = (pattern) => pattern.exec(pathname)?.slice(1).map(decodeURIComponent);
    let found;
    if (pathname === '/api/v1/streams') {
      json(200, { streams: this.list.map(({ config, ...stream }) => stream) });
    } else if ((found = part(/^\/api\/v1\/streams\/([^/]+)\/snapshot\.jpg$/))) {
      await this.#snapshot(found[0], searchParams, send, refused);
    } else if ((found = part(/^\/api\/v1\/streams\/([^/]+)\/regions$/))) {
      if (request.method === 'PUT') {
        const body = JSON.parse(await text());
        this.bodies.push(['PUT', body]);
        if (this.refuseRegions) return refused(400, 'bad_regions', this.refuseRegions), true;
        this.regions.set(found[0], body);
      }
      json(200, this.regions.get(found[0]) ?? { regions: {}, draw: false });
    } else if ((found = part(/^\/api\/v1\/streams\/([^/]+)$/))) {
      json(200, { name: found[0], regions: this.regionCounts });
    } else if (pathname === '/api/v1/cameras' && request.method === 'GET') {
      const cameras = this.list.filter(({ kind }) => kind === 'camera');
      const shown = cameras.map(({ name, camera, config: { origin = 'api', persist = false, ...config } = {} }) => ({
        name, origin, ...config, url: redacted(config.url), status: camera, persisted: persist,
      }));
      json(200, { cameras: shown, can_persist: this.canPersist });
    } else if (pathname === '/api/v1/cameras') {
      const body = JSON.parse(await text());
      this.bodies.push(['POST', body]);
      if (this.find(body.name)) return refused(409, 'name_taken', `the name ${body.name} is taken; choose another or remove that stream`), true;
      if (!/^(rtsp|http|file):/.test(body.url)) return refused(400, 'bad_url', ERROR_TEXT.bad_url), true;
      this.list.push({ ...sampleStreams(1)[0], name: body.name, config: body });
      json(201, { name: body.name });
    } else if ((found = part(/^\/api\/v1\/cameras\/([^/]+)$/))) {
      const stream = this.find(found[0]);
      if (!stream) return refused(404, 'not_found', 'there is no such camera'), true;
      if (request.method === 'DELETE') {
        this.list.splice(this.list.indexOf(stream), 1);
        response.writeHead(204).end();
        return true;
      }
      const body = JSON.parse(await text());
      this.bodies.push(['PATCH', body]);
      if (body.enabled !== undefined) Object.assign(stream, { input_fps: body.enabled ? 25 : 0 }).camera.state = body.enabled ? 'live' : 'disabled';
      stream.config = { ...stream.config, ...body };
      json(200, { name: stream.name });
    } else if ((found = part(/^\/whep\/([^/]+)$/))) {
      const offer = await text();
      if (this.refuse) return refused(this.refuse.status, 'mock', this.refuse.message), true;
      if (this.token && request.headers.authorization !== `Bearer ${this.token}`) return refused(401, 'unauthorized', 'a token, please'), true;
      const stream = this.find(found[0]);
      if (!stream) return refused(404, 'not_found', `there is no stream ${found[0]}; GET /api/v1/streams lists them`), true;
      const answer = await this.whep({ sdp: offer, video: searchParams.get('video'), audio: stream.audio ?? false, captured: stream.captured });
      this.sessions += 1;
      send(201, 'application/sdp', answer, { location: `/whep/${encodeURIComponent(found[0])}/mock-${this.sessions}`, etag: '"mock"' });
    } else if (request.method === 'DELETE' && part(/^\/whep\/([^/]+)\/([^/]+)$/)) {
      this.left.push(pathname);
      json(200, {});
    } else {
      return false;
    }
    return true;
  }

  async #snapshot(name, searchParams, send, refused) {
    const stream = this.find(name);
    const video = searchParams.get('video');
    const width = Number(searchParams.get('width'));
    this.pictures.push({ name, video, width });
    this.underWay += 1;
    this.most = Math.max(this.most, this.underWay);
    if (this.pictureMs) await new Promise((done) => setTimeout(done, this.pictureMs));
    this.underWay -= 1;
    if (!stream || ['unauthorized', 'unsupported', 'connecting'].includes(stream.camera?.state)) refused(404, 'no_picture', 'no picture of it was decoded yet');
    else send(200, 'image/jpeg', Buffer.from(await this.picture({ name, video }), 'base64'));
  }
}

/** Runs in the answering page: a picture of a stream, as base64 of a JPEG. */
export function drawPicture({ name, video }) {
  const cache = (globalThis.pictures ??= new Map());
  const key = `${name} ${video}`;
  if (cache.has(key)) return cache.get(key);
  const canvas = document.createElement('canvas');
  canvas.width = 640;
  canvas.height = 360;
  const c = canvas.getContext('2d');
  const hue = [...name].reduce((sum, letter) => (sum * 31 + letter.codePointAt(0)) % 360, 7);
  const sky = c.createLinearGradient(0, 0, 0, 360);
  sky.addColorStop(0, `hsl(${hue} 30% 62%)`);
  sky.addColorStop(0.6, `hsl(${hue} 26% 44%)`);
  sky.addColorStop(0.61, `hsl(${(hue + 40) % 360} 18% 34%)`);
  sky.addColorStop(1, `hsl(${(hue + 40) % 360} 16% 22%)`);
  c.fillStyle = sky;
  c.fillRect(0, 0, 640, 360);
  c.fillStyle = `hsl(${(hue + 180) % 360} 35% 55%)`;
  c.fillRect(120 + (hue % 200), 150, 70, 140);
  if (video === 'annotated') {
    c.strokeStyle = '#17bebb';
    c.lineWidth = 4;
    c.strokeRect(114 + (hue % 200), 144, 82, 152);
  }
  const picture = canvas.toDataURL('image/jpeg', 0.7).split(',')[1];
  cache.set(key, picture);
  return picture;
}

/** Runs in the answering page: one viewer of a moving square, whose place each message tells late and for every third frame. */
export async function answerViewer({ sdp, video, audio, captured }) {
  const [WIDTH, HEIGHT, SIZE, SPEED, LATE_MS] = [480, 270, 40, 150, 70];
  const peer = new RTCPeerConnection({ encodedInsertableStreams: true });
  (globalThis.peers ??= []).push(peer);
  const canvas = document.createElement('canvas');
  Object.assign(canvas, { width: WIDTH, height: HEIGHT });
  const c = canvas.getContext('2d', { alpha: false });
  const stream = canvas.captureStream(0);
  const [track] = stream.getVideoTracks();
  let channel;
  let id = 0;
  const drawn = [];
  const say = (message) => channel?.readyState === 'open' && channel.send(JSON.stringify({ v: 1, stream: 'mock', ...message }));
  peer.addEventListener('datachannel', (event) => {
    channel = event.channel;
    channel.addEventListener('message', ({ data }) => {
      const message = JSON.parse(data);
      if (message.type === 'ping') say({ type: 'pong', id: message.id, t: message.t, server_ms: performance.timeOrigin + performance.now() });
    });
  });
  const timer = setInterval(() => {
    if (peer.connectionState === 'closed') return clearInterval(timer);
    const way = (performance.now() / 1000) * SPEED;
    const there = WIDTH - SIZE;
    const back = way % (2 * there) > there;
    const x = back ? 2 * there - (way % (2 * there)) : way % (2 * there);
    c.fillStyle = '#203040';
    c.fillRect(0, 0, WIDTH, HEIGHT);
    c.fillStyle = '#ffffff';
    c.fillRect(x, 115, SIZE, SIZE);
    if (video === 'annotated') {
      c.strokeStyle = '#e4572e';
      c.lineWidth = 3;
      c.strokeRect(x, 115, SIZE, SIZE);
    }
    drawn.push({ x, velocity: [back ? -SPEED : SPEED, 0], at: Date.now() });
    track.requestFrame();
  }, 33);

  await peer.setRemoteDescription({ type: 'offer', sdp });
  for (const transceiver of peer.getTransceivers()) {
    const sends = transceiver.receiver.track.kind === 'video' || audio;
    transceiver.direction = sends ? 'sendonly' : 'inactive';
    if (transceiver.receiver.track.kind === 'video') {
      await transceiver.sender.replaceTrack(track);
      transceiver.sender.setStreams(stream);
      const out = transceiver.sender.createEncodedStreams();
      const tell = new TransformStream({
        transform(frame, controller) {
          controller.enqueue(frame);
          const rtp = frame.getMetadata().rtpTimestamp;
          const one = drawn.splice(0).at(-1);
          if (!one) return;
          id += 1;
          const box = { bbox: [one.x, 115, one.x + SIZE, 115 + SIZE], confidence: 0.9, class_id: 1, track_id: 4 };
          const named = { frame_id: id, rtp_timestamp: rtp, source_rtp_timestamp: rtp };
          const capture = captured === undefined ? {} : { capture_time_ms: one.at + captured };
          const found = { type: 'detections', ...named, ...capture, width: WIDTH, height: HEIGHT, model: 'mock', detections: [{ ...box, class_name: 'hand', velocity: one.velocity }], processing_time_ms: 6.5, stages_ms: { detect_queue: 0.2, preprocess: 0.4, infer: 6, postprocess: 0.1 } };
          if (id % 3 === 0) setTimeout(() => say(found), LATE_MS);
          const ledger = { receive: 0.3, queue: 0.1, decode: 1.1, render_wait: 0.1, draw: 0.1, encode: 3.2, send: 0.2 };
          const sent = { sent_ms: performance.timeOrigin + performance.now() };
          if (video === 'annotated') say({ type: 'frame', ...named, ...sent, boxes: [box], detection_frame_id: id - (id % 3), age_ms: 30, ledger_ms: ledger });
          else say({ type: 'frame', ...named, ...sent, boxes: [], ledger_ms: { receive: 0.3, send: 0.4 } });
        },
      });
      out.readable.pipeThrough(tell).pipeTo(out.writable);
    } else if (audio) {
      const sound = new AudioContext();
      const tone = sound.createOscillator();
      const end = sound.createMediaStreamDestination();
      tone.connect(end);
      tone.start();
      await transceiver.sender.replaceTrack(end.stream.getAudioTracks()[0]);
      const out = transceiver.sender.createEncodedStreams();
      out.readable.pipeTo(out.writable);
    }
  }
  await peer.setLocalDescription();
  if (peer.iceGatheringState !== 'complete') {
    await new Promise((done) => {
      peer.addEventListener('icegatheringstatechange', () => peer.iceGatheringState === 'complete' && done());
    });
  }
  return peer.localDescription.sdp;
}
