// Holds the ledger of the latency page against the stamp in the pixels: what do the stages of a frame, each found by clocks, leave
// unexplained of the time that its own pixels tell?

import { chromium } from 'playwright-core';

const option = (name, fallback) => {
  const at = process.argv.indexOf(`--${name}`);
  return at < 0 ? fallback : process.argv[at + 1];
};
const url = option('url', 'http://127.0.0.1:8080');
const runs = Number(option('runs', 3));
const warm = Number(option('warm', 8));
const measure = Number(option('measure', 15));
const size = option('size', '640x480');

const quantile = (values, share) => {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted.length === 0 ? NaN : sorted[Math.min(sorted.length - 1, Math.max(0, Math.ceil(share * sorted.length) - 1))];
};
const ms = (value) => value.toFixed(2).padStart(6);

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: ['--headless=new', '--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync', '--autoplay-policy=no-user-gesture-required'],
});
try {
  for (let run = 1; run <= runs; run += 1) {
    const page = await (await browser.newContext({ viewport: { width: 1280, height: 900 } })).newPage();
    page.on('pageerror', (error) => console.error('page:', error.message));
    await page.goto(`${url}/latency?autostart&size=${size}`);
    await page.waitForFunction(() => document.getElementById('status-text').textContent === 'Live');
    await page.waitForTimeout(warm * 1000);
    const legs = await page.evaluate(async (seconds) => {
      const { through, direct } = globalThis.sightline;
      const seen = { through: [], direct: [] };
      for (const [name, leg] of Object.entries({ through, direct })) {
        leg.measurement.addEventListener('ledger', ({ detail }) => seen[name].push(detail));
      }
      await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
      const { clock } = through.measurement;
      return { ...seen, clock: { rtt: clock.rtt, ppm: clock.driftPpm } };
    }, measure);
    console.log(`run ${run}, ${size}: clocks joined within ${(legs.clock.rtt / 2).toFixed(2)} ms, drift ${legs.clock.ppm.toFixed(1)} ppm`);
    for (const [name, frames] of Object.entries({ server: legs.through, loopback: legs.direct })) {
      const whole = frames.map((frame) => frame.whole);
      const apart = frames.filter(({ checked }) => checked).map(({ unaccounted }) => Math.abs(unaccounted));
      console.log(`  ${name.padEnd(8)} ${String(frames.length).padStart(4)} frames, drawing to screen p50 ${ms(quantile(whole, 0.5))} p95 ${ms(quantile(whole, 0.95))} ms;  ` +
        `unaccounted against the stamp p50 ${ms(quantile(apart, 0.5))} p95 ${ms(quantile(apart, 0.95))} worst ${ms(Math.max(...apart))} ms of ${apart.length} frames`);
    }
    const stages = Object.keys(legs.through[0]?.stages ?? {});
    console.log(`  ${stages.map((key) => `${key} ${quantile(legs.through.map((frame) => frame.stages[key]), 0.5).toFixed(2)}`).join(', ')} (medians, ms)`);
    await page.context().close();
  }
} finally {
  await browser.close();
}
