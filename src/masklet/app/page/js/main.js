/** Start of the page: the session, the elements, the commands. */

import { ApiError } from "./api.js";
import { allCommands, listenToKeys, registerCommand, runCommand } from "./commands.js";
import { el, find, icon } from "./dom.js";
import { addDetailView } from "./detail_view.js";
import { addDrawTools, addMaskCommands } from "./draw_tools.js";
import { addEdgePanel } from "./edge_panel.js";
import { addEverything } from "./everything_panel.js";
import { addExport } from "./export_dialog.js";
import { showObjectList } from "./object_list.js";
import { addReview } from "./review.js";
import { showSourceList } from "./source_list.js";
import { Store } from "./store.js";
import { addTimeline } from "./timeline.js";
import { addClickTool, allTools, candidateCycler, clickAt, toolById } from "./tools.js";
import { addViewPanel } from "./view_panel.js";
import { Viewer } from "./viewer.js";

const TOKEN_KEY = "masklet.token";
/** How long a frame stays before the server encodes it for hovering; frames that play or are scrubbed over do not. */
const PREPARE_MS = 150;

/** Take the token out of the address, so that it is neither seen nor kept in the history. @returns {string} */
function takeToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    sessionStorage.setItem(TOKEN_KEY, given);
    history.replaceState(null, "", location.pathname);
  }
  return sessionStorage.getItem(TOKEN_KEY) ?? "";
}

/** @param {Store} store */
function addCommands(store) {
  const hasSource = () => store.source !== null;
  /** @param {number} step */
  const openOther = (step) => {
    const at = store.sources.findIndex((one) => one.id === store.source?.id) + step;
    const next = store.sources[at];
    if (next) void store.run(`Opening ${next.name}`, () => store.openSource(next.id));
  };
  const undo = (/** @type {"undo" | "redo"} */ verb) =>
    void store.inOrder(verb === "undo" ? "Undoing" : "Redoing", async () => {
      const { actions } = await store.api.request("POST", `${store.path}/${verb}`, {});
      await store.reload();
      if (!actions || !actions.length) throw new ApiError(409, `There is nothing to ${verb}.`);
    });
  const viewer = /** @type {Viewer} */ (find("masklet-viewer"));
  registerCommand({ id: "undo", label: "Undo", group: "Project", key: "Ctrl+Z", run: () => undo("undo"), button: true, icon: "M8 5L3 9l5 4M3 9h9a5 5 0 010 10h-3" });
  registerCommand({ id: "redo", label: "Redo", group: "Project", key: "Ctrl+Shift+Z Ctrl+Y", run: () => undo("redo"), button: true, icon: "M14 5l5 4-5 4M19 9h-9a5 5 0 000 10h3" });
  registerCommand({ id: "previous-source", label: "Previous image or video", group: "Project", key: "PageUp ,", run: () => openOther(-1) });
  registerCommand({ id: "next-source", label: "Next image or video", group: "Project", key: "PageDown .", run: () => openOther(1) });
  const cycle = candidateCycler(store);
  registerCommand({
    id: "candidate",
    label: "Another mask for the same clicks",
    group: "Point",
    key: "Tab",
    enabled: () => store.objectId !== null && (document.activeElement === document.body || document.activeElement === viewer.canvas),
    run: () => void cycle(),
  });
  registerCommand({ id: "cross", label: "Crosshair: arrows move it, Enter adds, Backspace removes", group: "Point", key: "X", enabled: hasSource, run: () => viewer.toggleCross() });
  registerCommand({ id: "zoom-in", label: "Zoom in (or the wheel)", group: "View", key: "+ =", run: () => viewer.zoom(1.25) });
  registerCommand({ id: "zoom-out", label: "Zoom out", group: "View", key: "-", run: () => viewer.zoom(0.8) });
  registerCommand({ id: "fit", label: "Fit the image (Space+drag moves it)", group: "View", key: "0", run: () => viewer.fit() });
  registerCommand({
    id: "theme",
    label: "Dark or light",
    group: "View",
    run: () => store.set({ theme: isDark(store) ? "light" : "dark" }),
    button: true,
    icon: "M17 13A7 7 0 019 4a7 7 0 108 9z",
  });
  registerCommand({ id: "sources-panel", label: "Show or hide the sources", group: "View", run: () => document.body.classList.toggle("shows-sources"), button: true, icon: "M4 6h14M4 11h14M4 16h14" });
  registerCommand({ id: "objects-panel", label: "Show or hide the objects", group: "View", run: () => document.body.classList.toggle("shows-panel"), button: true, icon: "M3 4h7v7H3zM12 4h7v7h-7zM3 13h7v6H3zM12 13h7v6h-7z" });
  registerCommand({ id: "keys", label: "Keys", group: "View", key: "?", run: showKeys, button: true, icon: "M8 8a3 3 0 114 3c-1 .5-1 1-1 2M11 16v.5" });
  viewer.addEventListener("keyclick", (event) => {
    const { x, y, isPositive } = /** @type {CustomEvent} */ (event).detail;
    void clickAt(store, x, y, isPositive);
  });
}

/** @param {Store} store */
function isDark(store) {
  return store.settings.theme === "auto" ? matchMedia("(prefers-color-scheme: dark)").matches : store.settings.theme === "dark";
}

/** Show all keys. */
function showKeys() {
  const groups = new Map();
  for (const command of allCommands()) {
    if (!command.key || !command.group) continue;
    const rows = groups.get(command.group) ?? [];
    rows.push([command.key, command.label]);
    groups.set(command.group, rows);
  }
  for (const tool of allTools()) groups.set("Tools", [...(groups.get("Tools") ?? []), [tool.key, tool.label]]);
  groups.set("Point", [["Click", "Add to the object, or begin one"], ["Alt+Click", "Remove (or the right button)"], ["Drag", "A box around it"], ...(groups.get("Point") ?? [])]);
  const dialog = el(
    "dialog",
    { class: "keys", "aria-label": "Keys", onclose: () => dialog.remove() },
    el("h2", {}, "Keys"),
    el(
      "div",
      { class: "columns" },
      ...[...groups].map(([group, rows]) =>
        el("section", {}, el("h3", {}, group), el("dl", {}, ...rows.flatMap((/** @type {string[]} */ [key, label]) => [el("dt", {}, ...key.split(" ").map((one) => el("kbd", {}, one))), el("dd", {}, label)]))),
      ),
    ),
    el("form", { method: "dialog" }, el("button", {}, "Close")),
  );
  find("#dialogs").append(dialog);
  dialog.showModal();
}

/** @param {Store} store */
function addBars(store) {
  const bar = find("#bar");
  const title = el("span", { class: "project" });
  const buttons = allCommands()
    .filter((command) => command.button)
    .map((command) => ({
      command,
      button: el("button", { class: "icon", id: `command-${command.id}`, title: command.key ? `${command.label} (${command.key.split(" ")[0]})` : command.label, "aria-label": command.label, onclick: () => runCommand(command.id) }, command.icon ? icon(command.icon) : command.label),
    }));
  const [sources, ...rest] = [...buttons].sort((one, other) => Number(other.command.id === "sources-panel") - Number(one.command.id === "sources-panel"));
  bar.append(sources.button, el("img", { src: "/page/icon.svg", alt: "", width: 22, height: 22 }), el("strong", {}, "masklet"), title, el("span", { class: "grow" }), ...rest.map((one) => one.button));

  const tools = find("#tools");
  const toolButtons = allTools().map((tool) => ({
    tool,
    button: el("button", { class: "icon", title: `${tool.label} (${tool.key})`, "aria-label": tool.label, onclick: () => store.selectTool(tool.id) }, icon(tool.icon)),
  }));
  tools.append(...toolButtons.map((one) => one.button));
  const status = find("#status");
  const show = () => {
    title.textContent = store.project ? `${store.project.replace(/\.masklet$/, "")}${store.source ? ` / ${store.source.name}` : ""}` : "";
    document.title = store.source ? `${store.source.name} - masklet` : "masklet";
    status.textContent = store.status;
    status.classList.toggle("error", store.isError);
    status.classList.toggle("busy", store.busy > 0);
    document.documentElement.dataset.theme = isDark(store) ? "dark" : "light";
    for (const { tool, button } of toolButtons) button.setAttribute("aria-pressed", String(tool.id === store.tool));
    for (const { command, button } of buttons) {
      button.disabled = command.enabled?.() === false;
      if (command.pressed) button.setAttribute("aria-pressed", String(command.pressed()));
    }
  };
  store.onChange((keys) => {
    if (keys.has("tool")) for (const tool of allTools()) tool.cancel?.();
    show();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);
  show();
}

async function start() {
  const store = new Store(takeToken());
  const viewer = /** @type {Viewer} */ (find("masklet-viewer"));
  viewer.connect(store);
  addClickTool(store, viewer);
  addEverything(store, viewer);
  addDrawTools(store, viewer);
  addCommands(store);
  addMaskCommands(store);
  showSourceList(store);
  showObjectList(store);
  addEdgePanel(store, viewer);
  addViewPanel(store, viewer);
  addDetailView(store, viewer);
  addExport(store);
  addTimeline(store);
  addReview(store);
  for (const tool of allTools()) registerCommand({ id: `tool-${tool.id}`, label: tool.label, group: "", key: tool.key, run: () => store.selectTool(tool.id) });
  addBars(store);
  let preparing = 0;
  store.onChange((keys) => {
    if (!keys.has("image") || store.source === null) return;
    const { source, frame } = store;
    clearTimeout(preparing);
    preparing = setTimeout(() => void store.socket?.request("prepare", { source: source.id, frame }).catch(() => {}), PREPARE_MS);
  });
  listenToKeys();
  window.addEventListener("keydown", (event) => {
    if (event.key === "Escape") toolById(store.tool)?.cancel?.();
  });
  Object.assign(window, { masklet: { store, viewer } });
  await store.run("Opening the project", () => store.open());
}

void start();
