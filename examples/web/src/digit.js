// From pen strokes to the 8x8 images of the `digits` dataset.
//
// The set was made of bitmaps of 32x32 pixels, black or white, in which the set pixels of each block
// of 4x4 were counted: 64 levels from 0 to 16. A digit fills the height of its bitmap, is centred, and
// has nearly the same amount of ink as any other: a 1 is thick, an 8 is thin. The numbers below are
// those of the set.

export const SIDE = 8;
const BITMAP = 32;
const BLOCK = BITMAP / SIDE;
// Mean number of set pixels in a bitmap, over the 1797 digits.
const INK = 312;
// Most digits take six of the eight columns, the outer ones in part.
const HEIGHT = 32;
const WIDTH = 21;
// A side shorter than this part of the other one is not stretched to its full length.
const SLENDER = 1 / 3;

/** 64 levels from 0 to 16 of strokes, which are lists of points [x, y] in any unit. */
export function levelsOfStrokes(strokes) {
  return countBlocks(bitmapOf(strokes, penWidth(strokes)));
}

/** Grey values in [0, 1] as the dataset has them: levels kept in eight bits. */
export function pixelsOfLevels(levels) {
  return Float32Array.from(levels, (level) => Math.round((level * 255) / 16) / 255);
}

/** The pen that gives the digit as much ink as those of the set have, in pixels of the bitmap. */
function penWidth(strokes) {
  let [thin, thick] = [1, BITMAP];
  for (let step = 0; step < 10; step++) {
    const middle = (thin + thick) / 2;
    const ink = bitmapOf(strokes, middle).reduce((sum, pixel) => sum + pixel, 0);
    [thin, thick] = ink < INK ? [middle, thick] : [thin, middle];
  }
  return thick;
}

/** Set pixels, 1 or 0, of strokes drawn with a round pen after scaling to the size of a digit. */
function bitmapOf(strokes, pen) {
  const bitmap = new Uint8Array(BITMAP * BITMAP);
  for (const segment of scaled(strokes, pen).flatMap(segmentsOf)) blacken(bitmap, segment, pen);
  return bitmap;
}

/** Sets the pixels whose middle the pen covers on its way along a segment. */
function blacken(bitmap, segment, pen) {
  const [left, right] = pixelsNear(segment[0][0], segment[1][0], pen);
  const [top, bottom] = pixelsNear(segment[0][1], segment[1][1], pen);
  for (let row = top; row <= bottom; row++) {
    for (let column = left; column <= right; column++) {
      const near = squaredDistance(column + 0.5, row + 0.5, segment) <= (pen / 2) ** 2;
      if (near) bitmap[row * BITMAP + column] = 1;
    }
  }
}

/** First and last pixel, along one axis, that the pen may reach between two points. */
function pixelsNear(one, other, pen) {
  const first = Math.floor(Math.min(one, other) - pen / 2);
  const last = Math.floor(Math.max(one, other) + pen / 2);
  return [Math.max(0, first), Math.min(BITMAP - 1, last)];
}

/** Strokes moved and stretched so that, with the width of the pen, they fill the size of a digit. */
function scaled(strokes, pen) {
  const [x, y] = [0, 1].map((axis) => rangeOf(strokes, axis));
  const width = WIDTH * fullness(x.length, y.length);
  const height = HEIGHT * fullness(y.length, x.length);
  const place = (value, range, size) => {
    const scale = range.length > 0 ? Math.max(0, size - pen) / range.length : 0;
    return BITMAP / 2 + (value - range.middle) * scale;
  };
  return strokes.map((points) =>
    points.map(([px, py]) => [place(px, x, width), place(py, y, height)]),
  );
}

function rangeOf(strokes, axis) {
  const values = strokes.flat().map((point) => point[axis]);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  return { middle: (low + high) / 2, length: high - low };
}

function fullness(length, other) {
  return other > 0 ? Math.min(1, length / other / SLENDER) : 1;
}

/** Pairs of neighbouring points; a single point is a segment without length. */
function segmentsOf(points) {
  return points.length > 1
    ? points.slice(1).map((point, index) => [points[index], point])
    : [[points[0], points[0]]];
}

function squaredDistance(x, y, [[ax, ay], [bx, by]]) {
  const [dx, dy] = [bx - ax, by - ay];
  const length = dx * dx + dy * dy;
  const along = length > 0 ? ((x - ax) * dx + (y - ay) * dy) / length : 0;
  const part = Math.min(1, Math.max(0, along));
  return (x - ax - part * dx) ** 2 + (y - ay - part * dy) ** 2;
}

function countBlocks(bitmap) {
  const levels = new Array(SIDE * SIDE).fill(0);
  bitmap.forEach((pixel, index) => {
    const row = Math.floor(index / BITMAP / BLOCK);
    const column = Math.floor((index % BITMAP) / BLOCK);
    levels[row * SIDE + column] += pixel;
  });
  return levels;
}
