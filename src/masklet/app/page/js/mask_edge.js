/** Low-resolution logits of a mask: other thresholds and soft edges, without the server. */

/** @typedef {import("./rle.js").Mask} Mask */
/**
 * Logits of `rows` x `columns` cells, `scale` steps for 1, which cover the box left, top, right, bottom of an image.
 * @typedef {{data: Int8Array, rows: number, columns: number, scale: number, box: number[]}} LogitField
 */

/** Logit of pixels that a field does not cover: inside the mask above 0, outside below. */
const BEYOND = 16;

/**
 * Read the logits of an answer of the WebSocket.
 * @param {import("./api.js").Answer} answer
 * @returns {LogitField}
 */
export function readLogits({ header, payload }) {
  const [rows, columns] = header.shape;
  return { data: new Int8Array(payload.slice().buffer), rows, columns, scale: header.scale, box: header.box };
}

/**
 * Interpolate logits at the pixels of a mask, bilinearly between the centers of cells; beyond the field it is the mask.
 * @param {LogitField} field
 * @param {Mask} mask
 * @returns {Float32Array} by pixel, row by row
 */
export function logitsOfPixels(field, mask) {
  const { data, rows, columns, scale, box } = field;
  const { width, height } = mask;
  const [left, top, right, bottom] = box;
  const found = new Float32Array(width * height);
  const isCovered = left <= 0 && top <= 0 && right >= width && bottom >= height;
  if (!isCovered) for (let i = 0; i < found.length; i++) found[i] = mask.data[i] ? BEYOND : -BEYOND;
  const [firstX, endX] = [Math.max(0, Math.ceil(left)), Math.min(width, Math.floor(right))];
  const [firstY, endY] = [Math.max(0, Math.ceil(top)), Math.min(height, Math.floor(bottom))];
  const low = new Int32Array(width);
  const high = new Int32Array(width);
  const part = new Float32Array(width);
  for (let x = firstX; x < endX; x++) {
    const at = Math.max(0, Math.min(columns - 1, ((x + 0.5 - left) * columns) / (right - left) - 0.5));
    low[x] = Math.floor(at);
    high[x] = Math.min(columns - 1, low[x] + 1);
    part[x] = at - low[x];
  }
  for (let y = firstY; y < endY; y++) {
    const at = Math.max(0, Math.min(rows - 1, ((y + 0.5 - top) * rows) / (bottom - top) - 0.5));
    const above = Math.floor(at) * columns;
    const below = Math.min(rows - 1, Math.floor(at) + 1) * columns;
    const down = at - Math.floor(at);
    for (let x = firstX; x < endX; x++) {
      const upper = data[above + low[x]] * (1 - part[x]) + data[above + high[x]] * part[x];
      const lower = data[below + low[x]] * (1 - part[x]) + data[below + high[x]] * part[x];
      found[y * width + x] = (upper * (1 - down) + lower * down) / scale;
    }
  }
  return found;
}

/**
 * Return the pixels above a threshold.
 * @param {Float32Array} logits @param {number} width @param {number} height @param {number} threshold
 * @returns {Mask}
 */
export function maskAbove(logits, width, height, threshold) {
  const data = new Uint8Array(logits.length);
  for (let i = 0; i < logits.length; i++) data[i] = logits[i] > threshold ? 1 : 0;
  return { data, width, height };
}

/**
 * Return how far each pixel is inside, 0 to 255.
 * @param {Float32Array} logits @param {number} threshold
 * @returns {Uint8ClampedArray}
 */
export function softAlpha(logits, threshold) {
  const alpha = new Uint8ClampedArray(logits.length);
  for (let i = 0; i < logits.length; i++) alpha[i] = 255 / (1 + Math.exp(threshold - logits[i]));
  return alpha;
}
