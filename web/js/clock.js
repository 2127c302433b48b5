// The server's clock in this page's time, from pings over the datachannel.
//
// A ping bounds the difference of the two clocks: the server read its own between the ping's going and the pong's coming. The
// narrowest of these bounds are kept, and a straight line through their middles follows the drift of one clock against the other.
// A page that is busy reads a pong late, which widens that bound alone.

const SPAN_MS = 120_000;
/** Of each five seconds the ping with the shortest round trip stands for all. */
const BIN_MS = 5000;
/** A line is drawn through pings that span this much; before that the difference is taken as constant. */
const LINE_MS = 15_000;
/** No quartz is off by this much, and no clock is slewed faster (adjtimex allows 500 ppm). */
const STEEPEST = 500e-6;
/** What a bound cannot tell, in milliseconds: the clocks' own resolution. */
const GRAIN_MS = 0.05;
/** A ping whose bound is this far off the line, in milliseconds, says that a clock was set; so many in a row are believed. */
const STEP_MS = 1;
const STEP_PINGS = 3;

/** Joins the server's clock (Unix milliseconds) to this page's (performance.now()). */
export class ServerClock {
  #bins = [];
  #strange = [];
  #line;

  /**
   * Takes what a ping found.
   * @param {number} ms its round trip
   * @param {number|undefined} offset the server's time less this page's, both at the middle of the ping
   * @param {number} at the middle of the ping, in performance.now()'s milliseconds
   */
  push(ms, offset, at) {
    if (!Number.isFinite(offset) || !Number.isFinite(at) || !(ms >= 0)) return;
    const ping = { ms, offset, at };
    const expected = this.offsetAt(at);
    const drifted = this.#line?.drawn ? 0 : STEEPEST * Math.abs(at - (this.#line?.at ?? at));
    if (expected !== undefined && Math.abs(offset - expected) > ms / 2 + STEP_MS + drifted) {
      this.#strange.push(ping);
      if (this.#strange.length < STEP_PINGS) return;
      // Not one that was unlucky: a clock was set, and what was known holds no more.
      this.#bins = [];
      for (const one of this.#strange.splice(0)) this.#keep(one);
    } else {
      this.#strange.length = 0;
      this.#keep(ping);
    }
    this.#line = this.#fit();
  }

  clear() {
    this.#bins = [];
    this.#strange = [];
    this.#line = undefined;
  }

  #keep(ping) {
    const bin = Math.floor(ping.at / BIN_MS);
    const known = this.#bins.findIndex((one) => one.bin === bin);
    if (known < 0) this.#bins.push({ bin, ping });
    else if (ping.ms <= this.#bins[known].ping.ms) this.#bins[known].ping = ping;
    this.#bins = this.#bins.filter(({ ping: { at } }) => ping.at - at <= SPAN_MS);
  }

  #fit() {
    const pings = this.#bins.map(({ ping }) => ping);
    const best = pings.reduce((one, other) => (other.ms < one.ms ? other : one));
    // The middle of a bound is off by half of what its round trip has more than the shortest one.
    let weights = 0;
    let time = 0;
    let offset = 0;
    const weigh = ({ ms }) => ((ms - best.ms) / 2 + GRAIN_MS) ** -2;
    for (const ping of pings) {
      const weight = weigh(ping);
      weights += weight;
      time += weight * (ping.at - best.at);
      offset += weight * (ping.offset - best.offset);
    }
    const middle = { at: best.at + time / weights, offset: best.offset + offset / weights };
    let square = 0;
    let product = 0;
    for (const ping of pings) {
      square += weigh(ping) * (ping.at - middle.at) ** 2;
      product += weigh(ping) * (ping.at - middle.at) * (ping.offset - middle.offset);
    }
    const ats = pings.map(({ at }) => at);
    const spans = Math.max(...ats) - Math.min(...ats) >= LINE_MS && square > 0;
    const slope = spans ? Math.min(STEEPEST, Math.max(-STEEPEST, product / square)) : 0;
    return { ...(spans ? middle : { at: best.at, offset: best.offset }), slope, rtt: best.ms, drawn: spans };
  }

  /** What to add to `at` of this page for the server's Unix milliseconds; undefined before the first ping. */
  offsetAt(at) {
    if (this.#line === undefined) return undefined;
    return this.#line.offset + this.#line.slope * (at - this.#line.at);
  }

  /** The server's Unix milliseconds in this page's time; undefined before the first ping. */
  toPage(serverMs) {
    if (this.#line === undefined || !Number.isFinite(serverMs)) return undefined;
    const roughly = serverMs - this.#line.offset;
    return serverMs - this.offsetAt(roughly);
  }

  /** The shortest round trip of the last two minutes: the clocks are joined within half of it. */
  get rtt() {
    return this.#line?.rtt;
  }

  /** How much faster the server's clock runs than this page's, in millionths. */
  get driftPpm() {
    return this.#line === undefined ? undefined : this.#line.slope * 1e6;
  }
}
