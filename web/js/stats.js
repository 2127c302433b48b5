// What getStats tells about both directions, as rates over the time since the last look.

const rate = (now, before, key, seconds) => {
  if (!now || !before || seconds <= 0) return undefined;
  const value = (now[key] - before[key]) / seconds;
  return Number.isFinite(value) && value >= 0 ? value : undefined;
};

// The mean of a total over a count, both since the last look, in milliseconds.
const meanMs = (now, before, total, count) => {
  if (!now || !before) return undefined;
  const events = now[count] - before[count];
  const value = ((now[total] - before[total]) / events) * 1000;
  return events > 0 && Number.isFinite(value) ? value : undefined;
};

/** Picks from an RTCStatsReport what the page uses. */
export function pick(report) {
  const picked = {};
  for (const stat of report.values()) {
    if (stat.type === 'outbound-rtp' && stat.kind === 'video') picked.outbound = stat;
    else if (stat.type === 'inbound-rtp' && stat.kind === 'video') picked.inbound = stat;
    else if (stat.type === 'remote-inbound-rtp' && stat.kind === 'video') picked.remoteInbound = stat;
    else if (stat.type === 'transport') picked.transport = stat;
  }
  const pairId = picked.transport?.selectedCandidatePairId;
  for (const stat of report.values()) {
    if (stat.type !== 'candidate-pair') continue;
    if (stat.id === pairId || (pairId === undefined && stat.nominated && stat.state === 'succeeded')) picked.pair = stat;
  }
  return picked;
}

/**
 * Rates between two picks.
 * @returns an object whose values are undefined where the browser does not tell: fps, kbit/s, loss as a share of 1, times
 *   in milliseconds, sizes in pixels
 */
export function summarise(now, before) {
  const { outbound, inbound, remoteInbound, pair } = now;
  const seconds = (span) => (span?.[0] && span?.[1] ? (span[0].timestamp - span[1].timestamp) / 1000 : 0);
  const up = seconds([outbound, before?.outbound]);
  const down = seconds([inbound, before?.inbound]);
  const kbit = (value) => (value === undefined ? undefined : (value * 8) / 1000);
  const received = rate(inbound, before?.inbound, 'packetsReceived', down);
  const lost = inbound && before?.inbound && down > 0 ? Math.max(0, (inbound.packetsLost - before.inbound.packetsLost) / down) : undefined;
  return {
    fpsUp: rate(outbound, before?.outbound, 'framesSent', up),
    fpsDown: rate(inbound, before?.inbound, 'framesDecoded', down),
    kbpsUp: kbit(rate(outbound, before?.outbound, 'bytesSent', up)),
    kbpsDown: kbit(rate(inbound, before?.inbound, 'bytesReceived', down)),
    lossUp: remoteInbound?.fractionLost,
    lossDown: received === undefined || lost === undefined || received + lost === 0 ? undefined : lost / (received + lost),
    rttMs: pair?.currentRoundTripTime === undefined ? undefined : pair.currentRoundTripTime * 1000,
    encodeMs: meanMs(outbound, before?.outbound, 'totalEncodeTime', 'framesEncoded'),
    packetSendMs: meanMs(outbound, before?.outbound, 'totalPacketSendDelay', 'packetsSent'),
    jitterBufferMs: meanMs(inbound, before?.inbound, 'jitterBufferDelay', 'jitterBufferEmittedCount'),
    decodeMs: meanMs(inbound, before?.inbound, 'totalDecodeTime', 'framesDecoded'),
    dropped: rate(inbound, before?.inbound, 'framesDropped', down),
    widthUp: outbound?.frameWidth,
    heightUp: outbound?.frameHeight,
    limitedBy: outbound?.qualityLimitationReason,
  };
}

/** Looks at a peer connection's stats, and remembers the last look. */
export class StatsPoller {
  #before;
  #pc;

  /** The rates since the last look at this connection; undefined at the first look. */
  async poll(pc) {
    if (!pc) return undefined;
    if (pc !== this.#pc) {
      this.#pc = pc;
      this.#before = undefined;
    }
    const report = await pc.getStats();
    if (pc !== this.#pc) return undefined;
    const now = pick(report);
    const summary = this.#before ? summarise(now, this.#before) : undefined;
    this.#before = now;
    return summary;
  }
}
