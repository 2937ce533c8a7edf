/** Tools of the viewer, and the first of them: click, box and hover. */

import { ApiError } from "./api.js";
import { replaceWithin } from "./mask_ops.js";
import { decodeRle, encodeRle } from "./rle.js";

/** @typedef {{x: number, y: number, button: number, alt: boolean, shift: boolean, pressure: number}} Pointer in pixels of the image */
/** @typedef {import("./store.js").Store} Store */
/** @typedef {import("./viewer.js").Viewer} Viewer */
/**
 * @typedef {{id: string, key: string, label: string, icon: string, down?: (at: Pointer) => void, move?: (at: Pointer) => void, up?: (at: Pointer) => void, hover?: (at: Pointer | null) => void, cancel?: () => void}} Tool
 */

/** @type {Map<string, Tool>} */
const tools = new Map();

/** @param {Tool} tool */
export function registerTool(tool) {
  tools.set(tool.id, tool);
}

/** @returns {Tool[]} */
export function allTools() {
  return [...tools.values()];
}

/** @param {string} id @returns {Tool | undefined} */
export function toolById(id) {
  return tools.get(id);
}

const DRAG_PIXELS = 5;
const HOVER_MS = 40;

/**
 * The tool that points: a click adds, a right click or Alt removes, a drag is a box, and hovering shows what a click gives.
 * @param {Store} store
 * @param {Viewer} viewer
 */
export function addClickTool(store, viewer) {
  /** @type {Pointer | null} */
  let start = null;
  /** @type {[number, number, number, number] | null} */
  let box = null;
  let hoverNumber = 0;
  let timer = 0;

  const clearHover = () => {
    hoverNumber++;
    clearTimeout(timer);
    viewer.setPreview(null);
  };

  /** @param {Pointer} at */
  const askHover = async (at) => {
    const number = ++hoverNumber;
    const { source, socket, frame } = store;
    if (source === null || socket === null || !store.isOnline || store.busy || start) return;
    const known = store.promptOf(store.objectId);
    const points = [...(known?.points ?? []), [at.x, at.y]];
    const labels = [...(known?.labels ?? (known?.points ?? []).map(() => 1)), at.alt ? 0 : 1];
    try {
      const answer = await socket.request("hover", { source: source.id, frame, points, labels, ...(known?.box ? { box: known.box } : {}), ...(store.view ? { view: store.view } : {}) });
      const current = number === hoverNumber && store.source === source && store.frame === frame && !store.busy;
      if (current && answer.header.type === "masks" && answer.masks.length) viewer.setPreview(answer.masks[0].rle);
    } catch {
      // a preview that failed is no preview; the click will say why
    }
  };

  registerTool({
    id: "click",
    key: "V",
    label: "Point",
    icon: "M5 3l14 8-6 2-3 6z",
    down(at) {
      clearHover();
      start = at;
      box = null;
    },
    move(at) {
      if (!start) return;
      const scale = viewer.scale;
      const far = Math.max(Math.abs(at.x - start.x), Math.abs(at.y - start.y)) * scale > DRAG_PIXELS;
      if (!far && !box) return;
      box = [Math.min(start.x, at.x), Math.min(start.y, at.y), Math.max(start.x, at.x), Math.max(start.y, at.y)];
      viewer.setDraft(box);
    },
    up(at) {
      const first = start;
      start = null;
      viewer.setDraft(null);
      if (first === null) return;
      if (box) {
        const drawn = box;
        box = null;
        if (drawn[2] - drawn[0] < 1 || drawn[3] - drawn[1] < 1) return;
        leaveView(store, (drawn[0] + drawn[2]) / 2, (drawn[1] + drawn[3]) / 2);
        void store.prompt((known) => ({ points: known?.points, labels: known?.labels, box: drawn }));
        return;
      }
      void clickAt(store, first.x, first.y, !(at.alt || first.button === 2));
    },
    hover(at) {
      clearTimeout(timer);
      if (at === null) clearHover();
      else timer = window.setTimeout(() => void askHover(at), HOVER_MS);
    },
    cancel() {
      start = box = null;
      viewer.setDraft(null);
      clearHover();
    },
  });
}

/**
 * Segment in the entire image again when something beside the view is pointed at.
 * @param {Store} store
 * @param {number} x
 * @param {number} y
 */
function leaveView(store, x, y) {
  if (!store.view) return;
  const [left, top, right, bottom] = store.view;
  if (x < left || y < top || x >= right || y >= bottom) store.setView(null);
}

/**
 * Add a click to the prompts of the current object, or begin a new one.
 * @param {Store} store
 * @param {number} x
 * @param {number} y
 * @param {boolean} isPositive
 */
export async function clickAt(store, x, y, isPositive) {
  leaveView(store, x, y);
  await store.prompt((known) => {
    if (!isPositive && store.object === null) throw new ApiError(400, "A click that removes needs an object: choose one in the list, or click without Alt first");
    const before = known?.points ?? [];
    return {
      points: [...before, [x, y]],
      labels: [...(known?.labels ?? before.map(() => 1)), isPositive ? 1 : 0],
      box: known?.box,
    };
  });
}

/**
 * Show the next of the three masks that the prompts of the current object may mean, and store it.
 * @param {Store} store
 */
export function candidateCycler(store) {
  let key = "";
  let index = 0;
  /** @type {import("./api.js").MaskOf[]} */
  let candidates = [];
  return async () => {
    const prompt = store.promptOf(store.objectId);
    if (store.source === null || store.objectId === null || prompt === null || !(prompt.points || prompt.box)) {
      store.say("Tab shows other masks for the clicks of an object: choose an object with clicks on this frame", true);
      return;
    }
    const fields = {
      source: store.source.id,
      frame: store.frame,
      multimask: true,
      ...(prompt.points ? { points: prompt.points, labels: prompt.labels ?? prompt.points.map(() => 1) } : {}),
      ...(prompt.box ? { box: prompt.box } : {}),
      ...(store.view ? { view: store.view } : {}),
    };
    await store.inOrder("Looking for other masks", async () => {
      const current = JSON.stringify([store.objectId, fields]);
      if (current !== key) {
        candidates = (await /** @type {import("./api.js").SessionSocket} */ (store.socket).request("predict", fields)).masks;
        key = current;
        index = 0;
        const shown = store.masks.get(/** @type {number} */ (store.objectId))?.rle;
        const { view } = store;
        if (view && shown) candidates = candidates.map((one) => ({ ...one, rle: encodeRle(replaceWithin(decodeRle(shown), decodeRle(one.rle), view)) }));
        if (candidates.length > 1 && candidates[0].rle.counts === shown?.counts) index = 1;
      } else index = (index + 1) % candidates.length;
      const chosen = candidates[index];
      await store.api.request("PUT", `${store.path}/masks`, {
        object: store.objectId,
        frame: store.frame,
        mask: chosen.rle,
        score: Math.max(0, Math.min(1, chosen.score)),
        origin: "click",
      });
      await store.reload();
    });
    if (!store.isError) store.say(`Mask ${index + 1} of ${candidates.length}`);
  };
}
