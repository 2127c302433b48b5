// Whether the boxes that a page draws over a video stand where the bright square in the video is, frame by frame.

/**
 * Runs in the page: for `count` shown frames, where the square's centre is in the video, and where that of the lines over it
 * is, both in pixels along one row.
 * @param {{count: number, videoId: string, boxesId: string, row?: number, right?: number}} what `row` and `right` (how far to
 *   look) as shares of height and width
 * @returns {{seen: number, errors: number[], width: number}} an error for each frame that has both
 */
export async function compareBoxes({ count, videoId, boxesId, row = 0.5, right = 1 }) {
  const video = document.getElementById(videoId);
  const boxes = document.getElementById(boxesId);
  const canvas = new OffscreenCanvas(1, 1);
  const c = canvas.getContext('2d', { willReadFrequently: true });
  const centre = (data, hit) => {
    let [sum, number] = [0, 0];
    for (let x = 0; 4 * x < data.length; x += 1) {
      if (!hit(data[4 * x], data[4 * x + 1], data[4 * x + 2], data[4 * x + 3])) continue;
      sum += x;
      number += 1;
    }
    return number > 0 ? sum / number : undefined;
  };
  const errors = [];
  let seen = 0;
  while (seen < count) {
    // The page's own callback stands before this one.
    await new Promise((shown) => video.requestVideoFrameCallback(shown));
    const { videoWidth: width, videoHeight: height } = video;
    if (boxes.width !== width) continue;
    Object.assign(canvas, { width, height });
    c.drawImage(video, 0, 0);
    const strip = [0, Math.round(height * row), Math.round(width * right), 1];
    const square = centre(c.getImageData(...strip).data, (r, g, b) => r > 180 && g > 180 && b > 180);
    const box = centre(boxes.getContext('2d').getImageData(...strip).data, (r, g, b, a) => a > 100);
    seen += 1;
    if (square !== undefined && box !== undefined) errors.push(box - square);
  }
  return { seen, errors, width: video.videoWidth };
}
