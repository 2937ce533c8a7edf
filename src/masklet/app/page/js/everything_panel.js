/** Everything: all masks of the frame as tiles, of which a click or Enter makes objects. */

import { registerCommand } from "./commands.js";
import { el, find } from "./dom.js";
import { decodeRle, rleArea } from "./rle.js";
import { registerTool } from "./tools.js";

/** @typedef {import("./store.js").Store} Store */
/** @typedef {import("./viewer.js").Viewer} Viewer */
/** @typedef {{rle: import("./rle.js").Rle, score: number, area: number, mask: import("./rle.js").Mask, canvas: HTMLCanvasElement, color: string}} Tile */

const TILE_COLORS = ["#3ea6ff", "#ff8a3d", "#3ddc97", "#f15bb5", "#ffd23f", "#9b7bff", "#00c2d1", "#ff5d5d"];

/**
 * @param {Store} store
 * @param {Viewer} viewer
 */
export function addEverything(store, viewer) {
  /** @type {Tile[]} smallest first */
  let tiles = [];
  /** @type {Tile | null} */
  let under = null;
  let before = "click";
  const score = el("input", { type: "range", min: "0", max: "1", step: "0.02", value: "0", "aria-label": "Least score", oninput: () => show() });
  const area = el("input", { type: "range", min: "0", max: "0.2", step: "0.001", value: "0", "aria-label": "Least area", oninput: () => show() });
  const count = el("span", { class: "grow" });
  const bar = el(
    "div",
    { id: "everything", hidden: true, role: "group", "aria-label": "Everything" },
    count,
    el("label", { class: "row" }, "Score", score),
    el("label", { class: "row" }, "Area", area),
    el("button", { class: "primary", onclick: () => void acceptAll() }, "Accept all"),
    el("button", { onclick: () => leave() }, "Close"),
  );
  find("#stage").append(bar);

  const chosen = () => tiles.filter((tile) => tile.score >= Number(score.value) && tile.area >= Number(area.value) * tile.mask.data.length);
  const show = () => {
    bar.hidden = store.tool !== "everything";
    count.textContent = tiles.length ? `${chosen().length} of ${tiles.length} masks: click those to keep` : "Segmenting everything";
    viewer.draw();
  };
  const leave = () => {
    tiles = [];
    under = null;
    if (store.tool === "everything") store.selectTool(before);
    show();
  };

  async function begin() {
    const { source, frame, socket } = store;
    if (!source || !socket) return leave();
    tiles = [];
    show();
    const answer = await store.run("Segmenting everything", () => socket.request("everything", { source: source.id, frame }));
    if (!answer || store.source !== source || store.frame !== frame || store.tool !== "everything") return leave();
    tiles = answer.masks.map((one, i) => {
      const color = TILE_COLORS[i % TILE_COLORS.length];
      return { rle: one.rle, score: one.score, area: rleArea(one.rle), mask: decodeRle(one.rle), canvas: viewer.paintMask(one.rle, color, 0.22), color };
    });
    tiles.sort((one, other) => one.area - other.area);
    show();
  }

  /** @param {Tile} tile @param {number} run of one number: undone together */
  const put = (tile, run) =>
    store.api.request("PUT", `${store.path}/masks`, {
      source: store.source?.id,
      frame: store.frame,
      mask: tile.rle,
      score: Math.max(0, Math.min(1, tile.score)),
      origin: "click",
      run,
      ...(store.classId === null ? {} : { class: store.classId }),
    });

  /** @param {Tile} tile */
  async function accept(tile) {
    tiles = tiles.filter((one) => one !== tile);
    under = null;
    await store.inOrder("Saving", async () => {
      await put(tile, Date.now());
      await store.reload();
    });
    show();
  }

  async function acceptAll() {
    const all = chosen();
    const run = Date.now();
    await store.inOrder(`Saving ${all.length} objects`, async () => {
      for (const tile of all) await put(tile, run);
      await store.reload();
    });
    leave();
  }

  const tileAt = (/** @type {{x: number, y: number} | null} */ at) => (at && chosen().find((tile) => tile.mask.data[Math.floor(at.y) * tile.mask.width + Math.floor(at.x)])) ?? null;
  registerTool({
    id: "everything",
    key: "A",
    label: "Everything: all masks, click those to keep",
    icon: "M3 3h7v7H3zM12 3h7v7h-7zM3 12h7v7H3zM12 12h7v7h-7z",
    down(at) {
      const tile = tileAt(at);
      if (tile) void accept(tile);
    },
    hover(at) {
      const tile = tileAt(at);
      if (tile === under) return;
      under = tile;
      viewer.draw();
    },
  });
  registerCommand({ id: "accept-all", label: "Keep all masks of everything", group: "Masks", key: "Enter", enabled: () => store.tool === "everything" && tiles.length > 0, run: () => void acceptAll() });
  registerCommand({ id: "leave-everything", label: "Leave everything", group: "", key: "Escape", enabled: () => store.tool === "everything", run: leave });
  let shown = "";
  store.onChange((keys) => {
    if (keys.has("tool")) {
      if (store.tool === "everything" && shown !== "everything") void begin();
      else if (store.tool !== "everything") tiles = [];
      if (store.tool !== "everything") before = store.tool;
      shown = store.tool;
      show();
    }
    if ((keys.has("frame") || keys.has("source")) && store.tool === "everything" && tiles.length && keys.has("frame")) leave();
  });
  viewer.addLayer({
    order: 32,
    draw(context) {
      if (store.tool !== "everything") return;
      const all = chosen();
      for (const tile of [...all].reverse()) context.drawImage(tile.canvas, 0, 0);
      if (under && all.includes(under)) context.drawImage(viewer.paintMask(under.rle, under.color, 0.6), 0, 0);
    },
  });
}
