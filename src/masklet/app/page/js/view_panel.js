/** How the image is shown: opacity, contrast, effects, and outlines of the frames before and after. */

import { registerCommand } from "./commands.js";
import { el, find } from "./dom.js";
import { decodeRle } from "./rle.js";

/** @typedef {import("./store.js").Store} Store */
/** @typedef {import("./viewer.js").Viewer} Viewer */

/** @type {[string, string][]} */
const EFFECTS = [
  ["none", "No effect"],
  ["gray", "Gray background"],
  ["blur", "Blurred background"],
  ["dark", "Dark background"],
  ["cut", "Objects only"],
];

/**
 * @param {Store} store
 * @param {Viewer} viewer
 */
export function addViewPanel(store, viewer) {
  const slider = (/** @type {string} */ name, /** @type {string} */ label, /** @type {number} */ low, /** @type {number} */ high, /** @type {number} */ usual) => {
    const input = el("input", {
      type: "range",
      min: String(low),
      max: String(high),
      step: "0.05",
      value: String(store.settings[name] ?? usual),
      oninput: () => store.set({ [name]: Number(input.value) }),
      ondblclick: () => {
        input.value = String(usual);
        store.set({ [name]: usual });
      },
    });
    return el("label", { class: "row slider", title: "Double-click for the usual value" }, el("span", {}, label), input);
  };
  const effect = el("select", { "aria-label": "Effect", onchange: () => store.set({ effect: effect.value }) }, ...EFFECTS.map(([value, text]) => el("option", { value, selected: value === store.settings.effect }, text)));
  const checks = el("input", { type: "checkbox", checked: store.settings.checksBackward !== false, onchange: () => store.set({ checksBackward: checks.checked }) });
  const onion = el("input", { type: "checkbox", checked: store.settings.onion === true, onchange: () => store.set({ onion: onion.checked }) });
  find("#panel").append(
    el(
      "details",
      { open: store.settings.showsView === true, ontoggle: (/** @type {Event} */ event) => store.set({ showsView: /** @type {HTMLDetailsElement} */ (event.target).open }) },
      el("summary", {}, "View"),
      slider("opacity", "Masks", 0, 1, 0.45),
      slider("brightness", "Brightness", 0.2, 3, 1),
      slider("contrast", "Contrast", 0.2, 3, 1),
      effect,
      el("label", { class: "row" }, onion, "Outlines of the frames beside"),
      el("label", { class: "row" }, checks, "Track backward when idle, to compare"),
    ),
  );
  registerCommand({
    id: "onion",
    label: "Outlines of the frames before and after",
    group: "View",
    key: "Shift+O",
    enabled: () => store.isVideo,
    run: () => {
      onion.checked = !onion.checked;
      store.set({ onion: onion.checked });
    },
  });

  /** @type {{frame: number, source: number, outlines: {canvas: HTMLCanvasElement}[]}} */
  let beside = { frame: -1, source: -1, outlines: [] };
  const readBeside = async () => {
    const { source, frame } = store;
    if (!store.settings.onion || !source || !store.isVideo || frame < 0 || (beside.frame === frame && beside.source === source.id)) return;
    beside = { frame, source: source.id, outlines: [] };
    for (const [at, color] of /** @type {[number, string][]} */ ([[frame - 1, "#ffd23f"], [frame + 1, "#ff5dc8"]])) {
      if (at < 0 || at >= store.numFrames) continue;
      const masks = await store.readMasks(source.id, at).catch(() => new Map());
      if (store.frame !== frame) return;
      for (const [id, mask] of masks) if (store.objectId === null || id === store.objectId) beside.outlines.push({ canvas: viewer.paintMask(mask.rle, color, 0) });
    }
    viewer.draw();
  };
  store.onChange((keys) => {
    const { brightness = 1, contrast = 1 } = store.settings;
    viewer.filter = brightness === 1 && contrast === 1 ? "none" : `brightness(${brightness}) contrast(${contrast})`;
    if (keys.has("frame") || keys.has("project") || keys.has("object")) beside.frame = -1;
    if (["frame", "image", "settings", "project", "object"].some((key) => keys.has(key))) void readBeside();
  });
  viewer.addLayer({
    order: 35,
    draw(context) {
      if (store.settings.onion && beside.frame === store.frame) for (const { canvas } of beside.outlines) context.drawImage(canvas, 0, 0);
    },
  });
  viewer.addLayer({
    order: 15,
    draw(context) {
      const name = store.settings.effect ?? "none";
      const { image } = store;
      const shown = store.objects.filter((one) => !one.hidden && store.masks.has(one.id));
      if (name === "none" || !image || !shown.length) return;
      const objects = el("canvas", { width: image.width, height: image.height });
      const cut = /** @type {CanvasRenderingContext2D} */ (objects.getContext("2d"));
      const pixels = cut.createImageData(image.width, image.height);
      for (const one of shown) {
        const { data } = decodeRle(/** @type {any} */ (store.masks.get(one.id)).rle);
        for (let i = 0; i < data.length; i++) if (data[i]) pixels.data[4 * i + 3] = 255;
      }
      cut.putImageData(pixels, 0, 0);
      cut.globalCompositeOperation = "source-in";
      cut.drawImage(image, 0, 0);
      if (name === "cut") context.clearRect(0, 0, image.width, image.height);
      else {
        context.filter = { gray: "grayscale(1)", blur: "blur(12px)", dark: "brightness(.35)" }[/** @type {"gray"} */ (name)] ?? "none";
        context.drawImage(image, 0, 0);
        context.filter = "none";
      }
      context.drawImage(objects, 0, 0);
    },
  });
}
