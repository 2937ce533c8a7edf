/** The timeline of a video: frames, playing, tracking, and a lane for each object. */

import { allCommands, registerCommand, runCommand } from "./commands.js";
import { el, find, withAlpha } from "./dom.js";
import { LOW_SCORE } from "./store.js";

/** @typedef {import("./store.js").Store} Store */
/** @typedef {import("./api.js").Answer} Answer */
/** @typedef {{height: number, label: string, draw: (context: CanvasRenderingContext2D, x: (frame: number) => number, width: number) => void}} Lane */

const LANE = 11;
const GAP = 3;
const LABEL = 76;

/** @type {(() => Lane[])[]} */
const laneMakers = [];

/**
 * Add lanes under those of the objects; `make` is called whenever the timeline is drawn.
 * @param {() => Lane[]} make
 */
export function addLanes(make) {
  laneMakers.push(make);
}

/** @param {Store} store */
export function addTimeline(store) {
  const place = find("#timeline");
  const slider = el("input", { type: "range", min: "0", step: "1", "aria-label": "Frame", oninput: () => void store.run("", () => store.showFrame(Number(slider.value))) });
  const where = el("span", { class: "where" });
  const canvas = el("canvas", { role: "img", "aria-label": "Where objects have masks" });
  const progress = el("span", { class: "hint", role: "status" });
  const marks = { in: /** @type {number | null} */ (null), out: /** @type {number | null} */ (null) };
  let isPlaying = false;
  /** @type {number | undefined} */
  let shownSource;
  /** @type {(() => void) | null} */
  let cancel = null;
  /** @type {{source: number, direction: Direction} | null} */
  let unfinished = null;

  /** @typedef {"forward" | "backward" | "both"} Direction */

  const go = (/** @type {number} */ frame) => void store.run("", () => store.showFrame(frame));
  const isVideo = () => store.isVideo;
  const step = (/** @type {number} */ by) => () => go(store.frame + by);

  async function play() {
    isPlaying = !isPlaying;
    store.emit("timeline");
    const rate = store.source?.fps ?? 25;
    while (isPlaying && store.isVideo) {
      const started = performance.now();
      const next = store.frame + 1 >= store.numFrames ? 0 : store.frame + 1;
      await store.run("", () => store.showFrame(next));
      if (next === 0) break;
      await new Promise((resolve) => setTimeout(resolve, Math.max(0, 1000 / rate - (performance.now() - started))));
    }
    isPlaying = false;
    store.emit("timeline");
  }

  /**
   * Return the objects that have no mask on the next frame, or prompts that are newer than it: those to track.
   * @param {1 | -1} step
   */
  const outdated = (step) =>
    store.objects.filter((object) => {
      if (object.locked) return false;
      const masks = store.maskInfo.get(object.id);
      const next = masks?.get(store.frame + step);
      const times = store.prompts.filter((one) => one.object_id === object.id).map((one) => one.at);
      for (const mask of masks?.values() ?? []) if (mask.origin === "edit") times.push(mask.at);
      return times.length > 0 && (!next || Math.max(...times) > next.at);
    });

  /** @param {Direction} direction */
  async function track(direction) {
    const { source, socket } = store;
    if (source === null || socket === null || cancel) return;
    const started = performance.now();
    let count = 0;
    store.dispatchEvent(new Event("track"));
    const first = marks.in ?? 0;
    const end = (marks.out ?? store.numFrames - 1) + 1;
    const range =
      direction === "forward" ? { start: Math.max(first, store.frame), stop: end } : direction === "backward" ? { start: first, stop: Math.min(end, store.frame + 1), bidirectional: true } : { start: first, stop: end, bidirectional: true };
    const objects = direction === "both" ? [] : outdated(direction === "forward" ? 1 : -1);
    const chosen = objects.length && objects.length < store.objects.length ? { objects: objects.map((one) => one.id) } : {};
    unfinished = { source: source.id, direction };
    const shows = { at: 0 };
    const job = socket.track({ source: source.id, ...range, ...chosen }, (answer) => {
      count++;
      takeFrame(answer);
      const rate = (1000 * count) / (performance.now() - started);
      progress.textContent = `frame ${answer.header.frame + 1}, ${count} done, ${rate.toFixed(1)} a second`;
      if (performance.now() - shows.at > 120) {
        shows.at = performance.now();
        store.emit("timeline");
      }
    });
    cancel = job.cancel;
    store.emit("timeline");
    await store.run(`Tracking ${objects.length && objects.length < store.objects.length ? objects.map((one) => one.name).join(", ") : "all objects"}`, async () => {
      try {
        const { header } = await job.done;
        if (!header.canceled) unfinished = null;
        progress.textContent = `${header.num_frames} frames ${header.canceled ? "before it was stopped" : `in ${((performance.now() - started) / 1000).toFixed(1)} s`}`;
      } finally {
        cancel = null;
        await store.reload();
      }
    });
    store.dispatchEvent(new Event("tracked"));
    store.emit("timeline");
  }

  /** @param {Answer} answer */
  function takeFrame({ header, masks }) {
    if (header.source !== store.source?.id) return;
    for (const one of masks) {
      const info = { object: one.object, frame: header.frame, state: one.state ?? "visible", score: one.score, origin: "track", at: Date.now() / 1000, verified: false, dropped: false };
      store.noteMask(info);
      if (header.frame === store.frame) store.masks.set(one.object, { ...info, rle: one.rle });
    }
    if (header.frame === store.frame) store.emit("masks");
  }

  const group = "Video";
  registerCommand({ id: "frame-back", label: "Previous frame", group, key: "ArrowLeft", enabled: isVideo, run: step(-1) });
  registerCommand({ id: "frame-next", label: "Next frame", group, key: "ArrowRight", enabled: isVideo, run: step(1) });
  registerCommand({ id: "frame-back-10", label: "Ten frames back", group, key: "Shift+ArrowLeft", enabled: isVideo, run: step(-10) });
  registerCommand({ id: "frame-next-10", label: "Ten frames on", group, key: "Shift+ArrowRight", enabled: isVideo, run: step(10) });
  registerCommand({ id: "first-frame", label: "First frame", group, key: "Home", enabled: isVideo, run: () => go(0) });
  registerCommand({ id: "last-frame", label: "Last frame", group, key: "End", enabled: isVideo, run: () => go(store.numFrames - 1) });
  registerCommand({ id: "play", label: "Play or pause", group, key: "Space", enabled: isVideo, run: () => void play() });
  registerCommand({ id: "track", label: "Track forward, or stop", group, key: "K", enabled: isVideo, run: () => (cancel ? cancel() : void track("forward")) });
  registerCommand({ id: "track-back", label: "Track backward", group, key: "J", enabled: isVideo, run: () => void track("backward") });
  registerCommand({ id: "track-both", label: "Track both ways", group, key: "B", enabled: isVideo, run: () => void track("both") });
  registerCommand({
    id: "mark-in",
    label: "Track only from here (again: from the first frame)",
    group,
    key: "I",
    enabled: isVideo,
    run: () => {
      marks.in = marks.in === store.frame ? null : store.frame;
      store.emit("timeline");
    },
  });
  registerCommand({
    id: "mark-out",
    label: "Track only to here (again: to the last frame)",
    group,
    key: "O",
    enabled: isVideo,
    run: () => {
      marks.out = marks.out === store.frame ? null : store.frame;
      store.emit("timeline");
    },
  });

  const button = (/** @type {string} */ id, /** @type {string} */ text) => {
    const command = /** @type {import("./commands.js").Command} */ (allCommands().find((one) => one.id === id));
    return el("button", { id: `command-${id}`, title: `${command.label} (${command.key})`, "aria-label": command.label, onclick: () => runCommand(id) }, text);
  };
  const playButton = button("play", "▶");
  const trackButton = button("track", "Track ▸");
  place.append(
    el(
      "div",
      { class: "controls" },
      button("frame-back", "‹"),
      playButton,
      button("frame-next", "›"),
      where,
      button("track-back", "◂ Track"),
      trackButton,
      button("track-both", "◂ ▸"),
      button("mark-in", "["),
      button("mark-out", "]"),
      progress,
      el("span", { class: "grow", id: "timeline-extra" }),
    ),
    slider,
    canvas,
  );

  /** Lanes of objects, from what is known of their masks. @returns {Lane[]} */
  const objectLanes = () =>
    store.objects.map((object) => ({
      height: LANE,
      label: object.name,
      draw: (context, x, width) => {
        const color = store.colorOf(object);
        const isCurrent = object.id === store.objectId;
        for (const [frame, mask] of store.maskInfo.get(object.id) ?? []) {
          const isLow = mask.score !== null && mask.score < LOW_SCORE;
          const alpha = mask.state === "visible" ? (isLow ? 0.45 : 0.9) : 0.16;
          context.fillStyle = withAlpha(color, isCurrent || store.objectId === null ? alpha : alpha * 0.6);
          context.fillRect(x(frame), mask.state === "visible" ? 0 : LANE / 3, width, mask.state === "visible" ? LANE : LANE / 3);
          if (mask.verified) {
            context.fillStyle = "#1fbf5b";
            context.fillRect(x(frame), LANE - 2, width, 2);
          }
        }
        for (const prompt of store.prompts) {
          if (prompt.object_id !== object.id) continue;
          const center = x(prompt.frame) + width / 2;
          context.fillStyle = getComputedStyle(place).color;
          context.beginPath();
          context.moveTo(center, 1);
          context.lineTo(center + 4, LANE / 2);
          context.lineTo(center, LANE - 1);
          context.lineTo(center - 4, LANE / 2);
          context.fill();
        }
      },
    }));

  /** @type {Lane[]} */
  let lanes = [];
  const draw = () => {
    place.hidden = !store.isVideo;
    if (!store.isVideo) return;
    const count = Math.max(1, store.numFrames);
    slider.max = String(count - 1);
    slider.value = String(Math.max(0, store.frame));
    slider.setAttribute("aria-valuetext", `frame ${store.frame + 1} of ${count}`);
    where.textContent = `${store.frame + 1} / ${count}`;
    playButton.textContent = isPlaying ? "❚❚" : "▶";
    trackButton.textContent = cancel ? "Stop" : unfinished?.source === store.source?.id ? "Continue ▸" : "Track ▸";
    lanes = [...objectLanes(), ...laneMakers.flatMap((make) => make())];
    const ratio = devicePixelRatio || 1;
    const width = Math.max(60, place.clientWidth - 20);
    const height = lanes.reduce((sum, one) => sum + one.height + GAP, GAP);
    canvas.style.height = `${height}px`;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    const style = getComputedStyle(place);
    const room = width - LABEL;
    const x = (/** @type {number} */ frame) => LABEL + (frame * room) / count;
    const frameWidth = Math.max(1.5, room / count);
    let top = GAP;
    for (const lane of lanes) {
      context.save();
      context.translate(0, top);
      context.fillStyle = withAlpha("#808890", 0.14);
      context.fillRect(LABEL, 0, room, lane.height);
      context.fillStyle = style.color;
      context.font = "11px system-ui, sans-serif";
      context.textBaseline = "middle";
      context.save();
      context.beginPath();
      context.rect(0, -1, LABEL - 6, lane.height + 2);
      context.clip();
      context.fillText(lane.label, 0, lane.height / 2 + 0.5);
      context.restore();
      lane.draw(context, x, frameWidth);
      context.restore();
      top += lane.height + GAP;
    }
    if (marks.in !== null || marks.out !== null) {
      context.fillStyle = withAlpha("#808890", 0.35);
      if (marks.in !== null) context.fillRect(LABEL, 0, x(marks.in) - LABEL, height);
      if (marks.out !== null) context.fillRect(x(marks.out + 1), 0, width - x(marks.out + 1), height);
    }
    context.fillStyle = style.color;
    context.fillRect(x(store.frame) + frameWidth / 2 - 0.75, 0, 1.5, height);
  };

  const seek = (/** @type {PointerEvent} */ event) => {
    const box = canvas.getBoundingClientRect();
    const at = (event.clientX - box.left - LABEL) / Math.max(1, box.width - LABEL);
    if (at >= 0) go(Math.min(store.numFrames - 1, Math.floor(at * store.numFrames)));
    let top = GAP;
    for (const [i, lane] of lanes.entries()) {
      if (event.type === "pointerdown" && event.clientY - box.top >= top && event.clientY - box.top < top + lane.height && i < store.objects.length) store.selectObject(store.objects[i].id);
      top += lane.height + GAP;
    }
  };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    seek(event);
  });
  canvas.addEventListener("pointermove", (event) => event.buttons && seek(event));
  store.onChange((keys) => {
    if (keys.has("source") && store.source?.id !== shownSource) {
      shownSource = store.source?.id;
      isPlaying = false;
      marks.in = marks.out = null;
      progress.textContent = "";
    }
    if (["source", "frame", "timeline", "objects", "object", "prompts", "masks", "settings"].some((key) => keys.has(key))) draw();
  });
  new ResizeObserver(draw).observe(place);
}
