/** The visible part of a large image, encoded at its full detail: what is pointed at there is segmented in it alone. */

import { registerCommand, runCommand } from "./commands.js";
import { el, find } from "./dom.js";

/** @typedef {import("./store.js").Store} Store */
/** @typedef {import("./viewer.js").Viewer} Viewer */

/** Of the longer side of the image that is visible: below it a view has more detail than the entire image. */
const MAX_PART = 0.7;
const MIN_PIXELS = 16;

/**
 * @param {Store} store
 * @param {Viewer} viewer
 */
export function addDetailView(store, viewer) {
  const isZoomed = () => {
    const [left, top, right, bottom] = viewer.view;
    const { image } = store;
    return image !== null && Math.min(right - left, bottom - top) >= MIN_PIXELS && Math.max(right - left, bottom - top) < MAX_PART * Math.max(image.width, image.height);
  };
  registerCommand({
    id: "detail",
    label: "Segment in the visible part, at its full detail",
    group: "View",
    key: "Z",
    enabled: () => store.view !== null || isZoomed(),
    run: () => {
      const { source, frame, image } = store;
      if (store.view !== null || source === null || image === null) return store.setView(null);
      const [left, top, right, bottom] = viewer.view;
      store.setView([Math.max(0, Math.floor(left)), Math.max(0, Math.floor(top)), Math.min(image.width, Math.ceil(right)), Math.min(image.height, Math.ceil(bottom))]);
      void store.run("Encoding the visible part", async () => {
        await store.socket?.request("prepare", { source: source.id, frame, view: store.view });
      });
    },
  });
  const button = el("button", { class: "detail", type: "button", hidden: true, title: "Segment in the visible part, at its full detail (Z)", onclick: () => runCommand("detail") }, "Full detail");
  find("#stage").append(button);
  store.onChange(() => {
    button.hidden = store.source === null || (store.view === null && !isZoomed());
    button.setAttribute("aria-pressed", String(store.view !== null));
  });
  viewer.addLayer({
    order: 50,
    draw(context) {
      if (!store.view) return;
      const [left, top, right, bottom] = store.view;
      const pixel = 1 / viewer.scale;
      context.strokeStyle = "#ffd23f";
      context.lineWidth = 2 * pixel;
      context.setLineDash([10 * pixel, 5 * pixel]);
      context.strokeRect(left + pixel, top + pixel, right - left - 2 * pixel, bottom - top - 2 * pixel);
    },
  });
  viewer.addEventListener("zoomed", () => store.emit("zoom"));
}
