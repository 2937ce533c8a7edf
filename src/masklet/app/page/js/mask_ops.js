/** Operations on masks: union, subtraction, intersection, strokes of a brush, filled polygons. */

/** @typedef {import("./rle.js").Mask} Mask */
/** @typedef {"union" | "subtract" | "intersect"} Operation */

/** @param {number} width @param {number} height @returns {Mask} */
export function emptyMask(width, height) {
  return { data: new Uint8Array(width * height), width, height };
}

/**
 * Combine two masks of one size.
 * @param {Mask} one @param {Mask} other @param {Operation} operation
 * @returns {Mask}
 */
export function combine(one, other, operation) {
  if (one.width !== other.width || one.height !== other.height) throw new Error(`masks of ${one.width} x ${one.height} and ${other.width} x ${other.height} do not fit`);
  const result = emptyMask(one.width, one.height);
  for (let i = 0; i < result.data.length; i++) {
    const a = one.data[i];
    const b = other.data[i];
    result.data[i] = operation === "union" ? a | b : operation === "subtract" ? a & (b ^ 1) : a & b;
  }
  return result;
}

/**
 * Return `mask` with the pixels of `part` inside a box.
 * @param {Mask} mask @param {Mask} part
 * @param {[number, number, number, number]} box left, top, right, bottom in whole pixels
 * @returns {Mask}
 */
export function replaceWithin(mask, part, [left, top, right, bottom]) {
  const result = { ...mask, data: mask.data.slice() };
  for (let y = top; y < bottom; y++) result.data.set(part.data.subarray(y * mask.width + left, y * mask.width + right), y * mask.width + left);
  return result;
}

/**
 * Set the pixels within a distance of a line, in place.
 * @param {Mask} mask
 * @param {{x: number, y: number}} from @param {{x: number, y: number}} to @param {number} radius in pixels
 * @param {0 | 1} value
 */
export function strokeLine(mask, from, to, radius, value) {
  const { data, width, height } = mask;
  const left = Math.max(0, Math.floor(Math.min(from.x, to.x) - radius));
  const right = Math.min(width - 1, Math.ceil(Math.max(from.x, to.x) + radius));
  const top = Math.max(0, Math.floor(Math.min(from.y, to.y) - radius));
  const bottom = Math.min(height - 1, Math.ceil(Math.max(from.y, to.y) + radius));
  const dx = to.x - from.x;
  const dy = to.y - from.y;
  const length = dx * dx + dy * dy;
  for (let y = top; y <= bottom; y++) {
    for (let x = left; x <= right; x++) {
      const px = x + 0.5 - from.x;
      const py = y + 0.5 - from.y;
      const along = length ? Math.max(0, Math.min(1, (px * dx + py * dy) / length)) : 0;
      if ((px - along * dx) ** 2 + (py - along * dy) ** 2 <= radius * radius) data[y * width + x] = value;
    }
  }
}

/**
 * Return the pixels whose centers lie in a polygon, by the even-odd rule.
 * @param {{x: number, y: number}[]} points @param {number} width @param {number} height
 * @returns {Mask}
 */
export function fillPolygon(points, width, height) {
  const mask = emptyMask(width, height);
  for (let y = 0; y < height; y++) {
    const center = y + 0.5;
    /** @type {number[]} */
    const crossings = [];
    points.forEach((a, i) => {
      const b = points[(i + 1) % points.length];
      if (a.y <= center !== b.y <= center) crossings.push(a.x + ((center - a.y) / (b.y - a.y)) * (b.x - a.x));
    });
    crossings.sort((one, other) => one - other);
    for (let i = 0; i + 1 < crossings.length; i += 2) {
      const first = Math.max(0, Math.ceil(crossings[i] - 0.5));
      const last = Math.min(width - 1, Math.ceil(crossings[i + 1] - 0.5) - 1);
      if (last >= first) mask.data.fill(1, y * width + first, y * width + last + 1);
    }
  }
  return mask;
}
