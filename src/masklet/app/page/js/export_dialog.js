/** Exports: every format that the server has, as a ZIP file, and single masks and cut-outs as PNG. */

import { registerCommand } from "./commands.js";
import { el, find, saveFile } from "./dom.js";
import { decodeRle, maskBox } from "./rle.js";

/** @typedef {import("./store.js").Store} Store */

/** What formats are that the name alone does not say. @type {Record<string, string>} */
const FORMAT_TEXTS = {
  overlay: "overlay (MP4 and PNG)",
  mots: "MOTS text",
  davis: "DAVIS (frames and palette PNG)",
  png: "palette PNG",
  masks: "one PNG an object and frame",
};

/** @param {Store} store */
export function addExport(store) {
  registerCommand({
    id: "export",
    label: "Export",
    group: "Project",
    key: "Ctrl+E",
    enabled: () => store.sources.length > 0,
    run: () => void showExport(store),
    button: true,
    icon: "M11 3v10M7 9l4 4 4-4M4 15v4h14v-4",
  });
}

/** @param {Store} store */
async function showExport(store) {
  const places = await store.run("", () => store.api.request("GET", "/api/files"));
  if (places === null) return;
  const format = el("select", { "aria-label": "Format" }, ...places.formats.map((/** @type {string} */ name) => el("option", { value: name }, FORMAT_TEXTS[name] ?? name)));
  const verified = el("input", { type: "checkbox", id: "export-verified" });
  const report = el("p", { class: "hint", role: "status" });
  const object = store.object;
  const mask = object ? store.masks.get(object.id) : undefined;
  const download = el("button", { class: "primary", type: "button", onclick: () => void run() }, "Export");
  const single = (/** @type {boolean} */ cuts) => void saveObject(store, cuts);
  const dialog = el(
    "dialog",
    { "aria-label": "Export", onclose: () => dialog.remove() },
    el("h2", {}, "Export"),
    el("p", {}, "The entire project as a ZIP file: a dataset, or what shows it."),
    el("div", { class: "row" }, format, download),
    el("label", { class: "row" }, verified, "Only what was checked"),
    report,
    el("h3", {}, "This object on this frame"),
    el(
      "div",
      { class: "row" },
      el("button", { type: "button", disabled: !mask, onclick: () => single(true) }, "Cut-out (PNG)"),
      el("button", { type: "button", disabled: !mask, onclick: () => single(false) }, "Mask (PNG)"),
    ),
    el("form", { method: "dialog" }, el("button", {}, "Close")),
  );

  async function run() {
    download.disabled = true;
    report.textContent = "Exporting";
    const answer = await store.run("Exporting", () =>
      store.api.request("POST", `${store.path}/export`, { format: format.value, verified_only: verified.checked }),
    );
    download.disabled = false;
    if (answer === null) {
      report.textContent = store.status;
      return;
    }
    const blob = await store.run("", async () => (await store.api.fetch("GET", `${store.path}/exports/${answer.name}`)).blob());
    if (blob === null) return;
    saveFile(blob, answer.name);
    const loss = answer.loss.length ? ` ${answer.loss.join("; ")}.` : "";
    const issues = answer.issues.length ? ` Left out: ${answer.issues.join("; ")}` : "";
    report.textContent = `${answer.num_objects} masks of ${answer.num_images} images or frames in ${answer.name}.${loss}${issues}`;
  }

  find("#dialogs").append(dialog);
  dialog.showModal();
}

/**
 * Save the mask of the current object, or what it cuts out of the frame with a transparent background.
 * @param {Store} store
 * @param {boolean} cuts
 */
async function saveObject(store, cuts) {
  const { object, image, source } = store;
  const mask = object ? store.masks.get(object.id) : undefined;
  if (!object || !mask || !image || !source) return;
  const decoded = decodeRle(mask.rle);
  const { data, width, height } = decoded;
  const canvas = el("canvas", { width, height });
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  if (cuts) context.drawImage(image, 0, 0);
  const pixels = context.getImageData(0, 0, width, height);
  const soft = store.softAlpha;
  const alpha = cuts && soft?.object === object.id && soft.frame === store.frame && soft.alpha.length === data.length ? soft.alpha : null;
  for (let i = 0; i < data.length; i++) {
    if (cuts) pixels.data[4 * i + 3] = alpha ? alpha[i] : data[i] ? 255 : 0;
    else pixels.data.fill(data[i] ? 255 : 0, 4 * i, 4 * i + 3), (pixels.data[4 * i + 3] = 255);
  }
  context.putImageData(pixels, 0, 0);
  let result = canvas;
  const box = maskBox(alpha ? { data: Uint8Array.from(alpha, (one) => (one ? 1 : 0)), width, height } : decoded);
  if (cuts && box) {
    const [left, top, right, bottom] = box;
    result = el("canvas", { width: right - left, height: bottom - top });
    /** @type {CanvasRenderingContext2D} */ (result.getContext("2d")).drawImage(canvas, -left, -top);
  }
  const blob = await new Promise((/** @type {(blob: Blob | null) => void} */ resolve) => result.toBlob(resolve, "image/png"));
  const stem = `${source.name.replace(/\.[^.]*$/, "")}_${store.isVideo ? `${store.frame}_` : ""}${object.name}`.replace(/[^\p{L}\p{N}._-]+/gu, "_");
  if (blob) saveFile(blob, `${stem}_${cuts ? "cutout" : "mask"}.png`);
}
