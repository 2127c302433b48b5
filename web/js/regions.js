// What is known of a stream's regions without a browser: as the API has them, as a form has them, and what is said of events.

/** Corners that a shape needs. */
export const LEAST = { zone: 3, include: 3, exclude: 3, line: 2 };

/** The server takes no more. */
export const MOST_REGIONS = 32;

const KINDS = { zone: 'zone', include: 'counts only inside', exclude: 'counts nothing inside', line: 'line' };
const VERBS = { enter: 'entered', leave: 'left', dwell: 'stays in', cross: 'crossed' };
const WAYS = { left_to_right: 'left to right', right_to_left: 'right to left' };
/** The server gives regions the palette's colours from its end, in the order of their names. */
const LAST_COLOUR = 15;

/** A region's kind, which the API leaves out where its shape tells it. */
export const kindOf = ({ kind, line }) => kind ?? (line?.length > 0 ? 'line' : 'zone');

/** Its corners. */
export const cornersOf = ({ polygon, line }) => (line?.length > 0 ? line : (polygon ?? []));

/** Names in the server's order, which is that of their bytes; each with its place in the palette. */
export function inOrder(regions) {
  const bytes = new TextEncoder();
  const compare = (a, b) => {
    const [x, y] = [bytes.encode(a), bytes.encode(b)];
    const differs = x.findIndex((byte, index) => byte !== y[index]);
    return differs < 0 ? x.length - y.length : x[differs] - (y[differs] ?? -1);
  };
  return Object.keys(regions).sort(compare).map((name, index) => ({ name, region: regions[name], colour: LAST_COLOUR - (index % (LAST_COLOUR + 1)) }));
}

/** The first free name of this kind. */
export function freeName(kind, regions) {
  const word = kind === 'line' ? 'line' : 'zone';
  for (let n = 1; ; n += 1) if (!(`${word} ${n}` in regions)) return `${word} ${n}`;
}

/** What is to be said while a shape of this kind is drawn. */
export function describeShape(kind, corners) {
  const missing = LEAST[kind] - corners.length;
  if (kind === 'line') {
    if (missing === 2) return 'Click the two ends of the line on the picture.';
    return missing === 1 ? 'One end: click the other.' : 'Who crosses it is told with the way, as seen from the first end.';
  }
  if (corners.length === 0) return 'Click the corners of the zone on the picture.';
  return missing > 0 ? `${corners.length === 1 ? 'One corner' : 'Two corners'}: a zone needs three at least.` : `${corners.length} corners. An object is where the middle of its lower edge is.`;
}

/**
 * A region of what was entered.
 * @param {{name: string, kind: string, dwell: string}} form
 * @param {number[][]} corners
 * @param {object|undefined} before the region as the API gave it, whose other keys stay
 * @returns {{name?: string, region?: object, problem?: {field: string, message: string}}}
 */
export function regionOf(form, corners, before, taken = []) {
  const name = form.name.trim();
  if (!name) return { problem: { field: 'name', message: 'Give the region a name.' } };
  if (taken.includes(name)) return { problem: { field: 'name', message: `There is a region ${name} already.` } };
  const { kind } = form;
  if (corners.length < LEAST[kind]) return { problem: { field: 'corners', message: describeShape(kind, corners) } };
  const { dwell_s: _, polygon: _p, line: _l, kind: _k, ...rest } = before ?? {};
  const region = { ...rest, [kind === 'line' ? 'line' : 'polygon']: corners };
  if (kind === 'include' || kind === 'exclude') region.kind = kind;
  const dwell = form.dwell.trim().replace(',', '.');
  if (kind === 'zone' && dwell) {
    const seconds = Number(dwell);
    if (!(seconds > 0)) return { problem: { field: 'dwell', message: 'The time is a number of seconds, or nothing.' } };
    region.dwell_s = seconds;
  }
  return { name, region };
}

/** The counts of a region, in words. */
export function countWords(region, count) {
  const kind = kindOf(region);
  if (!count || kind === 'include' || kind === 'exclude') return KINDS[kind];
  if (kind === 'line') return `${count.left_to_right} left to right, ${count.right_to_left} right to left`;
  const stays = region.dwell_s ? `, ${count.dwells} stayed` : '';
  return `${count.inside} inside, ${count.enters} entered${stays}`;
}

/** An event in words: who, what, where. */
export function eventWords({ kind, region, track_id: track, class_name: name, direction, dwell_s: dwell, count }) {
  const who = `${name ?? 'object'}${track === undefined || track === null ? '' : ` #${track}`}`;
  const more = [];
  if (direction) more.push(WAYS[direction] ?? direction);
  if (Number.isFinite(dwell)) more.push(kind === 'leave' ? `after ${dwell.toFixed(1)} s` : `${dwell.toFixed(1)} s`);
  if (Number.isFinite(count)) more.push(kind === 'cross' ? `${count} so far` : `${count} inside`);
  return { who, verb: VERBS[kind] ?? kind, where: region, more: more.join(', ') };
}
