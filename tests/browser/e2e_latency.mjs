// The latency page against the server: the ledgers of frames whose pixels were read, as the page itself makes them.

import { base, run } from './e2e_lib.mjs';

const FRAMES = 100;

await run(async (page) => {
  await page.goto(`${base}/latency?autostart&size=640x480`);
  await page.waitForFunction(() => document.getElementById('status-text').textContent === 'Live');
  const ledgers = await page.evaluate(
    (wanted) =>
      new Promise((resolve) => {
        const { through } = globalThis.sightline;
        const seen = [];
        // Every stamp is read: the page itself reads ten a second.
        through.measurement.stampEveryMs = 0;
        through.measurement.addEventListener('ledger', ({ detail }) => {
          if (detail.checked) seen.push(detail);
          if (seen.length >= wanted) resolve(seen);
        });
      }),
    FRAMES,
  );
  await page.locator('#copy-link:enabled').waitFor();
  const result = await page.evaluate(() => globalThis.sightline.result());
  const { name, clock } = await page.evaluate(() => {
    const { session, through } = globalThis.sightline;
    return { name: session.name, clock: { rtt: through.measurement.clock.rtt, offset: through.measurement.clock.offsetAt(performance.now()) - performance.timeOrigin } };
  });
  // What the page reports is there a second later.
  const told = async () => (await (await fetch(`${base}/api/v1/streams/${name}/latency`)).json()).windows[0].glass_to_glass_ms;
  while (!(await told())) await new Promise((resolve) => setTimeout(resolve, 50));
  const latency = await (await fetch(`${base}/api/v1/streams/${name}/latency`)).json();
  const metrics = await (await fetch(`${base}/metrics`)).text();
  return { ledgers, result, clock, latency, histogram: metrics.split('\n').filter((line) => line.startsWith('video_processing_latency_seconds_count')) };
});
