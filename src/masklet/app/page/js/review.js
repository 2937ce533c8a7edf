/** Where to look: frames in doubt, what a correction has changed, and objects that were exchanged. */

import { registerCommand } from "./commands.js";
import { el, find } from "./dom.js";
import { addLanes } from "./timeline.js";

/** @typedef {import("./store.js").Store} Store */
/** @typedef {{frame_idx: number, object_id: number, score: number, reasons: string[]}} Doubt */
/** @typedef {{object: number, frame: number, iou: number}} Difference */
/** @typedef {{object: number, frame: number, difference: number}} Backward how much tracking backward differs, 0 to 1 */

const LANE = 13;
const MIN_BAR = 2;
const DOUBT_COLOR = "#f2a33a";
const CHANGE_COLOR = "#c77dff";
const BACKWARD_COLOR = "#3bb3a6";
const MIN_DIFFERENCE = 0.1;
/** How long nothing happens before the video is tracked backward to compare. */
const IDLE_MS = 4000;

/**
 * Make a lane with a bar on each of some frames.
 * @param {string} label
 * @param {string} color
 * @param {[number, number][]} bars frame, and height from 0 to 1
 * @returns {import("./timeline.js").Lane}
 */
function barLane(label, color, bars) {
  return {
    height: LANE,
    label,
    draw(context, x, width) {
      context.fillStyle = color;
      for (const [frame, value] of bars) {
        const height = Math.max(MIN_BAR, value * LANE);
        context.fillRect(x(frame), LANE - height, Math.max(MIN_BAR, width), height);
      }
    },
  };
}

/** @param {Store} store */
export function addReview(store) {
  /** @type {Doubt[]} the most useful first */
  let doubts = [];
  /** @type {Difference[]} by frame */
  let differences = [];
  /** @type {Backward[]} */
  let backward = [];
  let idleTimer = 0;
  let checked = "";
  let doubtKey = "";
  let timer = 0;
  /** @type {{source: number, revision: number} | null} before the last run of tracking */
  let before = null;
  const extra = find("#timeline-extra");
  const note = el("span", { class: "hint", role: "status" });
  extra.append(note);

  /** Read doubts when nothing has changed for a moment. */
  const readDoubts = () => {
    clearTimeout(timer);
    timer = window.setTimeout(async () => {
      const { source, revision } = store;
      const key = `${source?.id}:${revision}`;
      if (!source || !store.isVideo || key === doubtKey) return;
      if (store.busy) return readDoubts();
      doubtKey = key;
      const answer = await store.api.request("GET", `${store.path}/doubts?source=${source.id}`).catch(() => null);
      if (answer && store.source?.id === source.id) {
        doubts = answer.doubts;
        backward = answer.backward;
        store.emit("timeline");
        checkBackward();
      }
    }, 600);
  };

  /** Let the server track backward when nothing has happened for a while; where that differs is a doubt too. */
  const checkBackward = () => {
    clearTimeout(idleTimer);
    idleTimer = window.setTimeout(async () => {
      const { source, revision, socket } = store;
      const key = `${source?.id}:${revision}`;
      const isTracked = [...store.maskInfo.values()].some((frames) => frames.size > 1);
      if (!source || !socket || !store.isVideo || !isTracked || store.settings.checksBackward === false || key === checked) return;
      if (store.busy || document.hidden) return checkBackward();
      checked = key;
      const answer = await socket.request("check_backward", { source: source.id }).catch(() => null);
      if (!answer || answer.header.canceled || store.source?.id !== source.id || store.revision !== revision) return;
      doubtKey = "";
      readDoubts();
    }, IDLE_MS);
  };
  for (const event of ["pointerdown", "keydown", "wheel"]) window.addEventListener(event, () => idleTimer && checkBackward(), { passive: true });

  const nameOf = (/** @type {number} */ id) => store.objects.find((one) => one.id === id)?.name ?? "an object";
  /** @param {number} step */
  const goDoubt = (step) => {
    const frames = doubts.slice(0, 20);
    if (!frames.length) return store.say("No frame is in doubt");
    const at = frames.findIndex((one) => one.frame_idx === store.frame && one.object_id === store.objectId);
    const index = at < 0 ? (step > 0 ? 0 : frames.length - 1) : (at + step + frames.length) % frames.length;
    const doubt = frames[index];
    store.selectObject(doubt.object_id);
    void store.run("", () => store.showFrame(doubt.frame_idx)).then(() => {
      store.say(`Doubt ${index + 1} of ${frames.length}: ${nameOf(doubt.object_id)} ${doubt.reasons.join(", ")}. Correct it, or press C if it is right`);
    });
  };
  /** @param {number} step */
  const goChange = (step) => {
    const frames = [...new Set(differences.map((one) => one.frame))];
    if (!frames.length) return store.say("The last tracking changed no mask that was there before");
    const next = step > 0 ? (frames.find((frame) => frame > store.frame) ?? frames[0]) : (frames.findLast((frame) => frame < store.frame) ?? frames[frames.length - 1]);
    void store.run("", () => store.showFrame(next)).then(() => {
      const here = differences.filter((one) => one.frame === next);
      store.say(`Frame ${next + 1}: ${here.map((one) => `${nameOf(one.object)} has an IoU of ${one.iou.toFixed(2)} with before`).join(", ")}. Ctrl+Z takes the tracking back`);
    });
  };

  const isVideo = () => store.isVideo;
  registerCommand({ id: "next-doubt", label: "Next doubt: the frame to check first", group: "Review", key: "D", enabled: isVideo, run: () => goDoubt(1) });
  registerCommand({ id: "previous-doubt", label: "Previous doubt", group: "Review", key: "Shift+D", enabled: isVideo, run: () => goDoubt(-1) });
  registerCommand({ id: "next-change", label: "Next frame that the last tracking changed", group: "Review", key: "F", enabled: isVideo, run: () => goChange(1) });
  registerCommand({ id: "previous-change", label: "Previous frame that it changed", group: "Review", key: "Shift+F", enabled: isVideo, run: () => goChange(-1) });

  /** @type {number | null} */
  let swapWith = null;
  registerCommand({
    id: "swap",
    label: "Exchange the object with the one that you choose next, from this frame on",
    group: "Review",
    key: "S",
    enabled: () => store.isVideo && store.objectId !== null,
    run: () => {
      swapWith = store.objectId;
      store.say(`Choose the object with which ${nameOf(/** @type {number} */ (swapWith))} was confused from this frame on`);
    },
  });

  addLanes(() => {
    if (!store.isVideo) return [];
    const lanes = [];
    if (doubts.length) lanes.push(barLane("doubts (D)", DOUBT_COLOR, doubts.map((one) => [one.frame_idx, one.score])));
    if (backward.length) lanes.push(barLane("backward", BACKWARD_COLOR, backward.filter((one) => one.difference >= MIN_DIFFERENCE).map((one) => [one.frame, one.difference])));
    if (differences.length) lanes.push(barLane("changes (F)", CHANGE_COLOR, differences.map((one) => [one.frame, 1 - one.iou])));
    return lanes;
  });

  store.addEventListener("track", () => {
    before = store.source && { source: store.source.id, revision: store.revision };
  });
  store.addEventListener("tracked", async () => {
    if (!before || before.source !== store.source?.id) return;
    const answer = await store.run("", () => store.api.request("GET", `${store.path}/differences?source=${before?.source}&since=${before?.revision}`));
    // what was not there before is no change to look at
    differences = (answer?.differences ?? []).filter((/** @type {Difference} */ one) => one.iou > 0);
    note.textContent = differences.length ? `${new Set(differences.map((one) => one.frame)).size} frames changed` : "";
    store.emit("timeline");
  });
  store.onChange((keys) => {
    if (keys.has("object") && swapWith !== null && store.objectId !== null && store.objectId !== swapWith) {
      const first = swapWith;
      swapWith = null;
      void store.change("Exchanging", "POST", "/swap", { first, second: store.objectId, frame: store.frame }).then((answer) => {
        if (answer) store.say("Exchanged from this frame on. Track forward (K) to carry it on");
      });
    }
    if (keys.has("tool")) swapWith = null;
    if (keys.has("source")) {
      if (before?.source !== store.source?.id) {
        differences = [];
        note.textContent = "";
      }
      if (!store.isVideo) doubts = backward = [];
    }
    if (keys.has("project") || keys.has("source")) readDoubts();
  });
}
