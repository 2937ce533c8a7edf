/** The list of images and videos, and dropping files on the page. */

import { el, find } from "./dom.js";

/** @typedef {import("./store.js").Store} Store */

const SUFFIXES = /\.(jpe?g|png|webp|bmp|tiff?|gif|avif|heic|mp4|mov|avi|mkv|webm|m4v|mpe?g)$/i;

/** @param {Store} store */
export function showSourceList(store) {
  const list = el("ul", { class: "list", role: "listbox", "aria-label": "Images and videos" });
  const input = el("input", { type: "file", multiple: true, hidden: true, onchange: () => addFiles(store, [...(input.files ?? [])]) });
  const add = el("button", { class: "wide", title: "Add images and videos", onclick: () => input.click() }, "Add files");
  const welcome = find("#welcome");
  welcome.append(
    el("h1", {}, "Drop an image or a video here"),
    el("p", {}, "Then point at an object: hover to see what a click gives, click to keep it, drag for a box."),
    el("button", { class: "primary", onclick: () => input.click() }, "Choose files"),
    el("p", { class: "hint" }, "Everything stays on this machine, and every step is saved. Press ? for the keys."),
  );
  find("#sources").append(el("h2", {}, "Sources"), list, add, input);

  const show = () => {
    welcome.hidden = store.sources.length > 0;
    list.replaceChildren(
      ...store.sources.map((source) => {
        const isCurrent = source.id === store.source?.id;
        const count = store.allObjects.filter((one) => one.source_id === source.id).length;
        const about = `${source.kind === "video" ? `${source.num_frames ?? "?"} frames, ` : ""}${count} object${count === 1 ? "" : "s"}`;
        const open = () => void store.run(isCurrent ? "" : `Opening ${source.name}`, () => store.openSource(source.id));
        return el(
          "li",
          { role: "option", "aria-selected": isCurrent, tabIndex: 0, title: source.name, onclick: open, onkeydown: (/** @type {KeyboardEvent} */ event) => event.key === "Enter" && open() },
          el("span", { class: "name" }, source.name),
          el("small", {}, about),
        );
      }),
    );
  };
  store.onChange((keys) => {
    if (keys.has("project") || keys.has("source") || keys.has("objects")) show();
  });

  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    document.body.classList.add("dropping");
  });
  document.addEventListener("dragleave", (event) => {
    if (event.relatedTarget === null) document.body.classList.remove("dropping");
  });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("dropping");
    const items = [...(event.dataTransfer?.items ?? [])];
    const entries = items.map((item) => item.webkitGetAsEntry?.() ?? null).filter((entry) => entry !== null);
    if (entries.some((entry) => entry.isDirectory)) void filesOf(entries).then((files) => addFiles(store, files));
    else addFiles(store, [...(event.dataTransfer?.files ?? [])]);
  });
}

/**
 * Return the files in dropped folders.
 * @param {FileSystemEntry[]} entries
 * @returns {Promise<File[]>}
 */
async function filesOf(entries) {
  /** @type {File[]} */
  const files = [];
  for (const entry of entries) {
    if (entry.isFile) files.push(await new Promise((resolve, reject) => /** @type {FileSystemFileEntry} */ (entry).file(resolve, reject)));
    else {
      const reader = /** @type {FileSystemDirectoryEntry} */ (entry).createReader();
      for (;;) {
        const inside = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
        if (!inside.length) break;
        files.push(...(await filesOf(inside)));
      }
    }
  }
  return files.sort((one, other) => one.name.localeCompare(other.name));
}

/**
 * Upload files one after the other; one that is refused is named, and the others continue.
 * @param {Store} store
 * @param {File[]} files
 */
async function addFiles(store, files) {
  const wanted = files.filter((file) => SUFFIXES.test(file.name) || /^(image|video)\//.test(file.type));
  if (files.length && !wanted.length) store.say(`${files[0].name} is neither image nor video: drop another file`, true);
  /** @type {string[]} */
  const refused = [];
  let first = null;
  for (const [i, file] of wanted.entries()) {
    const position = wanted.length > 1 ? ` (${i + 1} of ${wanted.length})` : "";
    const added = await store.run(`Uploading ${file.name}${position}`, () =>
      store.api.upload(store.path, file, (fraction) => store.say(`Uploading ${file.name}${position}: ${Math.round(fraction * 100)} %`)),
    );
    if (added === null) refused.push(`${file.name}: ${store.status}`);
    else first ??= added;
  }
  await store.run("", () => store.reload());
  if (first !== null) await store.run(`Opening ${first.name}`, () => store.openSource(first.id));
  if (refused.length) store.say(refused.join(" "), true);
}
