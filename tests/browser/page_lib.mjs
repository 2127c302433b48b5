// What the page's checks in a browser share: opening the page, waiting for what it says, and the round of checks.

import assert from 'node:assert/strict';

import { launch, mockServer } from './page_mock.mjs';

export const WIDE = { width: 1440, height: 900 };
export const PHONE = { width: 390, height: 844 };

export const browser = await launch();
export const server = await mockServer(browser);

/** Opens an address of the page; `page.faults` collects what went wrong in it. */
export async function open(address, { viewport = WIDE, colorScheme = 'light', before, argument, ...more } = {}) {
  const context = await browser.newContext({ viewport, colorScheme, permissions: ['camera'], ...more });
  const page = await context.newPage();
  page.faults = [];
  page.on('pageerror', (error) => page.faults.push(error.message));
  page.on('console', (message) => message.type() === 'error' && page.faults.push(message.text()));
  page.on('dialog', (dialog) => page.faults.push(`a dialog opened: ${dialog.message()}`));
  if (before) await page.addInitScript(before, argument);
  await page.goto(server.base + address);
  return page;
}

export const text = (page, id) => page.locator(`#${id}`).textContent();
export const saysOn = (page, id, pattern) =>
  page.waitForFunction(([place, source]) => new RegExp(source).test(document.getElementById(place).textContent), [id, pattern.source]);
/** What Chromium itself logs of an answer that is no success. */
export const forgiveLoads = (page) => {
  page.faults = page.faults.filter((fault) => !/Failed to load resource/.test(fault));
};

/** Runs the checks whose names contain one of the arguments, or all; exits with 1 when one fails. */
export async function runChecks(checks, reset) {
  const wanted = process.argv.slice(2);
  let failed = 0;
  for (const [name, check] of Object.entries(checks)) {
    if (wanted.length > 0 && !wanted.some((part) => name.includes(part))) continue;
    try {
      const page = await check();
      assert.deepEqual(page.faults, [], 'errors in the console');
      await page.context().close();
      console.log(`ok    ${name}`);
    } catch (error) {
      failed += 1;
      console.log(`FAIL  ${name}\n      ${error.message.split('\n').join('\n      ')}`);
    }
    reset();
  }
  await browser.close();
  server.close();
  process.exit(failed > 0 ? 1 : 0);
}
