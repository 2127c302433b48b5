// Drives the comparison: glass to glass through the server against Chromium's own direct loopback, interleaved.

import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';

import { writeCamera } from './camera.mjs';

const here = dirname(fileURLToPath(import.meta.url));
const option = (name, fallback) => {
  const at = process.argv.indexOf(`--${name}`);
  return at < 0 ? fallback : process.argv[at + 1];
};
const url = option('url', 'http://127.0.0.1:8080');
const pairs = Number(option('pairs', 5));
const warm = Number(option('warm', 8));
const measure = Number(option('measure', 20));
const connects = Number(option('connects', 20));
const [width, height] = option('size', '1280x720').split('x').map(Number);
const size = { width, height, fps: 30 };
const legs = option('legs', 'server,loopback,loopback0').split(',');

const quantile = (values, share) => {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted.length === 0 ? NaN : sorted[Math.min(sorted.length - 1, Math.max(0, Math.ceil(share * sorted.length) - 1))];
};
const median = (values) => quantile(values, 0.5);
const ms = (value) => value.toFixed(1).padStart(7);

const folder = mkdtempSync(join(tmpdir(), 'sightline-latency-'));
const camera = option('camera', join(folder, 'camera.y4m'));
if (!process.argv.includes('--camera')) writeCamera(camera, { ...size, frames: 90 });

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: [
    '--headless=new', '--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync', '--use-fake-device-for-media-stream', '--use-fake-ui-for-media-stream',
    `--use-file-for-fake-video-capture=${camera}`,
  ],
});
try {
  const page = await (await browser.newContext({ viewport: { width: 1400, height: 800 } })).newPage();
  page.on('pageerror', (error) => console.error('page:', error.message));
  await page.route('**/bench.html', (route) =>
    route.fulfill({ contentType: 'text/html', body: '<!doctype html><meta charset="utf-8"><title>bench</title><body><script type="module" src="/bench.mjs"></script>' }));
  await page.route('**/bench.mjs', (route) =>
    route.fulfill({ contentType: 'text/javascript', body: readFileSync(join(here, 'page.mjs'), 'utf8') }));
  await page.goto(`${url}/bench.html`);
  await page.waitForFunction(() => globalThis.bench);

  const results = Object.fromEntries(legs.map((kind) => [kind, []]));
  for (let pair = 1; pair <= pairs; pair += 1) {
    // The order alternates, so that a drift of the machine's speed favours nobody.
    for (const kind of pair % 2 ? legs : [...legs].reverse()) {
      const result = await page.evaluate(([kind, size, warm, measure]) => bench.leg(kind, size, warm, measure), [kind, size, warm, measure]);
      const [p50, p95, p99] = [0.5, 0.95, 0.99].map((share) => quantile(result.latencies, share));
      results[kind].push({ p50, p95, p99 });
      console.log(`pair ${pair} ${kind.padEnd(9)} p50 ${ms(p50)} p95 ${ms(p95)} p99 ${ms(p99)} ms  ${result.fps.toFixed(1)} fps  ` +
        `${result.latencies.length} of ${result.callbacks} frames  jitter buffer ${result.jitterBufferMs?.toFixed(1)} ms  ` +
        `${result.sizes.join(' ')}${result.ages.length ? `  box age ${median(result.ages).toFixed(0)} ms` : ''}  (${result.method})`);
    }
  }
  for (const kind of legs.filter((kind) => kind !== 'server')) {
    if (!results.server) break;
    const ratio = (key) => median(results.server.map((one, n) => one[key] / results[kind][n][key]));
    const all = (of, key) => median(results[of].map((one) => one[key])).toFixed(1);
    console.log(`server / ${kind}: median paired ratio p50 ${ratio('p50').toFixed(3)}, p95 ${ratio('p95').toFixed(3)}, p99 ${ratio('p99').toFixed(3)}  ` +
      `(medians ${all('server', 'p50')} / ${all('server', 'p99')} ms against ${all(kind, 'p50')} / ${all(kind, 'p99')} ms)`);
  }
  if (connects > 0) {
    const times = [];
    for (let n = 0; n < connects; n += 1) times.push(await page.evaluate((size) => bench.connect(size), size));
    console.log(`offer → connected: median ${median(times.map((t) => t.connected)).toFixed(0)} ms; ` +
      `offer → first annotated frame: median ${median(times.map((t) => t.first)).toFixed(0)} ms (${connects} times, ${width}×${height})`);
  }
} finally {
  await browser.close();
  rmSync(folder, { recursive: true, force: true });
}
