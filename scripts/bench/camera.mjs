// Writes a webcam recording for Chromium's fake camera: a textured scene with noise and moving squares, Y4M 4:2:0.

import { closeSync, openSync, writeSync } from 'node:fs';

/** @param {string} path where to write @param {{width:number,height:number,fps:number,frames:number}} size */
export function writeCamera(path, { width, height, fps, frames }) {
  const file = openSync(path, 'w');
  writeSync(file, `YUV4MPEG2 W${width} H${height} F${fps}:1 Ip A1:1 C420jpeg\n`);
  const ySize = width * height;
  const cWidth = width / 2;
  const data = Buffer.alloc(ySize * 1.5);
  let seed = 12345;
  const noise = () => {
    seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
    return (seed >>> 16) & 7;
  };
  for (let frame = 0; frame < frames; frame += 1) {
    const pan = Math.round(20 * Math.sin((2 * Math.PI * frame) / frames));
    for (let y = 0; y < height; y += 1) {
      for (let x = 0; x < width; x += 1) {
        const texture = ((x + pan) >> 4) + (y >> 4) * 3;
        data[y * width + x] = 60 + ((texture * 37) % 90) + noise();
      }
    }
    data.fill(118, ySize, ySize * 1.25);
    data.fill(138, ySize * 1.25);
    for (let square = 0; square < 3; square += 1) {
      const side = Math.round(height / 5);
      const phase = (2 * Math.PI * (frame / frames + square / 3));
      const left = Math.round((width - side) * (0.5 + 0.45 * Math.cos(phase)));
      const top = Math.round((height - side) * (0.5 + 0.4 * Math.sin(phase)));
      for (let y = top; y < top + side; y += 1) {
        data.fill(200 - 40 * square, y * width + left, y * width + left + side);
        const c = ySize + (y >> 1) * cWidth + (left >> 1);
        data.fill(90 + 40 * square, c, c + (side >> 1));
      }
    }
    writeSync(file, 'FRAME\n');
    writeSync(file, data);
  }
  closeSync(file);
}
