// What the end-to-end scripts share. Each is called with the server's address and the camera's file, drives a real
// Chromium as a person or a page of one's own would, and prints one JSON object, which the test in Rust judges.

import { chromium } from 'playwright-core';

const [base, camera] = process.argv.slice(2);

const FLAGS = [
  '--headless=new', '--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync', '--autoplay-policy=no-user-gesture-required',
  '--use-fake-ui-for-media-stream', '--use-fake-device-for-media-stream', `--use-file-for-fake-video-capture=${camera}`,
];

export { base, camera };

/** Starts a browser, gives `check` a page, and prints what it returns. */
export async function run(check) {
  const server = await chromium.launchServer({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: FLAGS });
  const faults = [];
  try {
    const browser = await chromium.connect(server.wsEndpoint());
    const context = await browser.newContext({ permissions: ['camera', 'microphone'] });
    const page = await context.newPage();
    page.setDefaultTimeout(40_000);
    page.on('pageerror', (error) => faults.push(error.message));
    page.on('console', (message) => message.type() === 'error' && faults.push(message.text()));
    const result = await check(page, { context, server });
    console.log(JSON.stringify({ ...result, faults }));
  } finally {
    await server.kill();
  }
}

/** Opens the server's page and presses Start, as a person does. */
export async function start(page) {
  await page.goto(`${base}/`);
  await page.locator('#size').selectOption('640x480');
  await page.locator('#start').click();
  await page.waitForFunction(() => document.getElementById('status-text').textContent === 'Live');
  await page.waitForFunction(() => document.getElementById('annotated').videoWidth > 0);
}

export const sessions = async () => (await (await fetch(`${base}/api/v1/sessions`)).json()).sessions;
export const streams = async () => (await (await fetch(`${base}/api/v1/streams`)).json()).streams;

/** Milliseconds until the server has no session any more. */
export async function gone(since) {
  while ((await sessions()).length > 0) {
    if (performance.now() - since > 20_000) return undefined;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return performance.now() - since;
}
