/**
 * COCO run-length codes: masks as text, column by column, as pycocotools has them.
 *
 * A mask is a Uint8Array of height x width, row by row, of 0 and 1.
 *
 * @typedef {{size: [number, number], counts: string}} Rle
 * @typedef {{data: Uint8Array, width: number, height: number}} Mask
 */

/**
 * Read the lengths of the runs: of background first, then in turn.
 * @param {string} text
 * @returns {number[]}
 */
export function parseCounts(text) {
  /** @type {number[]} */
  const counts = [];
  for (let at = 0; at < text.length; ) {
    let value = 0;
    let shift = 0;
    for (let more = true; more; shift += 5) {
      const code = text.charCodeAt(at++) - 48;
      value |= (code & 31) << shift;
      more = (code & 32) !== 0;
      if (!more && code & 16) value |= shift < 25 ? -1 << (shift + 5) : 0;
    }
    counts.push(counts.length > 2 ? value + counts[counts.length - 2] : value);
  }
  return counts;
}

/**
 * Write the lengths of runs as text.
 * @param {number[]} counts
 * @returns {string}
 */
export function formatCounts(counts) {
  let text = "";
  for (let i = 0; i < counts.length; i++) {
    let value = i > 2 ? counts[i] - counts[i - 2] : counts[i];
    for (let more = true; more; ) {
      let code = value & 31;
      value >>= 5;
      more = code & 16 ? value !== -1 : value !== 0;
      if (more) code |= 32;
      text += String.fromCharCode(code + 48);
    }
  }
  return text;
}

/**
 * Decode a mask; a code without runs is an empty mask.
 * @param {Rle} rle
 * @returns {Mask}
 */
export function decodeRle(rle) {
  const [height, width] = rle.size;
  const data = new Uint8Array(height * width);
  let at = 0;
  let value = 0;
  for (const count of parseCounts(rle.counts)) {
    if (value) {
      let row = at % height;
      let column = (at - row) / height;
      for (let i = 0; i < count; i++) {
        data[row * width + column] = 1;
        if (++row === height) {
          row = 0;
          column++;
        }
      }
    }
    at += count;
    value = 1 - value;
  }
  return { data, width, height };
}

/**
 * Encode a mask.
 * @param {Mask} mask
 * @returns {Rle}
 */
export function encodeRle({ data, width, height }) {
  /** @type {number[]} */
  const counts = [];
  let last = 0;
  let run = 0;
  for (let x = 0; x < width; x++) {
    for (let y = 0, at = x; y < height; y++, at += width) {
      const value = data[at] ? 1 : 0;
      if (value !== last) {
        counts.push(run);
        run = 0;
        last = value;
      }
      run++;
    }
  }
  counts.push(run);
  return { size: [height, width], counts: formatCounts(counts) };
}

/**
 * Count the pixels of a code without decoding it.
 * @param {Rle} rle
 * @returns {number}
 */
export function rleArea(rle) {
  return parseCounts(rle.counts).reduce((sum, count, i) => (i % 2 ? sum + count : sum), 0);
}

/**
 * Return the box of a mask as left, top, right, bottom (right and bottom exclusive), or null if it is empty.
 * @param {Mask} mask
 * @returns {[number, number, number, number] | null}
 */
export function maskBox({ data, width, height }) {
  let left = width;
  let top = height;
  let right = 0;
  let bottom = 0;
  for (let y = 0, at = 0; y < height; y++) {
    for (let x = 0; x < width; x++, at++) {
      if (!data[at]) continue;
      if (x < left) left = x;
      if (x >= right) right = x + 1;
      if (y < top) top = y;
      bottom = y + 1;
    }
  }
  return right ? [left, top, right, bottom] : null;
}
