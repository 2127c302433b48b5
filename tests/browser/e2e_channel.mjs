// The datachannel in both directions, from the page's own session and from its controls; and another size in mid-stream.

import { run, start, streams } from './e2e_lib.mjs';

await run(async (page) => {
  await start(page);
  await page.evaluate(() => {
    const log = { messages: [], answers: new Map() };
    globalThis.e2e = log;
    globalThis.sightline.session.addEventListener('message', ({ detail: { message } }) => {
      log.messages.push(message);
      if (message.type === 'config_ack' || message.type === 'error') log.answers.set(message.id, message);
    });
  });
  const detects = () => page.waitForFunction(() => globalThis.e2e.messages.some(({ type, detections }) => type === 'detections' && detections.length > 0));
  await detects();

  // Sends a change, waits for its answer, and gives the messages about frames well after it.
  const ask = (change, frames) => page.evaluate(async ([wish, count]) => {
    const log = globalThis.e2e;
    const pause = () => new Promise((resolve) => setTimeout(resolve, 10));
    const id = globalThis.sightline.session.send({ type: 'config', ...wish });
    while (!log.answers.has(id)) await pause();
    const newest = Math.max(0, ...log.messages.map(({ frame_id }) => frame_id ?? 0));
    // One may have been in the works.
    const after = () => log.messages.filter(({ frame_id }) => frame_id > newest + 3);
    while (after().length < count) await pause();
    return { answer: log.answers.get(id), after: after() };
  }, [change, frames]);

  const objects = ({ after }) => after.filter(({ type }) => type === 'detections').map(({ detections }) => detections.length);
  const result = {};
  const most = await ask({ max_detections: 1 }, 60);
  result.max_detections = { answer: most.answer, objects: objects(most) };
  const nothing = await ask({ confidence_threshold: 0.9, max_detections: 100, classes: [] }, 60);
  result.nothing = { answer: nothing.answer, objects: objects(nothing) };
  const refused = await ask({ classes: ['dragon'] }, 1);
  result.refused = refused.answer;
  const again = await ask({ confidence_threshold: 0.2, classes: ['motion'] }, 60);
  result.again = { answer: again.answer, objects: objects(again) };
  const exact = await ask({ overlay: 'exact' }, 60);
  result.exact = { answer: exact.answer, frames: exact.after.filter(({ type }) => type === 'frame') };

  // A person chooses "None" with the keyboard or the mouse.
  await page.locator('input[value=none]').check({ force: true });
  await page.waitForFunction(() => [...globalThis.e2e.answers.values()].at(-1).config?.overlay === 'none');
  result.none = await page.evaluate(async () => {
    const log = globalThis.e2e;
    log.messages.length = 0;
    while (log.messages.length < 60) await new Promise((resolve) => setTimeout(resolve, 10));
    const after = log.messages.slice(6);
    return {
      drawn: after.filter(({ type, boxes }) => type === 'frame' && boxes.length > 0).length,
      frames: after.filter(({ type }) => type === 'frame').length,
      detections: after.filter(({ type }) => type === 'detections').length,
    };
  });

  // The sender's own decision for a smaller picture, as Chromium makes it when the network narrows.
  const inbound = () => page.evaluate(async () => {
    for (const report of (await globalThis.sightline.session.peer.getStats()).values()) {
      if (report.type === 'inbound-rtp' && report.kind === 'video') {
        return { decoded: report.framesDecoded, plis: report.pliCount, lost: report.packetsLost };
      }
    }
    return undefined;
  });
  result.before = { ...(await inbound()), session: await page.evaluate(() => globalThis.sightline.session.id) };
  await page.evaluate(async () => {
    const sender = globalThis.sightline.session.peer.getSenders().find(({ track }) => track?.kind === 'video');
    const parameters = sender.getParameters();
    parameters.encodings[0].scaleResolutionDownBy = 2;
    await sender.setParameters(parameters);
  });
  await page.waitForFunction(() => document.getElementById('annotated').videoWidth === 320);
  await page.evaluate(() => new Promise((done) => {
    const video = document.getElementById('annotated');
    let left = 30;
    const each = () => ((left -= 1) ? video.requestVideoFrameCallback(each) : done());
    video.requestVideoFrameCallback(each);
  }));
  result.after = { ...(await inbound()), session: await page.evaluate(() => globalThis.sightline.session.id) };
  [result.stream] = await streams();
  return result;
});
