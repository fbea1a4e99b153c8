// Images of 8x8 pixels on the page.

import { SIDE } from "./digit.js";

/** Shows 64 pixels in [0, 1] on a canvas, dark on light, with a text for those who cannot see it. */
export function showPixels(canvas, pixels, label) {
  canvas.width = canvas.height = SIDE;
  canvas.setAttribute("aria-label", label);
  const context = canvas.getContext("2d");
  const image = context.createImageData(SIDE, SIDE);
  pixels.forEach((pixel, index) => {
    const grey = Math.round(255 * (1 - pixel));
    image.data.set([grey, grey, grey, 255], 4 * index);
  });
  context.putImageData(image, 0, 0);
}
