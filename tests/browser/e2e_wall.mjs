// The wall and the full view with the real server, whose camera `loop` plays the squares from a file; and the example in one
// file, as a page of another origin.

import { readFile } from 'node:fs/promises';
import http from 'node:http';

import { compareBoxes } from './compare_boxes.mjs';
import { base, camera as film, run, streams } from './e2e_lib.mjs';

// A page of one's own is somewhere else than the server.
const elsewhere = http.createServer(async (request, response) => {
  response.writeHead(200, { 'content-type': 'text/html; charset=utf-8' });
  response.end(await readFile('examples/web/whep.html'));
});
await new Promise((listening) => elsewhere.listen(0, '127.0.0.1', listening));

const shows = (page, name, word) =>
  page.waitForFunction(([one, wanted]) => document.querySelector(`[data-name="${one}"] .tile-state`)?.textContent === wanted, [name, word]);
const listed = async (name) => (await streams()).find((stream) => stream.name === name);
// The first square walks along this row, left of the second.
const WHERE = { row: 0.29, right: 0.73 };

// What a person sees of a stream: frames that go on, what is found, and the figures.
async function view(page) {
  await page.waitForFunction(() => document.getElementById('watch-veil').hidden && document.getElementById('watch-annotated').videoWidth > 0);
  const from = await page.evaluate(() => globalThis.sightline.watch.viewing.presented);
  await page.waitForFunction((before) => globalThis.sightline.watch.viewing.presented > before + 45, from);
  await page.waitForFunction(() => document.querySelector('#watch-detections li:not([hidden]) .name')?.textContent === 'motion');
  return page.evaluate(() => {
    const { viewing } = globalThis.sightline.watch;
    return {
      state: document.getElementById('watch-status-text').textContent,
      size: [document.getElementById('watch-annotated').videoWidth, document.getElementById('watch-annotated').videoHeight],
      joined: viewing.join.share(),
      latency: viewing.latency.quantiles(0.5)[0],
      detector: viewing.model.size,
    };
  });
}

await run(async (page, { context }) => {
  const result = {};
  await page.goto(`${base}/#/streams`);
  await shows(page, 'loop', 'Live');
  await page.waitForFunction(() => document.querySelector('[data-name="loop"] img')?.naturalWidth > 0);
  await page.waitForFunction(() => /\d fps · .*detections\/s/.test(document.querySelector('[data-name="loop"] .tile-figures').textContent));
  result.tile = await page.evaluate(() => ({
    figures: document.querySelector('[data-name="loop"] .tile-figures').textContent,
    kind: document.querySelector('[data-name="loop"] .tile-kind').textContent,
    picture: document.querySelector('[data-name="loop"] img').naturalWidth,
  }));

  await page.locator('[data-name="loop"] a').click();
  result.annotated = await view(page);
  result.watched = (await listed('loop')).viewers;
  await page.locator('#watch-video label', { hasText: 'Original' }).click();
  await page.waitForFunction(() => globalThis.sightline.watch.viewer.state === 'live' && globalThis.sightline.watch.viewing.original);
  result.original = await view(page);
  await page.waitForFunction(() => globalThis.sightline.watch.viewing.age.size > 5);
  result.drawn = await page.evaluate(compareBoxes, { count: 120, videoId: 'watch-annotated', boxesId: 'watch-boxes', ...WHERE });
  await page.goBack();
  while ((await listed('loop')).viewers > 0) await new Promise((again) => setTimeout(again, 20));

  // A camera is added as a person does it, paused, resumed, changed, removed.
  await page.goto(`${base}/#/streams`);
  await page.locator('#wall-add').click();
  await page.locator('#camera-form input[name=name]').fill('second');
  await page.locator('input[name=address]').fill('https://user:hush@camera/');
  await page.keyboard.press('Enter');
  await page.waitForFunction(() => document.getElementById('camera-problem').textContent !== '');
  result.refusal = await page.locator('#camera-problem').textContent();
  await page.locator('input[name=address]').fill(`file:${film}`);
  await page.locator('input[name=user]').fill('');
  await page.locator('input[name=password]').fill('');
  await page.locator('#camera-save').click();
  await shows(page, 'second', 'Live');
  await page.getByRole('button', { name: 'Pause second' }).click();
  await shows(page, 'second', 'Paused');
  result.paused = (await listed('second')).camera.state;
  await page.getByRole('button', { name: 'Resume second' }).click();
  await shows(page, 'second', 'Live');
  await page.getByRole('button', { name: 'Edit second' }).click();
  await page.locator('select[name=mode]').selectOption('original');
  await page.locator('#camera-zone summary').click();
  await page.waitForFunction(() => document.getElementById('camera-zone-image').naturalWidth > 0);
  const area = await page.locator('#camera-zone-picture').boundingBox();
  for (const [x, y] of [[0.25, 0.25], [0.75, 0.25], [0.5, 0.75]]) {
    await page.locator('#camera-zone-picture').click({ position: { x: x * area.width, y: y * area.height } });
  }
  await page.locator('#camera-save').click();
  await page.locator('#camera-dialog').waitFor({ state: 'hidden' });
  result.zone = await (await fetch(`${base}/api/v1/cameras/second`)).json().then(({ zone }) => zone);
  await page.locator('[data-name="second"] a').click();
  await page.waitForFunction(() => document.querySelector('input[name=watch-video][value=original]').checked);
  result.mode = (await view(page)).size;
  await page.goBack();
  await page.getByRole('button', { name: 'Remove second' }).click();
  await page.locator('#remove-go').click();
  await page.locator('[data-name="second"]').waitFor({ state: 'detached' });
  result.left = (await streams()).map(({ name }) => name);

  const example = await context.newPage();
  await example.goto(`http://127.0.0.1:${elsewhere.address().port}/whep.html?server=${encodeURIComponent(base)}&stream=loop`);
  await example.waitForFunction(() => document.getElementById('status').textContent === 'loop, original');
  await example.waitForFunction(() => document.getElementById('boxes').width > 300);
  result.example = await example.evaluate(compareBoxes, { count: 120, videoId: 'video', boxesId: 'boxes', ...WHERE });
  await example.close({ runBeforeUnload: true });
  while ((await listed('loop')).viewers > 0) await new Promise((again) => setTimeout(again, 20));
  return result;
});
elsewhere.close();
