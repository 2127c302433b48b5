// Runs beside the page: sees each encoded frame of the camera pass on its way to the network, and tells the page its
// RTP timestamp and the time. The frames themselves are passed on untouched, before anything else is done.

const FRAMES_A_REPORT = 8;

self.onrtctransform = async ({ transformer }) => {
  const reader = transformer.readable.getReader();
  const writer = transformer.writable.getWriter();
  let report = [];
  for (;;) {
    const { value: frame, done } = await reader.read();
    if (done) return;
    const { rtpTimestamp } = frame.getMetadata();
    // The network closes the stream when the connection ends; the reader's `done` ends this loop.
    writer.write(frame).catch(() => {});
    // The page and its worker count from different origins: the sum means the same to both.
    report.push({ rtpTimestamp: rtpTimestamp ?? frame.timestamp, at: performance.timeOrigin + performance.now() });
    if (report.length >= FRAMES_A_REPORT) {
      self.postMessage({ encoded: report });
      report = [];
    }
  }
};

self.postMessage({ ready: true });
