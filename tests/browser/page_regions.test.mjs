// Regions as the API and the form have them, without a browser: `node --test tests/browser/page_regions.test.mjs`.

import assert from 'node:assert/strict';
import test from 'node:test';

import { countWords, describeShape, eventWords, freeName, inOrder, kindOf, regionOf } from '../../web/js/regions.js';

const SQUARE = [[0, 0], [1, 0], [1, 1], [0, 1]];
const entry = (more) => ({ name: 'yard', kind: 'zone', dwell: '', ...more });

test('a shape tells the kind that the API leaves out', () => {
  assert.equal(kindOf({ polygon: SQUARE }), 'zone');
  assert.equal(kindOf({ line: [[0, 0], [1, 1]] }), 'line');
  assert.equal(kindOf({ polygon: SQUARE, kind: 'exclude' }), 'exclude');
});

test('names are in the order of their bytes, as the server gives colours', () => {
  const regions = Object.fromEntries(['b', 'a', 'ab', 'B', 'é', 'z'].map((name) => [name, { polygon: SQUARE }]));
  assert.deepEqual(inOrder(regions).map(({ name }) => name), ['B', 'a', 'ab', 'b', 'z', 'é']);
  assert.deepEqual(inOrder(regions).slice(0, 2).map(({ colour }) => colour), [15, 14]);
});

test('a new region has a name that is free', () => {
  assert.equal(freeName('zone', {}), 'zone 1');
  assert.equal(freeName('line', { 'line 1': {}, 'line 3': {} }), 'line 2');
  assert.equal(freeName('include', { 'zone 1': {} }), 'zone 2');
});

test('a form becomes a region, and keys that the form does not have stay', () => {
  assert.deepEqual(regionOf(entry(), SQUARE), { name: 'yard', region: { polygon: SQUARE } });
  assert.deepEqual(regionOf(entry({ kind: 'include', dwell: '3' }), SQUARE).region, { polygon: SQUARE, kind: 'include' });
  const before = { line: [[0, 0], [1, 1]], classes: ['car'], dwell_s: 4 };
  assert.deepEqual(regionOf(entry({ dwell: '1,5' }), SQUARE, before).region, { classes: ['car'], polygon: SQUARE, dwell_s: 1.5 });
  assert.deepEqual(regionOf(entry({ kind: 'line' }), SQUARE.slice(0, 2), before).region, { classes: ['car'], line: SQUARE.slice(0, 2) });
});

test('what cannot be a region is said with its field', () => {
  for (const [form, corners, taken, field] of [
    [entry({ name: '  ' }), SQUARE, [], 'name'],
    [entry(), SQUARE, ['yard'], 'name'],
    [entry(), SQUARE.slice(0, 2), [], 'corners'],
    [entry({ kind: 'line' }), SQUARE.slice(0, 1), [], 'corners'],
    [entry({ dwell: 'long' }), SQUARE, [], 'dwell'],
    [entry({ dwell: '-1' }), SQUARE, [], 'dwell'],
  ]) {
    assert.equal(regionOf(form, corners, undefined, taken).problem?.field, field, JSON.stringify(form));
  }
});

test('what is missing of a shape is said', () => {
  assert.match(describeShape('zone', []), /corners/);
  assert.match(describeShape('zone', SQUARE.slice(0, 2)), /three/);
  assert.match(describeShape('zone', SQUARE), /4 corners/);
  assert.match(describeShape('line', SQUARE.slice(0, 1)), /the other/);
  assert.match(describeShape('line', SQUARE.slice(0, 2)), /first end/);
});

test('counts and events are said in words', () => {
  const count = { inside: 2, enters: 5, leaves: 3, dwells: 1, left_to_right: 4, right_to_left: 0 };
  assert.equal(countWords({ polygon: SQUARE }, count), '2 inside, 5 entered');
  assert.equal(countWords({ polygon: SQUARE, dwell_s: 3 }, count), '2 inside, 5 entered, 1 stayed');
  assert.equal(countWords({ line: SQUARE.slice(2) }, count), '4 left to right, 0 right to left');
  assert.equal(countWords({ polygon: SQUARE, kind: 'exclude' }, count), 'counts nothing inside');
  assert.equal(countWords({ polygon: SQUARE }, undefined), 'zone');
  const words = (event) => Object.values(eventWords({ region: 'yard', track_id: 3, class_name: 'car', ...event })).join('|');
  assert.equal(words({ kind: 'enter', count: 2 }), 'car #3|entered|yard|2 inside');
  assert.equal(words({ kind: 'leave', count: 1, dwell_s: 4.52 }), 'car #3|left|yard|after 4.5 s, 1 inside');
  assert.equal(words({ kind: 'dwell', dwell_s: 10 }), 'car #3|stays in|yard|10.0 s');
  assert.equal(words({ kind: 'cross', direction: 'left_to_right', count: 7 }), 'car #3|crossed|yard|left to right, 7 so far');
  assert.equal(words({ kind: 'other', track_id: null, class_name: undefined }), 'object|other|yard|');
});
