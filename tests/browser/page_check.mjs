// The page in a real Chromium, against a server that a second page plays: what it shows, says and does.
// `node tests/browser/page_check.mjs [NAME…]`; exits with 1 when a check fails.

import assert from 'node:assert/strict';

import { PHONE, WIDE, open, runChecks, saysOn, server, text } from './page_lib.mjs';
import { LABELS } from './page_mock.mjs';

const PATTERN = '/?autostart&source=pattern&size=640x480';

const status = (page, wanted) => page.waitForFunction((text) => document.getElementById('status-text').textContent === text, wanted);
const hasPicture = (page) => page.waitForFunction(() => document.getElementById('veil').hidden && document.getElementById('banner').hidden);
const stat = (page, label) =>
  page.evaluate((wanted) => [...document.querySelectorAll('#stats dt')].find((term) => term.textContent === wanted).nextSibling.textContent, label);

const checks = {
  async 'the annotated video comes with its detections, figures and stages'() {
    const page = await open(PATTERN);
    await status(page, 'Live');
    await hasPicture(page);
    await page.waitForFunction(() => globalThis.sightline.measurement.meter.stamps.size >= 20);
    await saysOn(page, 'p50', /^\d+\.\d$/);
    await saysOn(page, 'ledger-total', /\d/);
    await page.waitForFunction(() => !/–/.test([...document.querySelectorAll('#stats dd')].slice(0, 4).map((one) => one.textContent).join()));
    const names = await page.locator('#detections li:not([hidden]) .name').allTextContents();
    assert.deepEqual(names, LABELS.slice(0, 3), 'in the order of confidence, as plain text');
    assert.equal(await page.locator('#detections img').count(), 0, 'a name is never HTML');
    assert.equal(await stat(page, 'Size back'), '640 × 480');
    assert.ok(Number.parseFloat(await stat(page, 'Frames joined')) > 90, await stat(page, 'Frames joined'));
    const infer = await page.locator('#detector-legend div', { hasText: 'Infer' }).locator('dd').textContent();
    assert.equal(infer, '6.0');
    await saysOn(page, 'stages-window', /^\d+ frames of the last 10 s$/);
    const stages = await page.locator('#waterfall tbody tr').evaluateAll((rows) => rows.map((row) => [...row.querySelectorAll('.number')].map((one) => one.textContent)));
    assert.equal(stages.length, 14);
    assert.ok(stages.flat().every((one) => /^-?\d+\.\d$/.test(one)), stages.join(' | '));
    assert.match(await text(page, 'percentiles'), /p50.*\d ms.*p95.*\d ms.*p99.*\d ms/);
    assert.match(await text(page, 'check'), /apart$/);
    return page;
  },

  async 'a camera’s latency is measured by RTP timestamp'() {
    const page = await open('/?autostart&size=640x480');
    await status(page, 'Live');
    await page.waitForFunction(() => globalThis.sightline.measurement.meter.summary().method === 'encoder');
    await saysOn(page, 'p50', /^\d+\.\d$/);
    await saysOn(page, 'method', /joined by RTP timestamp/);
    return page;
  },

  async 'controls reach the server, and a refusal takes them back'() {
    const page = await open(PATTERN);
    await status(page, 'Live');
    await saysOn(page, 'stream-name', /mock/);
    await page.locator('#confidence').focus();
    for (let step = 0; step < 5; step += 1) await page.keyboard.press('ArrowRight');
    await saysOn(page, 'applied', /Applied/);
    await page.waitForFunction(() => document.getElementById('confidence-value').textContent === '55 %');
    await page.locator('#iou').focus();
    await page.keyboard.press('Home');
    await saysOn(page, 'applied', /must be above 0/);
    assert.equal(await text(page, 'iou-value'), '45 %');
    await page.locator('input[value=latest]').focus();
    await page.keyboard.press('ArrowRight');
    await saysOn(page, 'applied', /Applied/);
    assert.equal((await server.lastConfig()).overlay, 'exact');
    await page.locator('#classes summary').click();
    await page.locator('#classes-filter').fill('a');
    await page.locator('#classes-none').click();
    await page.waitForFunction(() => document.getElementById('classes-summary').textContent === 'cup');
    await page.waitForFunction(() => globalThis.sightline.controls.config.classes?.length === 1);
    return page;
  },

  async 'another size and another source need no new connection'() {
    const page = await open(PATTERN);
    await status(page, 'Live');
    await hasPicture(page);
    const session = await page.evaluate(() => globalThis.sightline.session.id);
    await page.locator('#size').selectOption('320x240');
    await page.waitForFunction(() => document.getElementById('annotated').videoWidth === 320);
    await page.locator('#source').selectOption({ index: 0 });
    await page.waitForFunction(() => globalThis.sightline.measurement.meter.clock.source === 'encoder');
    assert.equal(await page.evaluate(() => globalThis.sightline.session.id), session);
    return page;
  },

  async 'it comes back by itself when the server was away'() {
    const page = await open(PATTERN);
    await status(page, 'Live');
    await hasPicture(page);
    server.behave.down = true;
    await server.hangUp();
    await saysOn(page, 'banner-text', /The server is away\. Trying again in \d+ s/);
    assert.equal(await page.locator('#frozen').isVisible(), true, 'the last picture stays, greyed');
    assert.match(await text(page, 'live'), /away/, 'a screen reader is told once');
    server.behave.down = false;
    await status(page, 'Live');
    await hasPicture(page);
    page.faults = page.faults.filter((fault) => !/Failed to load resource/.test(fault));
    return page;
  },

  async 'a video that stops is noticed'() {
    server.behave.silent = true;
    const page = await open(PATTERN);
    await saysOn(page, 'live', /The video stopped coming/);
    server.behave.silent = false;
    await status(page, 'Live');
    await hasPicture(page);
    return page;
  },

  async 'a full server is said, waited for, and entered'() {
    server.behave.offer = { status: 503, message: 'All 8 sessions are taken.' };
    const page = await open(PATTERN);
    await saysOn(page, 'veil-title', /The server is full/);
    assert.match(await text(page, 'veil-text'), /^All 8 sessions are taken\./);
    await saysOn(page, 'veil-wait', /Trying again in \d+ s/);
    server.behave.offer = undefined;
    await page.locator('#veil-action').click();
    await status(page, 'Live');
    page.faults = [];
    return page;
  },

  async 'a refused offer stops with the server’s own words'() {
    server.behave.offer = { status: 406, message: 'The offer has packetization mode 0 alone.' };
    const page = await open(PATTERN);
    await saysOn(page, 'veil-text', /packetization mode 0 alone/);
    await status(page, 'Stopped');
    assert.equal(await page.locator('#start').getAttribute('data-running'), 'false');
    server.behave.offer = undefined;
    page.faults = [];
    return page;
  },

  async 'what is wrong with the camera is said'() {
    const words = { NotAllowedError: /refused/, NotFoundError: /No camera/, NotReadableError: /in use/, OverconstrainedError: /cannot do/ };
    let page;
    for (const [name, title] of Object.entries(words)) {
      const refuse = (error) => {
        MediaDevices.prototype.getUserMedia = () => Promise.reject(new DOMException('test', error));
      };
      await page?.context().close();
      page = await open('/', { before: refuse, argument: name });
      await page.locator('#start').click();
      await saysOn(page, 'veil-title', title);
      await status(page, 'Stopped');
    }
    return page;
  },

  async 'an insecure page is told so before anything is pressed'() {
    const page = await open('/', {
      before: () => {
        Object.defineProperty(Navigator.prototype, 'mediaDevices', { get: () => undefined });
        Object.defineProperty(globalThis, 'isSecureContext', { get: () => false });
      },
    });
    await saysOn(page, 'veil-text', /localhost/);
    return page;
  },

  async 'a browser without H.264 is told so'() {
    const page = await open(PATTERN, {
      before: () => {
        RTCRtpSender.getCapabilities = () => ({ codecs: [{ mimeType: 'video/VP8', clockRate: 90000 }] });
      },
    });
    await saysOn(page, 'veil-title', /cannot send H\.264/);
    return page;
  },

  async 'warnings of the server stand above the page until dismissed'() {
    server.behave.warnings = ['No model file: the motion detector is at work.'];
    const page = await open('/');
    await page.locator('.notice p', { hasText: 'motion detector' }).waitFor();
    await page.locator('.notice button').click();
    assert.equal(await page.locator('.notice').count(), 0);
    server.behave.warnings = [];
    return page;
  },

  async 'leaving the page ends the session'() {
    const page = await open(PATTERN);
    await status(page, 'Live');
    const id = await page.evaluate(() => globalThis.sightline.session.id);
    const left = new Promise((resolve) => {
      const look = setInterval(() => {
        if (!server.left.includes(`/api/v1/sessions/${id}`)) return;
        clearInterval(look);
        resolve();
      }, 20);
    });
    await page.goto('about:blank');
    await left;
    return page;
  },

  async 'the keyboard reaches everything, and starts and stops'() {
    const page = await open('/?source=pattern');
    await page.waitForFunction(() => document.getElementById('source').value === 'pattern');
    const reached = new Set();
    for (let step = 0; step < 30; step += 1) {
      await page.keyboard.press('Tab');
      reached.add(await page.evaluate(() => document.activeElement.id || document.activeElement.name || document.activeElement.tagName));
    }
    for (const id of ['theme', 'veil-action', 'source', 'size', 'fps', 'selfview-toggle', 'fullscreen', 'start', 'confidence', 'iou', 'overlay', 'SUMMARY', 'BODY']) {
      assert.ok(reached.has(id), `${id} is not reached, only ${[...reached]}`);
    }
    await page.locator('#start').focus();
    await page.keyboard.press('Enter');
    await status(page, 'Live');
    await page.keyboard.press('Space');
    await status(page, 'Ready');
    return page;
  },

  async 'every control has a name, and nothing is wider than the screen'() {
    let page;
    for (const colorScheme of ['light', 'dark']) {
      for (const viewport of [{ width: 320, height: 568 }, PHONE, { width: 820, height: 1180 }, WIDE]) {
        await page?.context().close();
        page = await open('/', { viewport, colorScheme });
        await page.locator('#stats dt').first().waitFor();
        const [needed, there] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
        assert.ok(needed <= there, `${needed} px needed of ${there}`);
      }
    }
    const nameless = await page.evaluate(() =>
      [...document.querySelectorAll('#view-webcam :is(button, input, select), header :is(button, a)')]
        .filter((one) => !(one.textContent.trim() || one.getAttribute('aria-label') || one.labels?.length))
        .map((one) => one.outerHTML),
    );
    assert.deepEqual(nameless, []);
    return page;
  },

  async 'the theme goes round, and is remembered'() {
    const page = await open('/');
    const theme = () => page.evaluate(() => document.documentElement.dataset.theme ?? 'auto');
    const seen = [];
    for (let step = 0; step < 3; step += 1) {
      seen.push(await theme());
      await page.locator('#theme').click();
    }
    assert.deepEqual(seen, ['auto', 'light', 'dark']);
    await page.locator('#theme').click();
    await page.reload();
    assert.equal(await theme(), 'light');
    return page;
  },
};

await runChecks(checks, () => Object.assign(server.behave, { down: false, offer: undefined, silent: false, warnings: [] }));
