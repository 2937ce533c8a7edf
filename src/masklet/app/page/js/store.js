/**
 * What the page shows: the project as the server has it, and the choices of this page.
 *
 * Everything that is saved is written to the server first and read back, so two pages and Python see the same.
 * `change` is sent after any change; its `detail` is a set of: project, source, frame, masks, objects, prompts, object,
 * tool, settings, timeline, status, view, zoom.
 */

import { Api, ApiError, SessionSocket } from "./api.js";

/** @typedef {import("./rle.js").Rle} Rle */
/** @typedef {{id: number, name: string, kind: "image" | "video", size: [number, number], num_frames: number | null, fps: number | null}} Source */
/** @typedef {{id: number, name: string, color: string}} ClassOf */
/** @typedef {{id: number, source_id: number, class_id: number | null, number: number, name: string, hidden: boolean, locked: boolean}} ObjectOf */
/** @typedef {{object_id: number, frame: number, points: [number, number][] | null, labels: number[] | null, box: [number, number, number, number] | null, mask: Rle | null, at: number}} PromptOf */
/** @typedef {{object: number, frame: number, state: string, score: number | null, origin: string, at: number, verified: boolean, dropped: boolean, rle: Rle}} MaskOf */
/** @typedef {Omit<MaskOf, "rle">} MaskInfo */

const COLORS = ["#3ea6ff", "#ff8a3d", "#3ddc97", "#f15bb5", "#ffd23f", "#9b7bff", "#00c2d1", "#ff5d5d", "#a3d977", "#c98bdb"];
export const LOW_SCORE = 0.5;
const MAX_FRAMES_CACHED = 64;
const SESSION_KEY = "masklet.session";
const SETTINGS_KEY = "masklet.settings";
const OFFLINE = "Not connected: what you see is saved, and the page connects again by itself";

/** The state of the page. */
export class Store extends EventTarget {
  /** @param {string} token */
  constructor(token) {
    super();
    this.api = new Api(token);
    this.path = "";
    /** @type {SessionSocket | null} */
    this.socket = null;
    this.project = "";
    this.revision = 0;
    /** @type {Source[]} */
    this.sources = [];
    /** @type {ClassOf[]} */
    this.classes = [];
    /** @type {ObjectOf[]} all objects of the project */
    this.allObjects = [];
    /** @type {Source | null} */
    this.source = null;
    this.frame = 0;
    /** @type {ImageBitmap | null} */
    this.image = null;
    /** @type {Map<number, MaskOf>} of the frame, by object */
    this.masks = new Map();
    /** @type {PromptOf[]} of the source */
    this.prompts = [];
    /** @type {Map<number, Map<number, MaskInfo>>} of all frames of a video: by object, then by frame */
    this.maskInfo = new Map();
    /** @type {number | null} */
    this.objectId = null;
    /** How often an object was chosen, or none: a click belongs to the choice at its time. */
    this.choice = 0;
    /** @type {{choice: number, id: number | null}} the object that clicks of a choice began */
    this.begun = { choice: -1, id: null };
    /** @type {number | null} class of the next object */
    this.classId = null;
    this.tool = "click";
    /** @type {[number, number, number, number] | null} the part of the image that is segmented at its full detail */
    this.view = null;
    /** @type {{object: number, frame: number, value: number} | null} the threshold that was chosen for the mask of an object; its further clicks keep it */
    this.threshold = null;
    /** @type {{object: number, frame: number, alpha: Uint8ClampedArray} | null} the mask that is shown with a soft edge */
    this.softAlpha = null;
    /** @type {Record<string, any>} theme, opacity, and what the view panel adds */
    this.settings = { theme: "auto", opacity: 0.45, ...readSettings() };
    this.status = "Starting";
    this.isError = false;
    this.errors = 0; // that were shown so far
    this.isOnline = false;
    this.busy = 0;
    /** @type {Map<string, Promise<ImageBitmap>>} */
    this.frames = new Map();
    this.loading = 0;
    /** @type {Promise<any>} the last change that was begun: changes come one after the other */
    this.changing = Promise.resolve();
    /** @type {Promise<void>} the reading of the project that is under way or was the last */
    this.reading = Promise.resolve();
    /** @type {Promise<void> | null} the one that begins after it, for all who wait */
    this.nextReading = null;
  }

  /** @param {...string} keys */
  emit(...keys) {
    this.dispatchEvent(new CustomEvent("change", { detail: new Set(keys) }));
  }

  /** @param {(keys: Set<string>) => void} listener */
  onChange(listener) {
    this.addEventListener("change", (event) => listener(/** @type {CustomEvent} */ (event).detail));
  }

  /** Open the session of this tab again, or a new one, and follow its project. */
  async open() {
    const known = sessionStorage.getItem(SESSION_KEY);
    const isOpen = known !== null && (await this.api.request("GET", known).then(() => true, () => false));
    if (isOpen) this.path = /** @type {string} */ (known);
    else {
      const project = new URLSearchParams(location.search).get("project");
      const opened = await this.api.request("POST", "/api/sessions", { author: "person", ...(project ? { project } : {}) });
      this.path = `/api/sessions/${opened.id}`;
    }
    sessionStorage.setItem(SESSION_KEY, this.path);
    await this.reload();
    this.socket?.close();
    const socket = new SessionSocket(this.api, this.path);
    this.socket = socket;
    socket.known = this.revision;
    socket.addEventListener("changed", (event) => {
      if (/** @type {CustomEvent} */ (event).detail !== this.revision) void this.run("", () => this.reload(), true);
    });
    socket.addEventListener("online", () => {
      this.isOnline = true;
      if (!this.isError || this.status === OFFLINE) this.say("Saved");
    });
    socket.addEventListener("offline", () => {
      if (socket !== this.socket) return;
      this.isOnline = false;
      this.say(OFFLINE, true);
      void this.reopen(socket);
    });
    socket.connect();
    if (this.source === null && this.sources.length) await this.openSource(this.sources[0].id);
  }

  /**
   * Open another session where the server has closed this one, or was started again.
   * @param {SessionSocket} socket what went offline
   */
  async reopen(socket) {
    const isGone = await this.api.request("GET", this.path).then(
      () => false,
      (error) => error instanceof ApiError && error.status === 404,
    );
    if (!isGone || socket !== this.socket) return;
    socket.close();
    sessionStorage.removeItem(SESSION_KEY);
    await this.run("", () => this.open());
  }

  /** Read the project again: by this page, another one or Python, something has changed. @returns {Promise<void>} */
  reload() {
    this.nextReading ??= this.reading
      .catch(() => {})
      .then(() => {
        this.nextReading = null;
        return this.readProject();
      });
    this.reading = this.nextReading;
    return this.nextReading;
  }

  /** Read the project: of two answers the older one must not be shown last, so `reload` calls this one at a time. */
  async readProject() {
    const state = await this.api.request("GET", this.path);
    this.project = state.project;
    this.revision = state.revision;
    if (this.socket) this.socket.known = state.revision;
    this.sources = state.sources;
    this.classes = state.classes;
    this.allObjects = state.objects;
    if (this.source !== null) {
      const id = this.source.id;
      this.source = this.sources.find((one) => one.id === id) ?? null;
    }
    if (this.source === null) {
      this.image = null;
      this.masks = new Map();
      this.prompts = [];
      this.maskInfo = new Map();
    } else await this.reloadSource();
    if (!this.objects.some((one) => one.id === this.objectId)) this.objectId = null;
    if (!this.classes.some((one) => one.id === this.classId)) this.classId = null;
    this.emit("project", "objects", "masks", "prompts", "object", "source", "timeline");
  }

  /** Read prompts and masks of the source. */
  async reloadSource() {
    const source = /** @type {Source} */ (this.source);
    const frame = this.frame;
    const [prompts, masks, info] = await Promise.all([
      this.api.request("GET", `${this.path}/prompts?source=${source.id}`),
      this.readMasks(source.id, frame),
      this.isVideo ? this.api.request("GET", `${this.path}/masks?source=${source.id}&rle=false`) : null,
    ]);
    if (this.source?.id !== source.id) return;
    this.prompts = prompts.prompts;
    if (this.frame === frame) this.masks = masks;
    this.maskInfo = new Map();
    for (const one of info?.objects ?? []) this.noteMask(one);
  }

  /** @param {MaskInfo} one */
  noteMask(one) {
    const frames = this.maskInfo.get(one.object) ?? new Map();
    frames.set(one.frame, one);
    this.maskInfo.set(one.object, frames);
  }

  /** @param {number} source @param {number} frame @returns {Promise<Map<number, MaskOf>>} */
  async readMasks(source, frame) {
    const answer = await this.api.request("GET", `${this.path}/masks?source=${source}&start=${frame}&stop=${frame + 1}`);
    return new Map(answer.objects.filter((/** @type {MaskOf} */ one) => one.rle.counts).map((/** @type {MaskOf} */ one) => [one.object, one]));
  }

  get isVideo() {
    return this.source?.kind === "video";
  }

  get numFrames() {
    return this.source === null ? 0 : (this.source.num_frames ?? 1);
  }

  /** Objects of the source. */
  get objects() {
    return this.allObjects.filter((one) => one.source_id === this.source?.id);
  }

  get object() {
    return this.objects.find((one) => one.id === this.objectId) ?? null;
  }

  /** @param {ObjectOf} one @returns {string} */
  colorOf(one) {
    const kind = this.classes.find((each) => each.id === one.class_id);
    return kind && !this.isVideo && this.objects.length > COLORS.length ? kind.color : COLORS[(one.number - 1) % COLORS.length];
  }

  /** @param {number | null} objectId @param {number} [frame] @returns {PromptOf | null} */
  promptOf(objectId, frame = this.frame) {
    return this.prompts.find((one) => one.object_id === objectId && one.frame === frame) ?? null;
  }

  /** @param {number | null} objectId @returns {number} the threshold of its mask on this frame; 0 is usual */
  thresholdOf(objectId, frame = this.frame) {
    return this.threshold?.object === objectId && this.threshold.frame === frame ? this.threshold.value : 0;
  }

  /** @param {number} id */
  async openSource(id) {
    this.source = this.sources.find((one) => one.id === id) ?? null;
    this.choice++;
    this.objectId = null;
    this.image = null;
    this.masks = new Map();
    this.frame = -1;
    this.view = null;
    this.emit("source", "object", "objects");
    await this.showFrame(0);
    await this.reloadSource();
    this.emit("masks", "prompts", "objects", "timeline");
  }

  /**
   * Show a frame; of several calls the last one counts.
   * @param {number} index
   */
  async showFrame(index) {
    const source = this.source;
    if (source === null) return;
    const frame = Math.max(0, Math.min(this.numFrames - 1, index));
    if (frame === this.frame && this.image !== null) return;
    const number = ++this.loading;
    const step = frame >= this.frame ? 1 : -1;
    this.frame = frame;
    this.view = null;
    this.emit("frame");
    const [image, masks] = await Promise.all([
      this.frameImage(frame).then((found) => {
        if (number === this.loading && source === this.source) {
          this.image = found;
          this.masks = new Map();
          this.emit("image");
        }
        return found;
      }),
      this.readMasks(source.id, frame),
    ]);
    if (number !== this.loading || source.id !== this.source?.id) return;
    this.image = image;
    this.masks = masks;
    this.emit("image", "masks");
    for (let ahead = 1; ahead <= 3; ahead++) {
      const next = frame + step * ahead;
      if (next >= 0 && next < this.numFrames) void this.frameImage(next).catch(() => {});
    }
  }

  /** @param {number} frame @returns {Promise<ImageBitmap>} */
  frameImage(frame) {
    const source = /** @type {Source} */ (this.source);
    const key = `${source.id}:${frame}`;
    let found = this.frames.get(key);
    if (found === undefined) {
      const format = source.kind === "image" ? "png" : "jpeg";
      found = this.api
        .fetch("GET", `${this.path}/sources/${source.id}/frames/${frame}?format=${format}`)
        .then((response) => response.blob())
        .then((blob) => createImageBitmap(blob));
      found.catch(() => this.frames.delete(key));
    }
    this.frames.delete(key); // the latest are kept
    this.frames.set(key, found);
    const oldest = this.frames.keys().next().value;
    if (this.frames.size > MAX_FRAMES_CACHED && oldest !== undefined) this.frames.delete(oldest);
    return found;
  }

  /** @param {number | null} id */
  selectObject(id) {
    this.choice++;
    this.objectId = id;
    this.emit("object");
  }

  /** @param {[number, number, number, number] | null} view */
  setView(view) {
    this.view = view;
    this.emit("view");
  }

  /** @param {string} tool */
  selectTool(tool) {
    this.tool = tool;
    this.emit("tool");
  }

  /** @param {Record<string, any>} changes */
  set(changes) {
    Object.assign(this.settings, changes);
    localStorage.setItem(SETTINGS_KEY, JSON.stringify(this.settings));
    this.emit("settings");
  }

  /** @param {string} text @param {boolean} [isError] */
  say(text, isError = false) {
    this.status = text;
    this.isError = isError;
    if (isError) this.errors++;
    this.emit("status");
  }

  /**
   * Do something that takes time; errors are shown, and null is returned then.
   * @template T
   * @param {string} text what is being done; empty: do not say
   * @param {() => Promise<T>} work
   * @param {boolean} [keepsError] whether an error that is shown has nothing to do with it
   * @returns {Promise<T | null>}
   */
  async run(text, work, keepsError = false) {
    this.busy++;
    const { errors } = this; // one that comes meanwhile is of other work, and stays
    const clearsError = this.isError && !keepsError;
    if (text) this.say(text);
    try {
      const result = await work();
      if (errors === this.errors && (text || clearsError)) this.say("Saved");
      return result;
    } catch (error) {
      if (!(error instanceof ApiError)) console.error(error);
      this.say(error instanceof Error ? error.message : String(error), true);
      return null;
    } finally {
      this.busy--;
      this.emit("status");
    }
  }

  /**
   * Change the project and read it back.
   * @param {string} text
   * @param {string} method
   * @param {string} path after that of the session
   * @param {Record<string, any>} [body]
   * @returns {Promise<any>}
   */
  change(text, method, path, body) {
    return this.inOrder(text, async () => {
      const answer = await this.api.request(method, this.path + path, body);
      await this.reload();
      return answer;
    });
  }

  /**
   * Do something that changes the project when the changes before it are done, so that it sees what they made.
   * @template T
   * @param {string} text
   * @param {() => Promise<T>} work
   * @returns {Promise<T | null>}
   */
  inOrder(text, work) {
    const result = this.changing.then(() => this.run(text, work));
    this.changing = result;
    return result;
  }

  /**
   * Prompt the current object on this frame, or a new one, and store its mask.
   * @param {(known: PromptOf | null) => {points?: [number, number][] | null, labels?: number[] | null, box?: [number, number, number, number] | null, mask?: Rle | null, threshold?: number}} promptFrom
   *   makes the prompt of the one that the object has on the frame when the changes before this one are done; null: it is new
   */
  async prompt(promptFrom) {
    const { source, frame, objectId, choice, view } = this;
    if (source === null) return;
    await this.inOrder("Segmenting", async () => {
      const id = objectId ?? (this.begun.choice === choice ? this.begun.id : null); // a click before began the object
      const object = this.allObjects.find((one) => one.id === id);
      if (object?.locked) throw new ApiError(409, `${object.name} is locked: unlock it in the list, or choose another object`);
      const prompt = { threshold: object ? this.thresholdOf(object.id, frame) : 0, ...promptFrom(object ? this.promptOf(object.id, frame) : null) };
      const given = Object.fromEntries(Object.entries(prompt).filter(([, value]) => value !== null && value !== undefined));
      const target = object ? { object: object.id } : { source: source.id, ...(this.classId === null ? {} : { class: this.classId }) };
      const { masks } = await /** @type {SessionSocket} */ (this.socket).request("prompt", { ...target, frame, ...given, ...(view ? { view } : {}) });
      if (masks.length) this.begun = { choice, id: masks[0].object };
      if (masks.length && choice === this.choice) this.objectId = masks[0].object;
      await this.reload();
    });
  }
}

/** @returns {Record<string, any>} */
function readSettings() {
  try {
    return JSON.parse(localStorage.getItem(SETTINGS_KEY) ?? "{}");
  } catch {
    return {};
  }
}
