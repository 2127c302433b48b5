// Where the video comes from: a webcam, a shared screen, or the test pattern.

import { TestPattern } from './pattern.js';
import { Problem, mediaProblem } from './problems.js';

/** The choices of the source picker: {id, label}. Cameras have names only once the user has allowed one. */
export async function listSources() {
  const sources = [];
  if (navigator.mediaDevices?.enumerateDevices) {
    const devices = await navigator.mediaDevices.enumerateDevices().catch(() => []);
    const cameras = devices.filter(({ kind }) => kind === 'videoinput');
    const named = cameras.filter(({ deviceId }) => deviceId);
    named.forEach(({ deviceId, label }, index) => {
      sources.push({ id: `camera:${deviceId}`, label: label || `Camera ${index + 1}` });
    });
  }
  if (sources.length === 0) sources.push({ id: 'camera:', label: 'Webcam' });
  if (navigator.mediaDevices?.getDisplayMedia) sources.push({ id: 'screen', label: 'Shared screen' });
  sources.push({ id: 'pattern', label: 'Test pattern' });
  return sources;
}

/**
 * Opens a source.
 * @param {string} id of listSources
 * @param {{width: number, height: number, fps: number}} wish what to ask for; a camera may answer with its nearest
 * @returns {{stream: MediaStream, pattern?: TestPattern, width: number, height: number, fps: number, stop: () => void}}
 * @throws {Problem}
 */
export async function openSource(id, wish) {
  if (id === 'pattern') {
    const pattern = new TestPattern(wish);
    return { stream: pattern.stream, pattern, ...wish, stop: () => pattern.stop() };
  }
  if (!navigator.mediaDevices) throw new Problem(globalThis.isSecureContext ? 'no-webrtc' : 'insecure');
  const screen = id === 'screen';
  let stream;
  try {
    stream = screen ? await openScreen(wish) : await openCamera(id.slice('camera:'.length), wish);
  } catch (error) {
    throw mediaProblem(error, screen ? 'screen' : 'camera');
  }
  const [track] = stream.getVideoTracks();
  // Tells the encoder to keep the frame rate, also for a shared screen: a late sharp picture is no use to a detector.
  track.contentHint = 'motion';
  const { width = wish.width, height = wish.height, frameRate = wish.fps } = track.getSettings();
  return { stream, width, height, fps: Math.round(frameRate), stop: () => track.stop() };
}

function openCamera(deviceId, { width, height, fps }) {
  return navigator.mediaDevices.getUserMedia({
    audio: false,
    video: {
      ...(deviceId ? { deviceId: { exact: deviceId } } : { facingMode: 'user' }),
      width: { ideal: width },
      height: { ideal: height },
      frameRate: { ideal: fps },
    },
  });
}

function openScreen({ width, height, fps }) {
  return navigator.mediaDevices.getDisplayMedia({
    audio: false,
    video: { width: { max: width }, height: { max: height }, frameRate: { ideal: fps, max: fps } },
  });
}
