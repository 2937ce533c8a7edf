/** `<masklet-viewer>`: the image with masks and prompts, which pans and zooms and hands pointers to the tool. */

import { colorBytes, el, withAlpha } from "./dom.js";
import { decodeRle } from "./rle.js";
import { toolById } from "./tools.js";

/** @typedef {import("./rle.js").Rle} Rle */
/** @typedef {import("./store.js").Store} Store */
/** @typedef {import("./tools.js").Pointer} Pointer */
/** @typedef {{order: number, draw: (context: CanvasRenderingContext2D, view: Viewer) => void}} Layer draws in pixels of the image; 1 / view.scale is a pixel of the screen */

const MAX_SCALE = 40;
const PREVIEW_COLOR = "#ffffff";
const KEY_STEP = 10;

/** The canvas. `scale` is screen pixels per image pixel. */
export class Viewer extends HTMLElement {
  constructor() {
    super();
    this.canvas = el("canvas", { tabIndex: 0, role: "application", "aria-label": "Image: click to add to an object, Alt+click to remove" });
    this.scale = 1;
    this.left = 0;
    this.top = 0;
    /** @type {Store | null} */
    this.store = null;
    /** @type {Layer[]} */
    this.layers = [];
    /** @type {Map<string, HTMLCanvasElement>} */
    this.drawnMasks = new Map();
    /** @type {Rle | null} */
    this.preview = null;
    /** @type {{object: number, image: HTMLCanvasElement} | null} what is drawn instead of the mask of an object */
    this.replaced = null;
    /** @type {[number, number, number, number] | null} */
    this.draft = null;
    /** @type {{x: number, y: number} | null} crosshair of the keyboard */
    this.cross = null;
    this.filter = "none";
    this.isQueued = false;
    this.shown = "";
    /** @type {Map<number, PointerEvent>} */
    this.touches = new Map();
    /** @type {{x: number, y: number} | null} */
    this.panFrom = null;
    this.holdsSpace = false;
    this.isDown = false;
  }

  /** @param {Store} store */
  connect(store) {
    this.store = store;
    this.append(this.canvas);
    store.onChange((keys) => {
      if (keys.has("source") || keys.has("frame")) this.setPreview(null);
      if (keys.has("image") && store.image) {
        const shown = `${store.source?.id}:${store.image.width}x${store.image.height}`;
        if (shown !== this.shown) this.fit();
        this.shown = shown;
      }
      this.draw();
    });
    this.addLayer({ order: 10, draw: (context) => this.drawImage(context) });
    this.addLayer({ order: 20, draw: (context) => this.drawMasks(context) });
    this.addLayer({ order: 30, draw: (context) => this.drawPreview(context) });
    this.addLayer({ order: 40, draw: (context) => this.drawPrompts(context) });
    new ResizeObserver(() => this.resize()).observe(this);
    this.listen();
    this.resize();
  }

  /** @param {Layer} layer */
  addLayer(layer) {
    this.layers.push(layer);
    this.layers.sort((one, other) => one.order - other.order);
    this.draw();
  }

  resize() {
    const ratio = devicePixelRatio || 1;
    const wasFitted = this.isFitted;
    this.canvas.width = Math.max(1, Math.round(this.clientWidth * ratio));
    this.canvas.height = Math.max(1, Math.round(this.clientHeight * ratio));
    if (wasFitted) this.fit();
    this.draw();
  }

  /** Show all of the image. */
  fit() {
    const image = this.store?.image;
    if (!image) return;
    const margin = 16;
    this.scale = Math.max(0.01, Math.min((this.clientWidth - margin) / image.width, (this.clientHeight - margin) / image.height));
    this.left = (this.clientWidth - image.width * this.scale) / 2;
    this.top = (this.clientHeight - image.height * this.scale) / 2;
    this.isFitted = true;
    this.draw();
    this.dispatchEvent(new Event("zoomed"));
  }

  isFitted = true;

  /**
   * Zoom around a point of the element.
   * @param {number} factor
   * @param {number} [x]
   * @param {number} [y]
   */
  zoom(factor, x = this.clientWidth / 2, y = this.clientHeight / 2) {
    const scale = Math.max(0.02, Math.min(MAX_SCALE, this.scale * factor));
    this.left = x - ((x - this.left) * scale) / this.scale;
    this.top = y - ((y - this.top) * scale) / this.scale;
    this.scale = scale;
    this.isFitted = false;
    this.draw();
    this.dispatchEvent(new Event("zoomed"));
  }

  /** The part of the image that is visible: left, top, right, bottom. @returns {[number, number, number, number]} */
  get view() {
    const image = this.store?.image;
    if (!image) return [0, 0, 1, 1];
    return [
      Math.max(0, -this.left / this.scale),
      Math.max(0, -this.top / this.scale),
      Math.min(image.width, (this.clientWidth - this.left) / this.scale),
      Math.min(image.height, (this.clientHeight - this.top) / this.scale),
    ];
  }

  /** @param {Rle | null} rle */
  setPreview(rle) {
    if (this.preview === rle) return;
    this.preview = rle;
    this.draw();
  }

  /** @param {[number, number, number, number] | null} box */
  setDraft(box) {
    this.draft = box;
    this.draw();
  }

  /** Draw with the next frame of the browser. */
  draw() {
    if (this.isQueued) return;
    this.isQueued = true;
    requestAnimationFrame(() => {
      this.isQueued = false;
      this.drawNow();
    });
  }

  drawNow() {
    const context = this.canvas.getContext("2d");
    if (!context || !this.store) return;
    const ratio = devicePixelRatio || 1;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    if (!this.store.image) return;
    context.setTransform(this.scale * ratio, 0, 0, this.scale * ratio, this.left * ratio, this.top * ratio);
    context.imageSmoothingEnabled = this.scale < 4;
    for (const layer of this.layers) {
      context.save();
      layer.draw(context, this);
      context.restore();
    }
  }

  /** @param {CanvasRenderingContext2D} context */
  drawImage(context) {
    context.filter = this.filter;
    context.drawImage(/** @type {ImageBitmap} */ (/** @type {Store} */ (this.store).image), 0, 0);
  }

  /** @param {CanvasRenderingContext2D} context */
  drawMasks(context) {
    const store = /** @type {Store} */ (this.store);
    const used = new Set();
    for (const object of store.objects) {
      const mask = store.masks.get(object.id);
      if (!mask || object.hidden) continue;
      if (this.replaced?.object === object.id) {
        context.globalAlpha = 1;
        context.drawImage(this.replaced.image, 0, 0);
        continue;
      }
      const isCurrent = object.id === store.objectId;
      const key = `${store.colorOf(object)} ${mask.rle.counts}`;
      used.add(key);
      context.globalAlpha = store.objectId === null || isCurrent ? 1 : 0.75;
      context.drawImage(this.maskImage(key, mask.rle, store.colorOf(object)), 0, 0);
    }
    for (const key of this.drawnMasks.keys()) if (!used.has(key)) this.drawnMasks.delete(key);
  }

  /** @param {CanvasRenderingContext2D} context */
  drawPreview(context) {
    if (this.preview) context.drawImage(this.paintMask(this.preview, PREVIEW_COLOR, 0.3), 0, 0);
  }

  /** @param {string} key @param {Rle} rle @param {string} color @returns {HTMLCanvasElement} */
  maskImage(key, rle, color) {
    const opacity = /** @type {Store} */ (this.store).settings.opacity;
    const full = `${key} ${opacity}`;
    let found = this.drawnMasks.get(key);
    if (!found || found.dataset.key !== full) {
      found = this.paintMask(rle, color, opacity);
      found.dataset.key = full;
      this.drawnMasks.set(key, found);
    }
    return found;
  }

  /**
   * Paint a mask with its outline.
   * @param {Rle} rle @param {string} color @param {number} opacity
   * @returns {HTMLCanvasElement}
   */
  paintMask(rle, color, opacity) {
    return this.paintPixels(decodeRle(rle), color, opacity);
  }

  /**
   * Paint the pixels of a mask with their outline.
   * @param {import("./rle.js").Mask} mask @param {string} color @param {number} opacity
   * @returns {HTMLCanvasElement}
   */
  paintPixels({ data, width, height }, color, opacity) {
    const canvas = el("canvas", { width, height });
    const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
    const pixels = context.createImageData(width, height);
    const words = new Uint32Array(pixels.data.buffer);
    const [r, g, b] = colorBytes(color);
    const inside = (Math.round(opacity * 255) << 24) | (b << 16) | (g << 8) | r;
    const edge = (255 << 24) | (b << 16) | (g << 8) | r;
    for (let y = 0, at = 0; y < height; y++) {
      for (let x = 0; x < width; x++, at++) {
        if (!data[at]) continue;
        const isEdge = x === 0 || y === 0 || x === width - 1 || y === height - 1 || !data[at - 1] || !data[at + 1] || !data[at - width] || !data[at + width];
        words[at] = isEdge ? edge : inside;
      }
    }
    context.putImageData(pixels, 0, 0);
    return canvas;
  }

  /**
   * Paint a mask with a soft edge.
   * @param {Uint8ClampedArray} alpha @param {number} width @param {number} height @param {string} color @param {number} opacity
   * @returns {HTMLCanvasElement}
   */
  paintAlpha(alpha, width, height, color, opacity) {
    const canvas = el("canvas", { width, height });
    const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
    const pixels = context.createImageData(width, height);
    const [r, g, b] = colorBytes(color);
    const words = new Uint32Array(pixels.data.buffer);
    for (let i = 0; i < alpha.length; i++) if (alpha[i]) words[i] = (Math.round(opacity * alpha[i]) << 24) | (b << 16) | (g << 8) | r;
    context.putImageData(pixels, 0, 0);
    return canvas;
  }

  /** @param {CanvasRenderingContext2D} context */
  drawPrompts(context) {
    const store = /** @type {Store} */ (this.store);
    const pixel = 1 / this.scale;
    const object = store.object;
    const prompt = store.promptOf(store.objectId);
    if (object && prompt && !object.hidden) {
      if (prompt.box) {
        const [left, top, right, bottom] = prompt.box;
        context.strokeStyle = store.colorOf(object);
        context.lineWidth = 1.5 * pixel;
        context.setLineDash([6 * pixel, 4 * pixel]);
        context.strokeRect(left, top, right - left, bottom - top);
        context.setLineDash([]);
      }
      (prompt.points ?? []).forEach(([x, y], i) => {
        const isPositive = (prompt.labels?.[i] ?? 1) === 1;
        context.beginPath();
        context.arc(x, y, 5 * pixel, 0, 2 * Math.PI);
        context.fillStyle = isPositive ? "#1fbf5b" : "#e5383b";
        context.fill();
        context.lineWidth = 1.5 * pixel;
        context.strokeStyle = "#fff";
        context.stroke();
        context.beginPath();
        context.moveTo(x - 2.5 * pixel, y);
        context.lineTo(x + 2.5 * pixel, y);
        if (isPositive) {
          context.moveTo(x, y - 2.5 * pixel);
          context.lineTo(x, y + 2.5 * pixel);
        }
        context.stroke();
      });
    }
    if (this.draft) {
      const [left, top, right, bottom] = this.draft;
      context.fillStyle = withAlpha("#3ea6ff", 0.12);
      context.strokeStyle = "#3ea6ff";
      context.lineWidth = 1.5 * pixel;
      context.fillRect(left, top, right - left, bottom - top);
      context.strokeRect(left, top, right - left, bottom - top);
    }
    if (this.cross) {
      const { x, y } = this.cross;
      context.strokeStyle = "#fff";
      context.lineWidth = 1.5 * pixel;
      context.shadowColor = "#000";
      context.shadowBlur = 2;
      context.beginPath();
      context.moveTo(x - 14 * pixel, y);
      context.lineTo(x + 14 * pixel, y);
      context.moveTo(x, y - 14 * pixel);
      context.lineTo(x, y + 14 * pixel);
      context.stroke();
    }
  }

  /** @param {{clientX: number, clientY: number}} event @returns {[number, number]} */
  offset(event) {
    const box = this.canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  /**
   * Return a pointer in pixels of the image; null: beside it.
   * @param {PointerEvent | MouseEvent} event
   * @param {boolean} [clips] whether it is moved to the border instead
   * @returns {Pointer | null}
   */
  pointer(event, clips = false) {
    const image = this.store?.image;
    if (!image) return null;
    const [left, top] = this.offset(event);
    let x = (left - this.left) / this.scale;
    let y = (top - this.top) / this.scale;
    if (clips) {
      x = Math.max(0, Math.min(image.width - 0.01, x));
      y = Math.max(0, Math.min(image.height - 0.01, y));
    } else if (x < 0 || y < 0 || x >= image.width || y >= image.height) return null;
    const pressure = event instanceof PointerEvent ? event.pressure : 0.5;
    return { x, y, button: event.button, alt: event.altKey, shift: event.shiftKey, pressure };
  }

  listen() {
    const canvas = this.canvas;
    const tool = () => toolById(/** @type {Store} */ (this.store).tool);
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener(
      "wheel",
      (event) => {
        event.preventDefault();
        const [x, y] = this.offset(event);
        this.zoom(Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.0015)), x, y);
      },
      { passive: false },
    );
    canvas.addEventListener("pointerdown", (event) => {
      canvas.focus({ preventScroll: true });
      this.touches.set(event.pointerId, event);
      try {
        canvas.setPointerCapture(event.pointerId);
      } catch {
        // a pointer of a script has no capture
      }
      if (this.touches.size > 1 || event.button === 1 || this.holdsSpace) {
        if (this.isDown) tool()?.cancel?.();
        this.isDown = false;
        this.panFrom = { x: event.clientX, y: event.clientY };
        return;
      }
      const at = this.pointer(event);
      if (at) {
        this.isDown = true;
        this.cross = null;
        tool()?.down?.(at);
      }
    });
    canvas.addEventListener("pointermove", (event) => {
      const before = this.touches.get(event.pointerId);
      if (before && this.touches.size === 2) {
        this.pinch(before, event);
        this.touches.set(event.pointerId, event);
        return;
      }
      if (before) this.touches.set(event.pointerId, event);
      if (this.panFrom) {
        this.left += event.clientX - this.panFrom.x;
        this.top += event.clientY - this.panFrom.y;
        this.panFrom = { x: event.clientX, y: event.clientY };
        this.isFitted = false;
        this.draw();
      } else if (this.isDown) {
        const at = this.pointer(event, true);
        if (at) tool()?.move?.(at);
      } else if (event.pointerType !== "touch") tool()?.hover?.(this.pointer(event));
    });
    const end = (/** @type {PointerEvent} */ event) => {
      this.touches.delete(event.pointerId);
      if (this.panFrom) {
        if (!this.touches.size) this.panFrom = null;
        return;
      }
      if (!this.isDown) return;
      this.isDown = false;
      const at = this.pointer(event, true);
      if (event.type === "pointerup" && at) tool()?.up?.(at);
      else tool()?.cancel?.();
    };
    canvas.addEventListener("pointerup", end);
    canvas.addEventListener("pointercancel", end);
    canvas.addEventListener("pointerleave", () => tool()?.hover?.(null));
    window.addEventListener("keydown", (event) => {
      if (event.key === " " && document.activeElement === canvas) this.holdsSpace = true;
    });
    window.addEventListener("keyup", (event) => {
      if (event.key === " ") this.holdsSpace = false;
    });
    canvas.addEventListener("keydown", (event) => this.moveCross(event));
  }

  /** @param {PointerEvent} before @param {PointerEvent} after */
  pinch(before, after) {
    const other = [...this.touches.values()].find((one) => one.pointerId !== after.pointerId);
    if (!other) return;
    const distance = (/** @type {PointerEvent} */ one) => Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY);
    const [x, y] = this.offset({ clientX: (after.clientX + other.clientX) / 2, clientY: (after.clientY + other.clientY) / 2 });
    this.left += (after.clientX - before.clientX) / 2;
    this.top += (after.clientY - before.clientY) / 2;
    this.zoom(distance(after) / Math.max(1, distance(before)), x, y);
  }

  /** Show the crosshair of the keyboard, or hide it. */
  toggleCross() {
    const [left, top, right, bottom] = this.view;
    this.cross = this.cross ? null : { x: Math.floor((left + right) / 2), y: Math.floor((top + bottom) / 2) };
    this.canvas.focus({ preventScroll: true });
    this.draw();
  }

  /** @param {KeyboardEvent} event */
  moveCross(event) {
    const image = this.store?.image;
    if (!this.cross || !image) return;
    const step = event.shiftKey ? KEY_STEP * 5 : event.altKey ? 1 : KEY_STEP;
    /** @type {Record<string, [number, number]>} */
    const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
    const move = moves[event.key];
    if (move) {
      this.cross = {
        x: Math.max(0, Math.min(image.width - 1, this.cross.x + move[0])),
        y: Math.max(0, Math.min(image.height - 1, this.cross.y + move[1])),
      };
      const at = { ...this.cross, button: 0, alt: false, shift: false, pressure: 0.5 };
      toolById(/** @type {Store} */ (this.store).tool)?.hover?.(at);
      this.draw();
    } else if (event.key === "Enter" || event.key === "Backspace") {
      this.dispatchEvent(new CustomEvent("keyclick", { detail: { ...this.cross, isPositive: event.key === "Enter" } }));
    } else return;
    event.preventDefault();
    event.stopPropagation();
  }
}

customElements.define("masklet-viewer", Viewer);
