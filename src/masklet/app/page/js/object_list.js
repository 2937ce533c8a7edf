/** The objects of the source, their classes, and what can be done with them. */

import { el, find, icon } from "./dom.js";
import { registerCommand, runCommand } from "./commands.js";
import { LOW_SCORE } from "./store.js";

/** @typedef {import("./store.js").Store} Store */
/** @typedef {import("./store.js").ObjectOf} ObjectOf */

const SHOWN = "M2 11s3-6 9-6 9 6 9 6-3 6-9 6-9-6-9-6zM11 8.5a2.5 2.5 0 100 5 2.5 2.5 0 000-5z";
const HIDDEN = "M2 11s3-6 9-6 9 6 9 6-3 6-9 6-9-6-9-6zM4 18L18 4";
const LOCKED = "M5 10h12v8H5zM7.500 10V7a3.500 3.500 0 017 0v3";
const UNLOCKED = "M5 10h12v8H5zM7.500 10V7a3.500 3.500 0 016.800-1.200";
const CROSS = "M6 6l10 10M16 6L6 16";

/** @param {Store} store */
export function showObjectList(store) {
  const list = el("ul", { class: "list objects", "aria-label": "Objects" });
  const classes = el("ul", { class: "list classes", role: "listbox", "aria-label": "Classes" });
  const name = el("input", { placeholder: "New class", "aria-label": "Name of a new class", maxLength: 100 });
  const form = el(
    "form",
    {
      class: "row",
      onsubmit: async (/** @type {Event} */ event) => {
        event.preventDefault();
        if (!name.value.trim()) return;
        const added = await store.change("Adding the class", "POST", "/classes", { name: name.value.trim() });
        if (added === null) return;
        name.value = "";
        setClass(store, added.id);
      },
    },
    name,
    el("button", {}, "Add"),
  );
  find("#panel").append(
    el("div", { class: "row head" }, el("h2", {}, "Objects"), el("button", { title: "New object (N)", onclick: () => runCommand("new-object") }, "New")),
    list,
    el("h2", {}, "Classes"),
    classes,
    form,
  );

  const show = () => {
    if (list.contains(document.activeElement) && document.activeElement instanceof HTMLInputElement) return; // a name is typed
    const focused = /** @type {HTMLElement | null} */ (document.activeElement)?.dataset?.object;
    list.replaceChildren(...store.objects.map((one) => row(store, one)));
    if (!store.objects.length) list.append(el("li", { class: "empty" }, store.source ? "Click on an object" : "No image is open"));
    if (focused) /** @type {HTMLElement | null} */ (list.querySelector(`[data-object="${focused}"]`))?.focus();
    showClasses();
  };
  const showClasses = () =>
    classes.replaceChildren(
      ...store.classes.map((one, i) =>
        el(
          "li",
          { role: "option", "aria-selected": one.id === (store.object ? store.object.class_id : store.classId), tabIndex: 0, onclick: () => setClass(store, one.id), onkeydown: (/** @type {KeyboardEvent} */ event) => event.key === "Enter" && setClass(store, one.id) },
          swatch(one.color),
          el("span", { class: "name" }, one.name),
          i < 9 ? el("kbd", {}, `Shift+${i + 1}`) : null,
        ),
      ),
    );
  store.onChange((keys) => {
    if (["project", "objects", "masks", "source"].some((key) => keys.has(key))) show();
    else if (keys.has("object")) {
      // the rows stay: the second click of a double-click must meet the same one
      for (const one of list.querySelectorAll("[data-object]")) one.setAttribute("aria-current", String(/** @type {HTMLElement} */ (one).dataset.object === String(store.objectId)));
      showClasses();
    }
  });

  const has = () => store.object !== null;
  registerCommand({ id: "new-object", label: "New object: the next click begins it", group: "Objects", key: "N", run: () => store.selectObject(null) });
  registerCommand({ id: "done", label: "Done with this object", group: "Objects", key: "Enter Escape", run: () => store.selectObject(null) });
  registerCommand({
    id: "delete-object",
    label: "Delete the object",
    group: "Objects",
    key: "Delete",
    enabled: has,
    run: () => void store.change("Deleting", "DELETE", `/objects/${store.objectId}`),
  });
  registerCommand({
    id: "clear-frame",
    label: "Remove its clicks and mask from this frame",
    group: "Objects",
    key: "Backspace",
    enabled: has,
    run: () =>
      void store.inOrder("Removing", async () => {
        const target = { object: store.objectId, frame: store.frame, run: Date.now() }; // one step of undo
        await store.api.request("POST", `${store.path}/prompts`, target);
        await store.api.request("PUT", `${store.path}/masks`, target);
        await store.reload();
      }),
  });
  registerCommand({ id: "hide", label: "Hide or show the object", group: "Objects", key: "H", enabled: has, run: () => toggle(store, "hidden") });
  registerCommand({ id: "lock", label: "Lock or unlock the object", group: "Objects", key: "L", enabled: has, run: () => toggle(store, "locked") });
  registerCommand({
    id: "verify",
    label: "Mark the mask as checked",
    group: "Objects",
    key: "C",
    enabled: () => has() && store.masks.has(/** @type {number} */ (store.objectId)),
    run: () => {
      const mask = store.masks.get(/** @type {number} */ (store.objectId));
      void store.change("Saving", "POST", "/verify", { object: store.objectId, frame: store.frame, verified: !mask?.verified });
    },
  });
  for (let number = 1; number <= 9; number++) {
    registerCommand({
      id: `object-${number}`,
      label: "Choose object 1 to 9",
      group: number === 1 ? "Objects" : "",
      key: String(number),
      run: () => store.objects[number - 1] && store.selectObject(store.objects[number - 1].id),
    });
    registerCommand({
      id: `class-${number}`,
      label: "Give the object class 1 to 9",
      group: number === 1 ? "Objects" : "",
      key: `Shift+${number}`,
      run: () => store.classes[number - 1] && setClass(store, store.classes[number - 1].id),
    });
  }
}

/** @param {string} color */
function swatch(color) {
  const dot = el("span", { class: "swatch" });
  dot.style.background = color;
  return dot;
}

/**
 * @param {Store} store
 * @param {ObjectOf} one
 */
function row(store, one) {
  const mask = store.masks.get(one.id);
  const isLow = mask?.score !== null && mask?.score !== undefined && mask.score < LOW_SCORE && !mask.verified;
  const kind = store.classes.find((each) => each.id === one.class_id);
  const about = [kind?.name, mask ? (mask.verified ? "checked" : isLow ? "unsure" : mask.state !== "visible" ? mask.state : null) : "no mask here"].filter(Boolean).join(", ");
  const isCurrent = one.id === store.objectId;
  const rename = (/** @type {HTMLElement} */ place) => {
    const input = el("input", { value: one.name, maxLength: 100, "aria-label": "Name of the object" });
    const done = (/** @type {boolean} */ keeps) => {
      input.onblur = null;
      const text = input.value.trim();
      input.remove();
      if (keeps && text && text !== one.name) void store.change("Renaming", "PATCH", `/objects/${one.id}`, { name: text });
      else store.emit("objects");
    };
    input.onkeydown = (event) => {
      event.stopPropagation();
      if (event.key === "Enter") done(true);
      if (event.key === "Escape") done(false);
    };
    input.onblur = () => done(true);
    place.replaceChildren(input);
    input.focus();
    input.select();
  };
  const label = el("span", { class: "name", title: "Double-click to rename" }, one.name);
  label.ondblclick = () => rename(label);
  const button = (/** @type {string} */ shape, /** @type {string} */ title, /** @type {boolean} */ pressed, /** @type {() => void} */ run) =>
    el("button", { class: "icon", title, "aria-label": `${title}: ${one.name}`, "aria-pressed": pressed, onclick: (/** @type {Event} */ event) => (event.stopPropagation(), run()) }, icon(shape));
  return el(
    "li",
    {
      "aria-current": isCurrent,
      "aria-label": one.name,
      "data-object": one.id,
      tabIndex: 0,
      class: isLow ? "low" : "",
      title: isLow ? `Predicted IoU ${mask.score?.toFixed(2)}: add a click, or mark it as checked (C)` : "",
      onclick: () => store.selectObject(one.id),
      onkeydown: (/** @type {KeyboardEvent} */ event) => {
        if (event.target !== event.currentTarget) return;
        if (event.key === "Enter") {
          event.stopPropagation();
          store.selectObject(one.id);
        }
        if (event.key === "F2") rename(label);
      },
    },
    swatch(store.colorOf(one)),
    el("span", { class: "text" }, label, el("small", {}, about)),
    button(one.hidden ? HIDDEN : SHOWN, one.hidden ? "Show" : "Hide", one.hidden, () => void store.change("Saving", "PATCH", `/objects/${one.id}`, { hidden: !one.hidden })),
    button(one.locked ? LOCKED : UNLOCKED, one.locked ? "Unlock" : "Lock", one.locked, () => void store.change("Saving", "PATCH", `/objects/${one.id}`, { locked: !one.locked })),
    button(CROSS, "Delete", false, () => void store.change("Deleting", "DELETE", `/objects/${one.id}`)),
  );
}

/** @param {Store} store @param {number} id */
function setClass(store, id) {
  store.classId = id;
  if (store.object) void store.change("Saving", "PATCH", `/objects/${store.object.id}`, { class: id });
  else store.emit("objects");
}

/** @param {Store} store @param {"hidden" | "locked"} name */
function toggle(store, name) {
  if (store.object) void store.change("Saving", "PATCH", `/objects/${store.object.id}`, { [name]: !store.object[name] });
}
