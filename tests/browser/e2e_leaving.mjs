// A page that is closed is gone at once; a browser that is killed, after a few seconds.

import { gone, run, sessions, start } from './e2e_lib.mjs';

await run(async (page, { context, server }) => {
  await start(page);
  const before = (await sessions()).length;
  let since = performance.now();
  await page.close({ runBeforeUnload: false });
  const closed = await gone(since);

  // Stop is pressed.
  const stopped = await context.newPage();
  await start(stopped);
  since = performance.now();
  await stopped.locator('#start').click();
  const stop = await gone(since);

  // As if the power had failed: nothing is said.
  await start(stopped);
  const again = (await sessions()).length;
  since = performance.now();
  await server.kill();
  const killed = await gone(since);
  return { before, again, closed, stop, killed };
});
