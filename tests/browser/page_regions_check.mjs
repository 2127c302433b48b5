// Regions drawn on the video in a real Chromium, against a server that a second page plays.
// `node tests/browser/page_regions_check.mjs [NAME…]`; exits with 1 when a check fails.

import assert from 'node:assert/strict';

import { PHONE, forgiveLoads, open, runChecks, saysOn, server } from './page_lib.mjs';
import { sampleStreams } from './page_mock_streams.mjs';

const { streams } = server;
const PATTERN = '/?autostart&source=pattern&size=640x480';
const TRIANGLE = [[0.2, 0.2], [0.8, 0.25], [0.5, 0.9]];

const layer = (page) => page.locator('.regions-layer:visible');
const form = (page) => page.locator('.regions-form:visible');
const field = (page, name) => form(page).locator(`[name=${name}]`);
const rows = (page) => page.locator('.regions li:visible');

async function live(page) {
  await page.waitForFunction(() => document.getElementById('status-text').textContent === 'Live' && document.getElementById('veil').hidden);
  await page.locator('#regions').waitFor();
}

async function click(page, corners, act = (place, position) => place.click({ position })) {
  const { width, height } = await layer(page).boundingBox();
  for (const [x, y] of corners) await act(layer(page), { x: x * width, y: y * height });
}

const near = (sent, wanted) =>
  sent.length === wanted.length && sent.every(([x, y], n) => Math.abs(x - wanted[n][0]) < 0.005 && Math.abs(y - wanted[n][1]) < 0.005);

const checks = {
  async 'a zone is drawn on the picture, named and sent'() {
    const page = await open(PATTERN);
    await live(page);
    await page.getByRole('button', { name: 'Draw a zone' }).click();
    assert.equal(await form(page).getByRole('button', { name: 'Save' }).isDisabled(), true, 'nothing is drawn yet');
    // The layer is as large as the picture, which the stage shows with bars beside it.
    const { width, height } = await layer(page).boundingBox();
    assert.ok(Math.abs(width / height - 640 / 480) < 0.01, `${width} x ${height}`);
    await click(page, TRIANGLE);
    await field(page, 'name').fill(' yard ');
    await field(page, 'dwell').fill('2,5');
    await page.keyboard.press('Enter');
    await rows(page).first().waitFor();
    const [method, { regions, draw }] = streams.bodies.at(-1);
    assert.deepEqual([method, Object.keys(regions), draw, regions.yard.dwell_s], ['PUT', ['yard'], true, 2.5]);
    assert.ok(near(regions.yard.polygon, TRIANGLE), JSON.stringify(regions));
    assert.equal(await layer(page).count(), 0, 'the drawing is over');
    streams.regionCounts = { yard: { kind: 'zone', inside: 2, enters: 5, leaves: 3, dwells: 1, left_to_right: 0, right_to_left: 0 } };
    await page.waitForFunction(() => /2 inside, 5 entered, 1 stayed/.test(document.querySelector('#regions .regions').textContent));
    return page;
  },

  async 'what happens is told, the newest first, and a name is never HTML'() {
    streams.regions.set('mock', { regions: { yard: { polygon: TRIANGLE } }, draw: false });
    const page = await open(PATTERN);
    await live(page);
    await saysOn(page, 'regions', /Nothing happened yet/);
    await server.happen(
      { kind: 'enter', region: 'yard', track_id: 4, class_name: '<img src=x onerror=alert(1)>', count: 2 },
      { kind: 'cross', region: 'gate', track_id: 7, class_name: 'face', direction: 'right_to_left', count: 3 },
    );
    await page.locator('#regions .events li').nth(1).waitFor();
    const told = await page.locator('#regions .events li span').allTextContents();
    assert.deepEqual(told, ['face #7 crossed gate right to left, 3 so far', '<img src=x onerror=alert(1)> #4 entered yard 2 inside']);
    assert.equal(await page.locator('#regions img').count(), 0);
    return page;
  },

  async 'a line has two ends, is drawn with the keys alone, and a refusal is said'() {
    const page = await open(PATTERN);
    await live(page);
    await page.getByRole('button', { name: 'Draw a line' }).focus();
    await page.keyboard.press('Enter');
    await page.waitForFunction(() => document.activeElement.className === 'regions-layer');
    for (let end = 0; end < 4; end += 1) await page.keyboard.press('Enter');
    assert.equal(await layer(page).locator('.zone-corner').count(), 2);
    await page.keyboard.press('Shift+ArrowDown');
    streams.refuseRegions = 'regions.line 1: that is not to be had';
    await field(page, 'name').focus();
    await page.keyboard.press('Enter');
    await form(page).getByText('that is not to be had').waitFor();
    streams.refuseRegions = undefined;
    await page.keyboard.press('Enter');
    await rows(page).first().waitFor();
    const [, { regions }] = streams.bodies.at(-1);
    assert.deepEqual(regions, { 'line 1': { line: [[0.5, 0.5], [0.2, 0.55]] } });
    assert.equal(await page.evaluate(() => document.activeElement.textContent), 'Draw a line', 'the focus is back');
    await page.getByRole('button', { name: 'Draw a zone' }).click();
    await page.keyboard.press('Escape');
    assert.equal(await layer(page).count(), 0, 'Escape ends it');
    forgiveLoads(page);
    return page;
  },

  async 'a region is changed and removed, and the rest of it stays'() {
    const door = { line: [[0.5, 1], [0.5, 0]], classes: ['face'] };
    streams.regions.set('mock', { regions: { door, yard: { polygon: TRIANGLE, kind: 'exclude' } }, draw: true });
    const page = await open(PATTERN);
    await live(page);
    await page.getByRole('button', { name: 'Edit door' }).click();
    assert.equal(await layer(page).locator('g polygon').count(), 1, 'the other one is shown');
    await field(page, 'name').fill('yard');
    await page.keyboard.press('Enter');
    await form(page).getByText('There is a region yard already').waitFor();
    await field(page, 'name').fill('gate');
    await layer(page).locator('.zone-corner').nth(1).focus();
    await page.keyboard.press('ArrowRight');
    await form(page).getByRole('button', { name: 'Save' }).click();
    await page.getByRole('button', { name: 'Edit gate' }).waitFor();
    assert.deepEqual(streams.bodies.at(-1)[1].regions, { yard: { polygon: TRIANGLE, kind: 'exclude' }, gate: { line: [[0.5, 1], [0.51, 0]], classes: ['face'] } });
    await page.getByRole('button', { name: 'Remove yard' }).click();
    await page.getByRole('button', { name: 'Edit yard' }).waitFor({ state: 'detached' });
    await page.locator('#regions').getByLabel('In the picture').uncheck();
    await page.waitForFunction(() => document.querySelectorAll('#regions .regions li').length === 1);
    assert.deepEqual(Object.keys(streams.bodies.at(-1)[1].regions), ['gate']);
    return page;
  },

  async 'a watched stream has its regions too, on a phone with the finger'() {
    streams.list = sampleStreams(1);
    const page = await open('/#/streams/front-door', { viewport: PHONE, hasTouch: true });
    await page.waitForFunction(() => document.getElementById('watch-veil').hidden && document.getElementById('watch-annotated').videoWidth > 0);
    await page.locator('#watch-regions').getByRole('button', { name: 'Draw a zone' }).tap();
    await click(page, TRIANGLE, (place, position) => place.tap({ position }));
    await field(page, 'kind').selectOption('include');
    assert.equal(await field(page, 'dwell').isVisible(), false, 'only a zone tells who stays');
    const save = form(page).getByRole('button', { name: 'Save' });
    const { height } = await save.boundingBox();
    assert.ok(height >= 44, `${height} px are too few for a finger`);
    await save.tap();
    await rows(page).first().waitFor();
    const { regions } = streams.bodies.at(-1)[1];
    assert.equal(regions['zone 1'].kind, 'include');
    assert.ok(near(regions['zone 1'].polygon, TRIANGLE), JSON.stringify(regions));
    const wide = await page.evaluate(() => document.documentElement.scrollWidth);
    assert.ok(wide <= PHONE.width, `${wide} px wide`);
    forgiveLoads(page);
    return page;
  },
};

await runChecks(checks, () => {
  streams.list = [];
  streams.bodies = [];
  streams.regions.clear();
  streams.regionCounts = {};
  streams.refuseRegions = undefined;
});
