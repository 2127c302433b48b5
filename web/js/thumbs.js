// Thumbnails, fetched gently: only of what is seen, a few at a time, and never again before the last one was had.

/** Asks for pictures in turn, the one that is longest overdue first. */
export class ThumbLoader {
  #wanted = new Map();
  #running = new Map();
  #timer;

  /**
   * @param {(key: string, signal: AbortSignal) => Promise<void>} load fetches and shows one picture
   * @param {{atOnce?: number, everyMs?: number, failedMs?: number, now?: () => number, after?: Function, cancel?: Function}} options
   *   `everyMs`: between two pictures of one stream; `failedMs`: after one that failed
   */
  constructor(load, { atOnce = 2, everyMs = 2000, failedMs = 10_000, now = () => performance.now(), after = setTimeout.bind(globalThis), cancel = clearTimeout.bind(globalThis) } = {}) {
    Object.assign(this, { load, atOnce, everyMs, failedMs, now, after, cancel });
  }

  /** How many requests are under way. */
  get running() {
    return this.#running.size;
  }

  /** From now on this one is seen. `live`: its picture changes; one that does not is asked for until it was had once. */
  want(key, live) {
    const known = this.#wanted.get(key);
    if (known) {
      if (live && !known.live) known.due = Math.min(known.due, this.now());
      known.live = live;
    } else {
      this.#wanted.set(key, { live, due: this.now(), had: false });
    }
    this.#turn();
  }

  /** It is seen no more: what is under way for it is given up. */
  drop(key) {
    this.#wanted.delete(key);
    this.#running.get(key)?.abort();
    this.#running.delete(key);
    this.#turn();
  }

  /** Nothing is seen any more. */
  clear() {
    for (const key of [...this.#wanted.keys()]) this.drop(key);
  }

  /** Asks for all of them anew, as when another kind of picture is wanted. */
  refresh() {
    for (const [key, entry] of this.#wanted) {
      this.#running.get(key)?.abort();
      this.#running.delete(key);
      Object.assign(entry, { due: this.now(), had: false });
    }
    this.#turn();
  }

  #turn() {
    this.cancel(this.#timer);
    this.#timer = undefined;
    const now = this.now();
    const waiting = [...this.#wanted].filter(([key, { live, had }]) => !this.#running.has(key) && (live || !had)).sort(([, a], [, b]) => a.due - b.due);
    for (const [key, entry] of waiting) {
      if (this.#running.size >= this.atOnce) return;
      if (entry.due > now) {
        this.#timer = this.after(() => this.#turn(), entry.due - now);
        return;
      }
      this.#ask(key, entry);
    }
  }

  async #ask(key, entry) {
    const stop = new AbortController();
    this.#running.set(key, stop);
    let good = true;
    try {
      await this.load(key, stop.signal);
    } catch {
      good = false;
    }
    // Given up meanwhile: another request may already stand in its place.
    if (this.#running.get(key) !== stop) return;
    this.#running.delete(key);
    entry.had = entry.had || good;
    // Many streams take longer turns, so that the server draws about as many pictures a second for a wall as for a few.
    const turn = Math.max(this.everyMs, 250 * this.#wanted.size);
    entry.due = this.now() + (good ? turn : this.failedMs);
    this.#turn();
  }
}
