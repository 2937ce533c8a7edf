/** Brush, eraser and lasso: masks drawn by hand. Each stroke is one action that can be undone. */

import { registerCommand } from "./commands.js";
import { combine, emptyMask, fillPolygon, strokeLine } from "./mask_ops.js";
import { decodeRle, encodeRle } from "./rle.js";
import { registerTool } from "./tools.js";

/** @typedef {import("./store.js").Store} Store */
/** @typedef {import("./viewer.js").Viewer} Viewer */
/** @typedef {import("./rle.js").Mask} Mask */
/** @typedef {import("./tools.js").Pointer} Pointer */

const MIN_SIZE = 1;
const MAX_SIZE = 400;

/**
 * Return the mask of the current object on this frame; empty if it has none.
 * @param {Store} store
 * @returns {Mask | null} null: nothing is open
 */
export function currentMask(store) {
  if (store.source === null) return null;
  const known = store.objectId === null ? undefined : store.masks.get(store.objectId);
  const [height, width] = store.source.size;
  return known ? decodeRle(known.rle) : emptyMask(width, height);
}

/**
 * Store a mask of the current object on this frame; without one, an object is added.
 * @param {Store} store
 * @param {Mask} mask
 */
export async function storeMask(store, mask) {
  if (store.source === null) return;
  const target = store.objectId === null ? { source: store.source.id, ...(store.classId === null ? {} : { class: store.classId }) } : { object: store.objectId };
  const isEmpty = !mask.data.includes(1);
  if (isEmpty && store.objectId === null) return;
  await store.inOrder("Saving", async () => {
    const answer = await store.api.request("PUT", `${store.path}/masks`, { ...target, frame: store.frame, origin: "edit", ...(isEmpty ? {} : { mask: encodeRle(mask) }) });
    store.objectId = answer.object;
    await store.reload();
  });
}

/**
 * @param {Store} store
 * @param {Viewer} viewer
 */
export function addDrawTools(store, viewer) {
  let size = 20;
  /** @type {Pointer | null} */
  let last = null;
  /** @type {Pointer | null} */
  let cursor = null;
  /** @type {Mask | null} */
  let mask = null;
  /** @type {{x: number, y: number}[]} of the stroke or of the lasso */
  let points = [];
  let erases = false;

  /** @param {0 | 1} value @returns {import("./tools.js").Tool} */
  const brush = (value) => ({
    id: value ? "brush" : "eraser",
    key: value ? "P" : "E",
    label: value ? "Brush: [ and ] change its size" : "Eraser: [ and ] change its size",
    icon: value ? "M4 18c3 0 4-1 5-3l9-10-2-2L6 12c-2 1-2 3-2 6z" : "M4 14l9-9 5 5-8 8H7zM9 9l5 5",
    down(at) {
      if (store.object?.locked) return store.say(`${store.object.name} is locked: unlock it in the list`, true);
      mask = currentMask(store);
      if (!mask) return;
      erases = value === 0 || at.alt;
      last = at;
      points = [at];
      strokeLine(mask, at, at, size / 2, erases ? 0 : 1);
      viewer.draw();
    },
    move(at) {
      cursor = at;
      if (!mask || !last) return;
      strokeLine(mask, last, at, size / 2, erases ? 0 : 1);
      last = at;
      points.push(at);
      viewer.draw();
    },
    up() {
      const done = mask;
      mask = last = null;
      if (done) void storeMask(store, done).then(() => ((points = []), viewer.draw()));
    },
    hover(at) {
      cursor = at;
      viewer.draw();
    },
    cancel() {
      mask = last = cursor = null;
      points = [];
      viewer.draw();
    },
  });
  registerTool(brush(1));
  registerTool(brush(0));
  registerTool({
    id: "lasso",
    key: "G",
    label: "Lasso: draw around a region to add it, with Alt to take it away",
    icon: "M11 4c5 0 8 2 8 5s-3 5-8 5-8-2-8-5 3-5 8-5zM7 14c-1 2 0 4 2 4",
    down(at) {
      if (store.object?.locked) return store.say(`${store.object.name} is locked: unlock it in the list`, true);
      erases = at.alt;
      points = [at];
    },
    move(at) {
      points.push(at);
      viewer.draw();
    },
    up() {
      const before = currentMask(store);
      const drawn = points;
      points = [];
      viewer.draw();
      if (!before || drawn.length < 3) return;
      void storeMask(store, combine(before, fillPolygon(drawn, before.width, before.height), erases ? "subtract" : "union"));
    },
    cancel() {
      points = [];
      viewer.draw();
    },
  });

  viewer.addLayer({
    order: 45,
    draw(context) {
      const pixel = 1 / viewer.scale;
      const isBrush = store.tool === "brush" || store.tool === "eraser";
      if (points.length && (isBrush || store.tool === "lasso")) {
        context.beginPath();
        points.forEach(({ x, y }) => context.lineTo(x, y));
        context.lineJoin = context.lineCap = "round";
        context.strokeStyle = erases ? "rgba(229, 56, 59, .55)" : "rgba(62, 166, 255, .55)";
        if (isBrush) {
          context.lineWidth = size;
          if (points.length === 1) context.lineTo(points[0].x + 0.01, points[0].y);
        } else {
          context.closePath();
          context.fillStyle = "rgba(62, 166, 255, .2)";
          context.fill();
          context.lineWidth = 1.5 * pixel;
        }
        context.stroke();
      }
      if (isBrush && cursor) {
        context.beginPath();
        context.arc(cursor.x, cursor.y, size / 2, 0, 2 * Math.PI);
        context.lineWidth = 1.5 * pixel;
        context.strokeStyle = "#fff";
        context.stroke();
        context.lineWidth = 0.7 * pixel;
        context.strokeStyle = "#000";
        context.stroke();
      }
    },
  });
  const resize = (/** @type {number} */ factor) => () => {
    size = Math.max(MIN_SIZE, Math.min(MAX_SIZE, Math.round(size * factor + (factor > 1 ? 1 : -1))));
    store.say(`Brush of ${size} pixels`);
    viewer.draw();
  };
  registerCommand({ id: "brush-smaller", label: "Smaller brush", group: "Masks", key: "[", run: resize(0.8) });
  registerCommand({ id: "brush-larger", label: "Larger brush", group: "Masks", key: "]", run: resize(1.25) });
}

/**
 * Commands that combine the current object with another one, and that copy to the next frame.
 * @param {Store} store
 */
export function addMaskCommands(store) {
  /** @type {{id: number, operation: import("./mask_ops.js").Operation} | null} */
  let pending = null;
  /** @type {[import("./mask_ops.js").Operation, string, string][]} */
  const operations = [
    ["union", "U", "Add the mask of the object that you choose next"],
    ["subtract", "M", "Take away the mask of the object that you choose next"],
    ["intersect", "Shift+M", "Keep what the object that you choose next has too"],
  ];
  for (const [operation, key, label] of operations) {
    registerCommand({
      id: operation,
      label,
      group: "Masks",
      key,
      enabled: () => store.objectId !== null && store.masks.has(store.objectId),
      run: () => {
        pending = { id: /** @type {number} */ (store.objectId), operation };
        store.say("Choose the other object");
      },
    });
  }
  store.onChange((keys) => {
    if (keys.has("frame") || keys.has("tool")) pending = null;
    if (!keys.has("object") || pending === null || store.objectId === null || store.objectId === pending.id) return;
    const { id, operation } = pending;
    pending = null;
    const one = store.masks.get(id);
    const other = store.masks.get(store.objectId);
    store.objectId = id;
    if (one && other) void storeMask(store, combine(decodeRle(one.rle), decodeRle(other.rle), operation));
    else store.say("That object has no mask on this frame: choose another one", true);
  });
  registerCommand({
    id: "copy-next",
    label: "Copy the mask to the next frame",
    group: "Masks",
    key: "Ctrl+ArrowRight",
    enabled: () => store.isVideo && store.objectId !== null && store.masks.has(store.objectId) && store.frame + 1 < store.numFrames,
    run: () => {
      const mask = store.masks.get(/** @type {number} */ (store.objectId));
      void store.inOrder("Copying", async () => {
        await store.api.request("PUT", `${store.path}/masks`, { object: store.objectId, frame: store.frame + 1, mask: mask?.rle, origin: "edit" });
        await store.showFrame(store.frame + 1);
        await store.reload();
      });
    },
  });
}
