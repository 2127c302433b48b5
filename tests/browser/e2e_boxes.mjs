// The picture that a person sees has its boxes where the `frame` message of that very frame says.

import { base, run, start, streams } from './e2e_lib.mjs';

await run(async (page) => {
  await start(page);
  const listed = page.waitForFunction(() => document.querySelector('#detections li:not([hidden]) .name')?.textContent === 'motion');
  const palette = (await (await fetch(`${base}/api/v1/info`)).json()).palette;
  const seen = await page.evaluate(watch, { palette, enough: 130, limitMs: 20_000 });
  await listed;
  return { ...seen, streams: await streams() };
});

// Runs in the page.
async function watch({ palette, enough, limitMs }) {
  const video = document.getElementById('annotated');
  const canvas = new OffscreenCanvas(16, 16);
  const context = canvas.getContext('2d', { willReadFrequently: true });
  const chroma = (r, g, b) => [-0.148 * r - 0.291 * g + 0.439 * b + 128, 0.439 * r - 0.368 * g - 0.071 * b + 128];
  const classChroma = palette.map((colour) => chroma(...[1, 3, 5].map((at) => Number.parseInt(colour.slice(at, at + 2), 16))));
  // The camera's picture has one chroma everywhere: a pixel is an outline's if it is nearer to the outline's colour.
  const scene = [120, 134];
  const distance = (a, b) => Math.abs(a[0] - b[0]) + Math.abs(a[1] - b[1]);

  const share = ({ data, width, height }, { bbox, class_id }, shift) => {
    const [x1, y1, x2, y2] = [Math.floor(bbox[0] / 2) * 2, Math.floor(bbox[1] / 2) * 2, Math.ceil(bbox[2] / 2) * 2, Math.ceil(bbox[3] / 2) * 2];
    const own = classChroma[class_id % classChroma.length];
    const points = [];
    // The label may hide the upper edge.
    for (let y = y1 + 4; y < y2 - 2; y += 2) points.push([x1, y], [x2 - 1, y]);
    for (let x = x1; x < x2; x += 2) points.push([x, y2 - 1]);
    let hits = 0;
    let counted = 0;
    for (const [px, py] of points) {
      const [x, y] = [px + shift, py + shift];
      if (x < 0 || y < 0 || x >= width || y >= height) continue;
      const at = 4 * (y * width + x);
      const found = chroma(data[at], data[at + 1], data[at + 2]);
      counted += 1;
      if (distance(found, own) < distance(found, scene)) hits += 1;
    }
    return counted ? hits / counted : 0;
  };

  const messages = new Map();
  const pictures = new Map();
  const result = { callbacks: 0, joined: 0, other_frame: 0, frames_with_boxes: 0, boxes: 0, shares: [], shifted: [], size: undefined };
  const pair = (timestamp) => {
    const [message, picture] = [messages.get(timestamp), pictures.get(timestamp)];
    if (!message || !picture) return;
    pictures.delete(timestamp);
    result.joined += 1;
    if (!picture.image || message.boxes.length === 0) return;
    result.frames_with_boxes += 1;
    for (const box of message.boxes) {
      result.boxes += 1;
      result.shares.push(share(picture.image, box, 0));
      // Where no outline is, none must be found.
      result.shifted.push(share(picture.image, box, -12));
    }
  };
  globalThis.sightline.session.addEventListener('message', ({ detail: { message } }) => {
    if (message.type !== 'frame') return;
    messages.set(message.rtp_timestamp, message);
    pair(message.rtp_timestamp);
  });
  const started = performance.now();
  await new Promise((done) => {
    const each = (now, { rtpTimestamp, mediaTime }) => {
      const frame = new VideoFrame(video);
      const same = Math.abs(frame.timestamp / 1e6 - mediaTime) < 0.001;
      let image;
      if (same) {
        canvas.width = video.videoWidth;
        canvas.height = video.videoHeight;
        context.drawImage(frame, 0, 0);
        image = context.getImageData(0, 0, canvas.width, canvas.height);
        result.size = [canvas.width, canvas.height];
      } else {
        // The compositor went on meanwhile: these pixels are the next frame's.
        result.other_frame += 1;
      }
      frame.close();
      result.callbacks += 1;
      pictures.set(rtpTimestamp, { image });
      pair(rtpTimestamp);
      if (result.frames_with_boxes >= enough || performance.now() - started > limitMs) done();
      else video.requestVideoFrameCallback(each);
    };
    video.requestVideoFrameCallback(each);
  });
  // The last messages may be on their way.
  const waited = performance.now();
  while (pictures.size > 0 && performance.now() - waited < 1000) await new Promise((resolve) => setTimeout(resolve, 20));
  const mean = (list) => list.reduce((sum, one) => sum + one, 0) / list.length;
  const { shares, shifted, ...counts } = result;
  return { ...counts, unjoined: pictures.size, good: shares.filter((one) => one > 0.7).length, mean_share: mean(shares), mean_shifted: mean(shifted) };
}
