// Regions drawn on the video as a person does it: a line with the pointer, a zone with the keys alone; what the server has of them,
// and what the page tells of the square that walks over them.

import { base, run, start } from './e2e_lib.mjs';

// The first square walks to and fro; the middle of its lower edge goes from 0.11 to 0.61 of the width, at 0.37 of the height.
const LINE = [[0.36, 0.6], [0.36, 0.2]];

await run(async (page) => {
  await start(page);
  const regions = async () => {
    const name = await page.evaluate(() => globalThis.sightline.session.name);
    return (await fetch(`${base}/api/v1/streams/${name}/regions`)).json();
  };
  const form = page.locator('.regions-form:visible');
  const layer = page.locator('.regions-layer:visible');

  await page.getByRole('button', { name: 'Draw a line' }).click();
  const area = await layer.boundingBox();
  for (const [x, y] of LINE) await layer.click({ position: { x: x * area.width, y: y * area.height } });
  await form.locator('input[name=name]').fill('gate');
  await form.getByRole('button', { name: 'Save' }).click();
  await page.locator('.regions li').waitFor();

  await page.getByRole('button', { name: 'Draw a zone' }).focus();
  await page.keyboard.press('Enter');
  await layer.waitFor();
  // The layer has the focus. A triangle from the middle, whose corners are then taken to where the square passes.
  for (let corner = 0; corner < 3; corner += 1) await page.keyboard.press('Enter');
  const handles = page.locator('.regions-layer:visible .zone-corner');
  for (const [index, key, times] of [[0, 'ArrowUp', 5], [1, 'ArrowUp', 5], [1, 'ArrowRight', 1], [2, 'ArrowDown', 12]]) {
    await handles.nth(index).focus();
    for (let n = 0; n < times; n += 1) await page.keyboard.press(`Shift+${key}`);
  }
  await form.locator('input[name=name]').focus();
  await page.keyboard.press('Enter');
  await page.waitForFunction(() => document.querySelectorAll('.regions li').length === 2);
  const set = await regions();

  const told = (pattern) => page.waitForFunction((source) => [...document.querySelectorAll('#regions .events li')].some((one) => new RegExp(source).test(one.textContent)), pattern);
  for (const event of ['crossed gate left to right', 'crossed gate right to left', 'entered zone 1', 'left zone 1 after']) await told(event);
  await page.waitForFunction(() => /[1-9]\d* left to right, [1-9]\d* right to left/.test(document.querySelector('#regions .regions').textContent));
  const counts = await page.evaluate(async () => (await (await fetch(`/api/v1/streams/${globalThis.sightline.session.name}`)).json()).regions);

  await page.getByRole('button', { name: 'Remove gate' }).click();
  await page.waitForFunction(() => document.querySelectorAll('.regions li').length === 1);
  const left = await regions();
  // Another session is another stream: the page sends its regions again.
  const session = await page.evaluate(() => globalThis.sightline.session.id);
  await page.locator('#start').click();
  await page.waitForFunction(() => document.getElementById('status-text').textContent === 'Ready');
  const hidden = await page.locator('#regions').isHidden();
  await page.locator('#start').click();
  await page.waitForFunction((before) => document.getElementById('status-text').textContent === 'Live' && globalThis.sightline.session.id !== before, session);
  await page.waitForFunction(() => document.querySelectorAll('.regions li').length === 1);
  return { set, counts, left, hidden, again: await regions() };
});
