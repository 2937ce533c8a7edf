/** The edge of the chosen object's mask: a threshold by a slider, and soft edges, from the logits behind its clicks. */

import { el, find } from "./dom.js";
import { logitsOfPixels, maskAbove, readLogits, softAlpha } from "./mask_edge.js";
import { decodeRle } from "./rle.js";

/** @typedef {import("./store.js").Store} Store */
/** @typedef {import("./viewer.js").Viewer} Viewer */

const MAX_THRESHOLD = 8;
/** Seconds between prompts and a mask that is theirs: they are stored together. A later one was drawn or tracked. */
const SAME_ACTION = 0.5;

/**
 * @param {Store} store
 * @param {Viewer} viewer
 */
export function addEdgePanel(store, viewer) {
  /** What the logits are of; empty: no prompts have made the shown mask. */
  let key = "";
  let counts = "";
  let isAccepting = false;
  let threshold = 0;
  /** @type {Float32Array | null} */
  let logits = null;
  /** @type {Promise<void> | null} */
  let loading = null;
  /** The key whose logits could not be had. */
  let failed = "";
  /** What is drawn now. */
  let painted = "";
  const slider = el("input", {
    type: "range",
    id: "edge-threshold",
    min: String(-MAX_THRESHOLD),
    max: String(MAX_THRESHOLD),
    step: "0.25",
    value: "0",
    oninput: () => {
      threshold = Number(slider.value);
      void show();
    },
    onchange: () => void accept(),
    ondblclick: () => {
      setThreshold(0);
      void accept();
    },
  });
  const soft = el("input", { type: "checkbox", id: "edge-soft", checked: store.settings.softEdge === true, onchange: () => store.set({ softEdge: soft.checked }) });
  find("#panel").append(
    el(
      "details",
      { open: store.settings.showsEdge === true, ontoggle: (/** @type {Event} */ event) => store.set({ showsEdge: /** @type {HTMLDetailsElement} */ (event.target).open }) },
      el("summary", {}, "Edge"),
      el("label", { class: "row slider", title: "Left: larger, right: smaller. Double-click for the mask of the model" }, el("span", {}, "Threshold"), slider),
      el("label", { class: "row" }, soft, "Soft edge"),
    ),
  );

  /** @param {number} value */
  const setThreshold = (value) => {
    threshold = value;
    slider.value = String(value);
  };

  const promptOfMask = () => {
    const { object } = store;
    const mask = object ? store.masks.get(object.id) : undefined;
    const prompt = store.promptOf(store.objectId);
    if (!store.source || !object || !mask || !prompt || mask.at - prompt.at > SAME_ACTION) return null;
    const marks = prompt.box || prompt.mask || (prompt.labels ? prompt.labels.includes(1) : prompt.points);
    return marks ? { object, mask, prompt } : null;
  };

  const load = () => {
    const found = promptOfMask();
    if (!found || logits || loading || !store.socket || failed === key) return loading;
    const { object, mask, prompt } = found;
    const wanted = key;
    const { points, labels, box, mask: drawn } = prompt;
    const given = Object.fromEntries(Object.entries({ points, labels, box, mask: drawn, view: store.view }).filter(([, value]) => value !== null));
    loading = store.socket
      .request("logits", { object: object.id, frame: store.frame, ...given })
      .then((answer) => {
        if (wanted === key) logits = logitsOfPixels(readLogits(answer), decodeRle(mask.rle));
      })
      .catch((error) => {
        failed = wanted;
        store.say(error instanceof Error ? error.message : String(error), true);
      })
      .finally(() => {
        loading = null;
      });
    return loading;
  };

  /** Draw the mask as the slider and the checkbox say; at 0 with a hard edge it is the mask of the server. */
  const show = async () => {
    const wanted = key;
    const isUsual = threshold === 0 && !soft.checked;
    if (!isUsual) await load();
    if (wanted !== key) return;
    const found = promptOfMask();
    const color = found ? store.colorOf(found.object) : "";
    const opacity = store.settings.opacity;
    const now = isUsual || !logits || !found ? "" : JSON.stringify([key, threshold, soft.checked, color, opacity]);
    if (now === painted) return;
    painted = now;
    store.softAlpha = null;
    if (!now || !logits || !found) viewer.replaced = null;
    else {
      const [height, width] = found.mask.rle.size;
      if (soft.checked) {
        const alpha = softAlpha(logits, threshold);
        store.softAlpha = { object: found.object.id, frame: store.frame, alpha };
        viewer.replaced = { object: found.object.id, image: viewer.paintAlpha(alpha, width, height, color, opacity) };
      } else viewer.replaced = { object: found.object.id, image: viewer.paintPixels(maskAbove(logits, width, height, threshold), color, opacity) };
    }
    viewer.draw();
  };

  /** Let the server make the mask of the chosen threshold, at full size. */
  const accept = async () => {
    isAccepting = true;
    if (store.objectId !== null) store.threshold = { object: store.objectId, frame: store.frame, value: threshold };
    await store.prompt((known) => ({ points: known?.points, labels: known?.labels, box: known?.box, mask: known?.mask }));
    counts = promptOfMask()?.mask.rle.counts ?? "";
    isAccepting = false;
    void show();
  };

  store.onChange(() => {
    const found = promptOfMask();
    const { points, labels, box, mask } = found?.prompt ?? {};
    const now = found ? JSON.stringify([store.source?.id, store.frame, found.object.id, points, labels, box, mask, store.view]) : "";
    slider.disabled = !found;
    if (now !== key) {
      key = now;
      logits = null;
      loading = null;
      failed = painted = "";
      viewer.replaced = store.softAlpha = null;
      setThreshold(found ? store.thresholdOf(found.object.id) : 0);
    } else if (!isAccepting && (found?.mask.rle.counts ?? "") !== counts) {
      store.threshold = null; // undone, or of another page
      setThreshold(0);
    }
    if (!isAccepting) counts = found?.mask.rle.counts ?? "";
    if (found) void show();
  });
}
