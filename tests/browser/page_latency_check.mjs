// The latency page in a real Chromium, against a server that a second page plays: what it shows, says and gives away.
// `node tests/browser/page_latency_check.mjs [NAME…]`; exits with 1 when a check fails.

import assert from 'node:assert/strict';

import { PHONE, WIDE, forgiveLoads, open, runChecks, saysOn, server, text } from './page_lib.mjs';

const RUNNING = '/latency?autostart';

const measured = (page, frames) => page.waitForFunction((least) => (globalThis.sightline.result()?.through?.frames ?? 0) >= least, frames);
const bars = (page) => page.evaluate(() => [...document.querySelectorAll('#percentiles b')].map((one) => one.textContent));

const checks = {
  async 'both ways of the picture are measured, and every stage of them'() {
    const page = await open(RUNNING);
    await saysOn(page, 'status-text', /^Live$/);
    await page.waitForFunction(() => {
      const { through, loopback, check } = globalThis.sightline.result() ?? {};
      return through?.frames > 30 && loopback?.frames > 30 && check?.frames > 10;
    });
    for (const id of ['through-p50', 'direct-p50']) await saysOn(page, id, /^\d+\.\d$/);
    assert.equal((await bars(page)).length, 6);
    assert.ok((await bars(page)).every((one) => /^\d+\.\d ms$/.test(one)), String(await bars(page)));
    const result = await page.evaluate(() => globalThis.sightline.result());
    const { STAGES, LOOPBACK_STAGES } = await import('../../web/js/stages.js');
    assert.deepEqual(Object.keys(result.through.stages), STAGES.map(({ key }) => key));
    assert.deepEqual(Object.keys(result.loopback.stages), LOOPBACK_STAGES.map(({ key }) => key));
    for (const { stages } of [result.through, result.loopback]) {
      for (const [key, figures] of Object.entries(stages)) if (key !== 'unaccounted') assert.ok(figures.every((ms) => ms >= 0), `${key}: ${figures}`);
    }
    const { frames } = await server.lastLedger();
    assert.ok(frames.length > 0 && frames.length <= 64, 'the server is told');
    for (const { whole_ms: whole, stages_ms: stages } of frames) {
      assert.ok(whole > 0);
      assert.deepEqual(Object.keys(stages), ['browser_encode', 'uplink', 'downlink', 'jitter_buffer', 'browser_decode', 'display', 'unaccounted']);
    }
    const rows = await page.locator('#through-fall tbody tr').count();
    assert.equal(rows, STAGES.length);
    await saysOn(page, 'check', /^p50 \d+\.\d+, p95 \d+\.\d+ ms apart, \d+ frames$/);
    await saysOn(page, 'clock', /^\d+\.\d+ ms, drift -?\d+ ppm$/);
    return page;
  },

  async 'a result is copied as JSON and as a link that shows it again'() {
    const page = await open(RUNNING, { permissions: ['camera', 'clipboard-read', 'clipboard-write'] });
    assert.equal(await page.locator('#copy-link').isDisabled(), true, 'nothing is measured yet');
    await page.locator('#copy-link:enabled').waitFor();
    await page.locator('#start').click();
    await saysOn(page, 'status-text', /^Ready$/);
    const shown = await bars(page);
    await page.locator('#copy-json').click();
    await saysOn(page, 'copied', /JSON copied/);
    const json = JSON.parse(await page.evaluate(() => navigator.clipboard.readText()));
    assert.ok(json.through.frames >= 100 && json.size === '640x480', JSON.stringify(json));
    await page.locator('#copy-link').click();
    await saysOn(page, 'copied', /Link copied/);
    const link = await page.evaluate(() => navigator.clipboard.readText());
    assert.ok(link.startsWith(`${server.base}/latency#r=`), link);
    const other = await open(link.slice(server.base.length));
    await saysOn(other, 'shared', /A result that was sent to you, of .*640 × 480 at 30 fps/);
    assert.deepEqual(await bars(other), shown, 'the figures are those that were copied');
    assert.equal(await other.evaluate(() => globalThis.sightline.session.state), 'idle', 'a link starts nothing');
    await page.context().close();
    await other.locator('#start').click();
    await saysOn(other, 'status-text', /^Live$/);
    assert.equal(await other.locator('#shared').isVisible(), false);
    assert.equal(new URL(other.url()).hash, '');
    return other;
  },

  async 'where nothing may be copied the text is there for the hand'() {
    const refuse = () => {
      Clipboard.prototype.writeText = () => Promise.reject(new DOMException('test', 'NotAllowedError'));
    };
    const page = await open(RUNNING, { before: refuse });
    await page.locator('#copy-json:enabled').click();
    await saysOn(page, 'copied', /from below/);
    assert.equal(JSON.parse(await page.locator('#copy-text').inputValue()).v, 1);
    return page;
  },

  async 'a link with nonsense in it says so, and no text of it becomes part of the page'() {
    const page = await open('/latency#r=bm9uc2Vuc2U');
    await saysOn(page, 'problem', /no whole result/);
    const { toHash } = await import('../../web/js/result.js');
    const hash = toHash({
      v: 1, at: '2026-01-01T00:00:00Z', server: '<img src=x onerror=alert(1)>', model: '', browser: '<b>x</b>', size: '640x480', fps: 30, seconds: 30,
      through: { frames: 5, p50: 1, p95: 2, p99: 3, stages: {} }, loopback: null, check: null, clock: null,
    });
    await page.evaluate((part) => { location.hash = part; }, hash);
    await saysOn(page, 'shared', /<b>x<\/b> · <img src=x/);
    assert.equal(await page.locator('#shared *').count(), 0);
    assert.equal(await page.locator('#problem').isVisible(), false);
    return page;
  },

  async 'a server that is away is said, and the browser alone goes on'() {
    const page = await open(RUNNING);
    await measured(page, 20);
    server.behave.down = true;
    await server.hangUp();
    await saysOn(page, 'status-text', /Trying again/);
    await saysOn(page, 'problem', /./);
    const before = await page.evaluate(() => globalThis.sightline.direct.measurement.presented);
    await page.waitForFunction((past) => globalThis.sightline.direct.measurement.presented > past + 20, before);
    server.behave.down = false;
    await saysOn(page, 'status-text', /^Live$/);
    assert.equal(await page.locator('#problem').isVisible(), false);
    forgiveLoads(page);
    return page;
  },

  async 'another size begins anew, and stopping ends the session'() {
    // Half the frames: four encoders of this size share the machine.
    const page = await open(`${RUNNING}&fps=15`);
    await measured(page, 20);
    await page.locator('#size').selectOption('1280x720');
    await page.waitForFunction(() => document.getElementById('through').videoWidth === 1280);
    await saysOn(page, 'status-text', /^Live$/);
    await page.locator('#start').click();
    await saysOn(page, 'status-text', /^Ready$/);
    assert.equal(await page.evaluate(() => globalThis.sightline.session.peer ?? globalThis.sightline.loopback.peer ?? null), null);
    return page;
  },

  async 'every control has a name, and nothing is wider than the screen'() {
    const page = await open('/latency');
    await page.locator('#through-fall tr').first().waitFor({ state: 'attached' });
    for (const colorScheme of ['light', 'dark']) {
      await page.emulateMedia({ colorScheme });
      for (const viewport of [{ width: 320, height: 568 }, PHONE, { width: 820, height: 1180 }, WIDE]) {
        await page.setViewportSize(viewport);
        const [needed, there] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
        assert.ok(needed <= there, `${needed} px needed of ${there}`);
      }
    }
    const nameless = await page.evaluate(() =>
      [...document.querySelectorAll('button, input, select, textarea, a, video, canvas')]
        .filter((one) => !(one.textContent.trim() || one.getAttribute('aria-label') || one.labels?.length))
        .map((one) => one.outerHTML),
    );
    assert.deepEqual(nameless, []);
    await page.locator('.views a', { hasText: 'Webcam' }).click();
    await saysOn(page, 'status-text', /^Ready$/);
    await page.locator('#nav-latency').click();
    assert.match(await text(page, 'intro-title'), /Latency/);
    return page;
  },
};

await runChecks(checks, () => Object.assign(server.behave, { down: false, offer: undefined, silent: false, warnings: [] }));
