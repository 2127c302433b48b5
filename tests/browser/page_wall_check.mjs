// The wall of all streams and the full view of one in a real Chromium, against a server that a second page plays.
// `node tests/browser/page_wall_check.mjs [NAME…]`; exits with 1 when a check fails.

import assert from 'node:assert/strict';

import { compareBoxes } from './compare_boxes.mjs';
import { PHONE, WIDE, forgiveLoads, open, runChecks, saysOn, server, text } from './page_lib.mjs';
import { sampleStreams } from './page_mock_streams.mjs';

const { streams } = server;
const SECRET = 'hush-hush';
const ADDRESS = `rtsp://admin:${SECRET}@192.168.1.20/stream1`;

const tile = (page, name) => page.locator(`.tile[data-name="${name}"]`);
const chip = (page, name) => tile(page, name).locator('.tile-state').textContent();
const shows = (page, name, word) =>
  page.waitForFunction(([one, wanted]) => document.querySelector(`[data-name="${one}"] .tile-state`)?.textContent === wanted, [name, word]);
const pictured = (page, name) =>
  page.waitForFunction((one) => document.querySelector(`[data-name="${one}"] img`)?.naturalWidth > 0, name);
const watching = (page) =>
  page.waitForFunction(() => document.getElementById('watch-veil').hidden && document.getElementById('watch-banner').hidden && document.getElementById('watch-annotated').videoWidth > 0);
const until = async (test) => {
  const end = Date.now() + 30_000;
  while (!(await test())) {
    assert.ok(Date.now() < end, `never came: ${test}`);
    await new Promise((again) => setTimeout(again, 20));
  }
};

function boxesFit({ seen, errors, width }) {
  assert.equal(width, 480);
  assert.ok(errors.length > 0.8 * seen, `${errors.length} of ${seen} frames have a box`);
  // The square walks 150 pixels a second and a message is 70 ms late at least: a box that stood still would be 10 behind.
  const sorted = errors.map(Math.abs).sort((a, b) => a - b);
  const median = sorted[Math.floor(sorted.length / 2)];
  assert.ok(median <= 6, `median ${median} px off`);
}

const checks = {
  async 'every stream has a tile with its state, figures and picture'() {
    streams.list = sampleStreams(10);
    const page = await open('/#/streams');
    await shows(page, 'front-door', 'Live');
    const words = { 'front-door': 'Live', garage: 'Retrying', garden: 'Unauthorized', hall: 'No signal', 'loading-dock-and-the-yard-behind-it': 'Unsupported', office: 'Paused', parking: 'Idle', roof: 'Connecting', drone: 'Live', x7k2pd: 'Live' };
    for (const [name, word] of Object.entries(words)) assert.equal(await chip(page, name), word, name);
    assert.equal(await page.locator('.tile').count(), 10);
    assert.match(await tile(page, 'garage').locator('.tile-detail').textContent(), /connection refused\. Next try in 1\d s\./);
    assert.match(await tile(page, 'loading-dock-and-the-yard-behind-it').locator('.tile-detail').textContent(), /--features ffmpeg/);
    assert.equal(await text(page, 'wall-summary'), '3 live · 1 connecting · 4 in trouble · 1 idle · 1 paused');
    assert.match(await tile(page, 'drone').locator('.tile-figures').textContent(), /^30 fps · 9\.0 detections\/s · 1 viewer$/);
    await page.waitForFunction(() => /25 fps · \d+ detections\/s · 3 viewers · 2 restarts/.test(document.querySelector('[data-name="front-door"] .tile-figures').textContent));
    for (const name of ['front-door', 'drone', 'garage']) await pictured(page, name);
    assert.ok(streams.pictures.every(({ name }) => name !== 'parking' && name !== 'office'), 'an idle camera is not woken for a picture');
    assert.ok(streams.pictures.every(({ video, width }) => video === 'annotated' && width >= 160 && width <= 960));
    assert.equal(await tile(page, 'drone').locator('.tile-tools').isVisible(), false, 'only cameras can be edited');
    forgiveLoads(page);
    return page;
  },

  async 'pictures are asked for gently, and only of what is seen'() {
    streams.list = sampleStreams(60);
    streams.pictureMs = 60;
    const page = await open('/#/streams', { viewport: PHONE });
    await pictured(page, 'cam-10');
    await until(() => streams.pictures.length >= 8);
    assert.ok(streams.most <= 2, `${streams.most} at once`);
    assert.ok(streams.pictures.every(({ name }) => name !== 'roof'), 'far below the window');
    await tile(page, 'x7k2pd').scrollIntoViewIfNeeded();
    await pictured(page, 'x7k2pd');
    await page.locator('#wall-video label', { hasText: 'Original' }).click();
    await until(() => streams.pictures.some(({ video }) => video === 'original'));
    await page.locator('#nav-webcam').click();
    await page.locator('#view-webcam').waitFor();
    await until(() => streams.underWay === 0);
    const count = streams.pictures.length;
    await page.waitForTimeout(700);
    assert.equal(streams.pictures.length, count, 'a wall that is not looked at asks for nothing');
    forgiveLoads(page);
    return page;
  },

  async 'what changes at the server changes on the wall, and the focus stays'() {
    streams.list = sampleStreams(3);
    const page = await open('/#/streams');
    await shows(page, 'front-door', 'Live');
    await tile(page, 'garage').locator('a').focus();
    streams.find('front-door').camera = { ...streams.find('front-door').camera, state: 'stalled', since_last_frame_ms: 3200 };
    await shows(page, 'front-door', 'No signal');
    streams.list.unshift({ ...sampleStreams(1)[0], name: 'attic' });
    await shows(page, 'attic', 'Live');
    streams.list = streams.list.filter(({ name }) => name !== 'garden');
    await tile(page, 'garden').waitFor({ state: 'detached' });
    assert.deepEqual(await page.locator('.tile-name').allTextContents(), ['attic', 'front-door', 'garage']);
    assert.equal(await page.evaluate(() => document.activeElement.closest('.tile')?.dataset.name), 'garage');
    server.behave.down = true;
    await saysOn(page, 'wall-summary', /does not answer/);
    server.behave.down = false;
    await saysOn(page, 'wall-summary', /live/);
    forgiveLoads(page);
    return page;
  },

  async 'an empty wall tells how to add a camera, and one is added'() {
    streams.list = [];
    const page = await open('/#/streams');
    await page.locator('#wall-empty').waitFor();
    assert.match(await text(page, 'wall-empty'), /--camera door=rtsp:/);
    await page.locator('#wall-empty-add').click();
    await page.locator('#camera-save').click();
    await saysOn(page, 'camera-problem', /Give the camera a name/);
    assert.equal(await page.evaluate(() => document.activeElement.name), 'name');
    await page.keyboard.type('door');
    await page.locator('input[name=address]').fill('https://example.com/');
    await page.keyboard.press('Enter');
    await saysOn(page, 'camera-problem', /is no camera’s address/);
    await page.locator('input[name=address]').fill('rtsp://192.168.1.20/stream1');
    await page.locator('input[name=user]').fill('admin');
    await page.locator('input[name=password]').fill(SECRET);
    await page.keyboard.press('Enter');
    await shows(page, 'door', 'Live');
    assert.equal(await page.locator('#camera-dialog').isVisible(), false);
    const [, sent] = streams.bodies.at(-1);
    assert.deepEqual(sent, { name: 'door', url: ADDRESS, transport: 'tcp', mode: 'annotated', priority: 1, on_demand: false, persist: true });
    assert.equal(await page.locator('input[name=password]').inputValue(), '', 'the password is kept nowhere');
    await page.locator('#wall-add').click();
    await page.locator('#camera-form input[name=name]').fill('door');
    await page.locator('input[name=address]').fill('rtsp://h/');
    await page.keyboard.press('Enter');
    await saysOn(page, 'camera-problem', /the name door is taken/);
    await page.keyboard.press('Escape');
    assert.equal(await page.locator('#camera-dialog').isVisible(), false);
    forgiveLoads(page);
    return page;
  },

  async 'a camera is edited, paused, resumed and removed'() {
    streams.list = sampleStreams(2);
    streams.find('front-door').config = { url: ADDRESS, transport: 'tcp', mode: 'annotated', priority: 1, on_demand: false, origin: 'config' };
    const page = await open('/#/streams');
    await page.getByRole('button', { name: 'Edit front-door' }).click();
    await page.locator('#camera-dialog').waitFor();
    assert.match(await text(page, 'camera-note'), /configuration file/);
    assert.equal(await page.locator('input[name=persist]').isVisible(), false, 'what stands in the file is not kept elsewhere');
    assert.equal(await page.locator('input[name=address]').inputValue(), 'rtsp://192.168.1.20/stream1');
    assert.equal(await page.locator('input[name=password]').inputValue(), '');
    assert.equal((await page.content()).includes(SECRET), false);
    await page.locator('select[name=mode]').selectOption('original');
    await page.locator('#camera-save').click();
    await page.locator('#camera-dialog').waitFor({ state: 'hidden' });
    assert.deepEqual(streams.bodies.at(-1), ['PATCH', { mode: 'original' }], 'only what was changed');
    await page.getByRole('button', { name: 'Edit front-door' }).click();
    await page.locator('input[name=address]').fill('rtsp://192.168.1.99/stream1');
    await page.locator('#camera-save').click();
    await saysOn(page, 'camera-problem', /Enter the password again/);
    await page.keyboard.press('Escape');
    await page.getByRole('button', { name: 'Pause front-door' }).click();
    await shows(page, 'front-door', 'Paused');
    await page.getByRole('button', { name: 'Resume front-door' }).click();
    await shows(page, 'front-door', 'Live');
    await page.getByRole('button', { name: 'Remove front-door' }).click();
    await saysOn(page, 'remove-note', /3 viewers lose the picture.*back at the next start/);
    await page.locator('#remove-cancel').click();
    assert.equal(await tile(page, 'front-door').count(), 1);
    await page.getByRole('button', { name: 'Remove front-door' }).click();
    await page.locator('#remove-go').click();
    await tile(page, 'front-door').waitFor({ state: 'detached' });
    return page;
  },

  async 'a zone is drawn with the pointer, mended with the keys, sent and cleared'() {
    streams.list = sampleStreams(2);
    streams.find('front-door').config = { url: ADDRESS, transport: 'tcp', mode: 'annotated', priority: 1, on_demand: false };
    const page = await open('/#/streams');
    const edit = async () => {
      await page.getByRole('button', { name: 'Edit front-door' }).click();
      // It asks the server first.
      await page.locator('#camera-dialog').waitFor();
    };
    const save = async () => {
      await page.locator('#camera-save').click();
      await page.locator('#camera-dialog').waitFor({ state: 'hidden' });
      return streams.bodies.at(-1);
    };
    const asked = () => streams.pictures.filter(({ video, width }) => video === 'original' && width > 1000).length;
    const picture = page.locator('#camera-zone-picture');
    const click = async (x, y) => {
      const { width, height } = await picture.boundingBox();
      await picture.click({ position: { x: x * width, y: y * height } });
    };
    await edit();
    assert.equal(asked(), 0, 'nobody has looked yet');
    await page.locator('#camera-zone summary').click();
    await page.waitForFunction(() => document.getElementById('camera-zone-image').naturalWidth > 0);
    await saysOn(page, 'camera-zone-note', /whole picture/);
    await click(0.2, 0.3);
    await click(0.8, 0.3);
    await saysOn(page, 'camera-zone-note', /Two corners/);
    await page.locator('#camera-save').click();
    await saysOn(page, 'camera-problem', /three corners/);
    await click(0.8, 0.9);
    await click(0.1, 0.1);
    await page.locator('#camera-zone-undo').click();
    await saysOn(page, 'camera-zone-note', /3 corners/);
    // The last corner: with the keys to the left, and by the pointer down.
    const corner = page.getByRole('button', { name: /^Corner 3 of 3/ });
    await corner.focus();
    await page.keyboard.press('Shift+ArrowLeft');
    await page.keyboard.press('ArrowLeft');
    const { x, y, width, height } = await corner.boundingBox();
    const step = (await picture.boundingBox()).height * 0.05;
    await page.mouse.move(x + width / 2, y + height / 2);
    await page.mouse.down();
    await page.mouse.move(x + width / 2, y + height / 2 + step, { steps: 4 });
    await page.mouse.up();
    const [method, { zone }] = await save();
    assert.equal(method, 'PATCH');
    const near = ([ax, ay], [bx, by]) => Math.abs(ax - bx) < 0.01 && Math.abs(ay - by) < 0.01;
    const wanted = [[0.2, 0.3], [0.8, 0.3], [0.74, 0.95]];
    assert.ok(zone.length === 3 && zone.every((one, n) => near(one, wanted[n])), JSON.stringify(zone));
    assert.equal(asked(), 1);

    await edit();
    await saysOn(page, 'camera-zone-note', /3 corners/);
    assert.equal(await page.locator('#camera-zone').getAttribute('open'), '', 'what is there is shown');
    await page.locator('#camera-zone-clear').click();
    assert.equal(await page.evaluate(() => document.activeElement.id), 'camera-zone-picture');
    assert.deepEqual((await save())[1], { zone: null });

    // Without a pointer from the beginning to the end.
    await edit();
    await page.locator('#camera-zone summary').focus();
    await page.keyboard.press('Enter');
    await page.keyboard.press('Tab');
    for (let n = 0; n < 4; n += 1) await page.keyboard.press('Enter');
    await saysOn(page, 'camera-zone-note', /4 corners/);
    await page.keyboard.press('Delete');
    assert.match(await page.evaluate(() => document.activeElement.getAttribute('aria-label')), /^Corner \d of 3/);
    assert.equal((await save())[1].zone.length, 3);
    return page;
  },

  async 'a click opens the stream, and leaving it ends the viewer'() {
    streams.list = sampleStreams(2);
    streams.find('front-door').captured = -40;
    const page = await open('/#/streams');
    await tile(page, 'front-door').locator('a').click();
    await watching(page);
    assert.equal(await text(page, 'watch-name'), 'front-door');
    await saysOn(page, 'watch-status-text', /^Live$/);
    await page.waitForFunction(() => document.querySelector('#watch-detections li:not([hidden]) .name')?.textContent === 'hand');
    await saysOn(page, 'watch-p50', /^\d+\.\d$/);
    await saysOn(page, 'watch-method', /camera’s own time is not in it/);
    await saysOn(page, 'watch-capture', /^\d+ ms since capture, if/);
    await saysOn(page, 'watch-ledger-total', /ms/);
    await saysOn(page, 'watch-stages-window', /^\d+ frames of the last 10 s$/);
    const stages = await page.locator('#watch-waterfall tbody tr').evaluateAll((all) => all.map((row) => [row.querySelector('th').textContent, row.querySelector('.number').textContent]));
    assert.equal(stages.length, 12, 'what is before the server is not there');
    assert.equal(stages.find(([name]) => name === 'Encode')[1], '3.2');
    assert.match(await text(page, 'watch-percentiles'), /p50.*\d ms.*p95.*\d ms.*p99.*\d ms/);
    await saysOn(page, 'watch-clock', /^\d+\.\d+ ms, drift -?\d+ ppm$/);
    await saysOn(page, 'watch-source', /audio AAC is not passed through/);
    assert.equal(await page.locator('#watch-boxes').isVisible(), false, 'the server drew the boxes');
    assert.equal(await page.locator('#watch-sound').isVisible(), false, 'there is nothing to hear');
    assert.ok((await page.evaluate(() => globalThis.sightline.watch.viewing.join.share())) > 0.8);
    const left = streams.left.length;
    await page.goBack();
    await page.locator('#view-wall').waitFor();
    await until(() => streams.left.length > left);
    assert.match(streams.left.at(-1), /^\/whep\/front-door\/mock-\d+$/);
    assert.equal(await page.evaluate(() => globalThis.sightline.watch.viewer.peer), undefined);
    return page;
  },

  async 'over the original the page draws the boxes itself, on the frame that is shown'() {
    streams.list = sampleStreams(2);
    const page = await open('/#/streams/front-door?video=original');
    await watching(page);
    await page.waitForFunction(() => globalThis.sightline.watch.viewing.age.size > 5);
    boxesFit(await page.evaluate(compareBoxes, { count: 90, videoId: 'watch-annotated', boxesId: 'watch-boxes' }));
    const left = streams.left.length;
    await page.locator('#watch-boxes-label').click();
    await page.waitForFunction(() => {
      const { width: w, height: h } = document.getElementById('watch-boxes');
      return document.getElementById('watch-boxes').getContext('2d').getImageData(0, 0, w, h).data.every((value) => value === 0);
    });
    await page.locator('#watch-video label', { hasText: 'Annotated' }).click();
    await until(() => streams.left.length > left);
    await watching(page);
    assert.equal(await page.locator('#watch-boxes').isVisible(), false);
    assert.match(page.url(), /video=annotated$/);
    return page;
  },

  async 'a camera in mode original is opened so, and sound is off until asked for'() {
    streams.list = sampleStreams(1);
    streams.list[0].config = { url: 'rtsp://h/', mode: 'original' };
    streams.list[0].audio = true;
    const page = await open('/#/streams/front-door');
    await watching(page);
    assert.equal(await page.locator('input[name=watch-video][value=original]').isChecked(), true);
    await page.locator('#watch-sound').waitFor();
    const audio = () => page.evaluate(() => ({ muted: document.getElementById('watch-audio').muted, playing: Boolean(document.getElementById('watch-audio').srcObject) }));
    assert.deepEqual(await audio(), { muted: true, playing: false });
    await page.locator('#watch-sound').click();
    assert.deepEqual(await audio(), { muted: false, playing: true });
    await page.locator('#watch-sound').click();
    assert.deepEqual(await audio(), { muted: true, playing: false });
    return page;
  },

  async 'a refusal is said, and a lost server is waited for'() {
    streams.list = sampleStreams(1);
    const page = await open('/#/streams/nowhere');
    await saysOn(page, 'watch-veil-title', /no such stream/);
    await saysOn(page, 'watch-veil-text', /GET \/api\/v1\/streams/);
    streams.refuse = { status: 503, message: 'All 8 sessions are taken.' };
    await page.goto(`${server.base}/#/streams/front-door`);
    await saysOn(page, 'watch-veil-title', /The server is full/);
    streams.refuse = undefined;
    await page.locator('#watch-veil-action').click();
    await watching(page);
    server.behave.down = true;
    await server.hangUp();
    await saysOn(page, 'watch-banner-text', /Trying again in \d+ s/);
    assert.equal(await page.locator('#watch-frozen').isVisible(), true, 'the last picture stays, greyed');
    server.behave.down = false;
    await watching(page);
    await saysOn(page, 'watch-status-text', /^Live$/);
    forgiveLoads(page);
    return page;
  },

  async 'a server that asks for a token is given one'() {
    streams.list = sampleStreams(1);
    streams.token = 'word';
    const page = await open('/#/streams/front-door');
    await saysOn(page, 'watch-veil-title', /asks for its token/);
    for (const [word, after] of [['wrong', /asks for its token/], ['word', /^front-door$/]]) {
      await page.locator('input[name=token]').fill(word);
      await page.keyboard.press('Enter');
      await saysOn(page, word === 'word' ? 'watch-name' : 'watch-veil-title', after);
    }
    await watching(page);
    forgiveLoads(page);
    return page;
  },

  async 'the stream’s own trouble is told beside its picture'() {
    streams.list = sampleStreams(1);
    const page = await open('/#/streams/front-door');
    await watching(page);
    Object.assign(streams.list[0].camera, { state: 'backoff', last_error: 'connection refused', retry_in_ms: 4000 });
    await saysOn(page, 'watch-status-text', /^Retrying$/);
    await saysOn(page, 'watch-detail', /connection refused\. Next try in/);
    Object.assign(streams.list[0].camera, { state: 'live', last_error: null, retry_in_ms: null });
    await saysOn(page, 'watch-status-text', /^Live$/);
    await saysOn(page, 'watch-detail', /^$/);
    return page;
  },

  async 'a webcam’s session goes on behind the wall'() {
    streams.list = sampleStreams(1);
    const page = await open('/?autostart&source=pattern&size=320x240');
    await page.waitForFunction(() => document.getElementById('veil').hidden);
    const session = await page.evaluate(() => globalThis.sightline.session.id);
    await page.locator('#nav-streams').click();
    await shows(page, 'front-door', 'Live');
    assert.equal(await page.locator('#nav-webcam').getAttribute('data-tone'), 'live');
    // A video that is not shown may stop, and must not count as one that did.
    assert.equal(await page.evaluate(() => globalThis.sightline.session.unseen), true);
    await page.locator('#nav-webcam').click();
    await page.waitForFunction(() => document.getElementById('hud').checkVisibility());
    assert.deepEqual(await page.evaluate(() => [globalThis.sightline.session.id, globalThis.sightline.session.unseen]), [session, false]);
    return page;
  },

  async 'the example in one file plays the original and draws the boxes'() {
    streams.list = sampleStreams(1);
    streams.refuse = { status: 503, message: 'All 8 sessions are taken.' };
    const page = await open('/whep.html?stream=front-door');
    await saysOn(page, 'status', /answered 503: All 8 sessions are taken\. Trying again/);
    streams.refuse = undefined;
    await saysOn(page, 'status', /^front-door, original$/);
    await page.waitForFunction(() => document.getElementById('boxes').width === 480);
    boxesFit(await page.evaluate(compareBoxes, { count: 90, videoId: 'video', boxesId: 'boxes' }));
    const left = streams.left.length;
    await page.goto('about:blank');
    await until(() => streams.left.length > left);
    forgiveLoads(page);
    return page;
  },

  async 'the keyboard reaches the wall, its tiles and its dialogs'() {
    streams.list = sampleStreams(2);
    const page = await open('/#/streams');
    await shows(page, 'front-door', 'Live');
    const reached = new Set();
    for (let step = 0; step < 16; step += 1) {
      await page.keyboard.press('Tab');
      reached.add(await page.evaluate(() => document.activeElement.getAttribute('aria-label') ?? document.activeElement.id ?? document.activeElement.name));
    }
    for (const label of ['Pause front-door', 'Edit front-door', 'Remove garage', 'wall-add', 'nav-webcam']) assert.ok(reached.has(label), `${label} is not reached, only ${[...reached]}`);
    await page.locator('#wall-add').focus();
    await page.keyboard.press('Enter');
    await page.waitForFunction(() => document.activeElement.name === 'name');
    await page.keyboard.press('Escape');
    await page.waitForFunction(() => document.activeElement.id === 'wall-add');
    await tile(page, 'front-door').locator('a').focus();
    await page.keyboard.press('Enter');
    await watching(page);
    assert.equal(await page.evaluate(() => document.activeElement.id), 'watch-name');
    await page.goBack();
    await page.waitForFunction(() => document.activeElement.closest('.tile')?.dataset.name === 'front-door');
    return page;
  },

  async 'every control has a name, and nothing is wider than the screen'() {
    let page;
    for (const [address, colorScheme, viewport] of ['/#/streams', '/#/streams/front-door'].flatMap((view) => [
      [view, 'light', { width: 320, height: 568 }],
      [view, 'dark', PHONE],
      [view, 'light', { width: 820, height: 1180 }],
      [view, 'dark', WIDE],
    ])) {
      for (const count of [1, 16]) {
        streams.list = sampleStreams(count);
        await page?.context().close();
        page = await open(address, { viewport, colorScheme });
        await page.waitForFunction(() => document.getElementById('nav-count').textContent !== '');
        const [needed, there] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
        assert.ok(needed <= there, `${needed} px needed of ${there} on ${address} with ${count}`);
      }
    }
    const nameless = await page.evaluate(() =>
      [...document.querySelectorAll('button, input, select, a')]
        .filter((one) => !(one.textContent.trim() || one.getAttribute('aria-label') || one.labels?.length))
        .map((one) => one.outerHTML),
    );
    assert.deepEqual(nameless, []);
    forgiveLoads(page);
    return page;
  },
};

await runChecks(checks, () => {
  Object.assign(server.behave, { down: false });
  Object.assign(streams, { list: [], refuse: undefined, token: undefined, pictureMs: 0, pictures: [], most: 0, bodies: [] });
});
