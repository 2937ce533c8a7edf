/** The server: requests over HTTP, and the WebSocket of a session with its binary messages (docs/server.md). */

/** @typedef {import("./rle.js").Rle} Rle */
/** @typedef {{object: number, score: number, state?: string, frame?: number, rle: Rle} & Record<string, any>} MaskOf */
/** @typedef {{header: Record<string, any>, masks: MaskOf[], payload: Uint8Array}} Answer */

const CHUNK = 4 << 20;
const RETRY_MS = 1000;

/** A refused request: `status` as of HTTP, and a text that names value, rule and remedy. */
export class ApiError extends Error {
  /** @param {number} status @param {string} text */
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

/** Requests of one page. */
export class Api {
  /** @param {string} token empty: none is needed */
  constructor(token) {
    this.token = token;
  }

  /**
   * Send a request and return its JSON.
   * @param {string} method
   * @param {string} path
   * @param {Record<string, any> | Blob} [body]
   * @returns {Promise<any>}
   */
  async request(method, path, body) {
    const response = await this.fetch(method, path, body);
    return response.json();
  }

  /**
   * Send a request and return the response.
   * @param {string} method
   * @param {string} path
   * @param {Record<string, any> | Blob} [body]
   * @returns {Promise<Response>}
   */
  async fetch(method, path, body) {
    /** @type {Record<string, string>} */
    const headers = this.token ? { authorization: `Bearer ${this.token}` } : {};
    if (body !== undefined && !(body instanceof Blob)) headers["content-type"] = "application/json";
    let response;
    try {
      response = await fetch(path, {
        method,
        headers,
        body: body === undefined ? undefined : body instanceof Blob ? body : JSON.stringify(body),
      });
    } catch {
      throw new ApiError(0, "The server does not answer. Start masklet app again; everything that was saved is there.");
    }
    if (!response.ok) {
      const text = await response.json().then(
        (answer) => answer.error.message,
        () => `${method} ${path} failed with ${response.status}`,
      );
      throw new ApiError(response.status, text);
    }
    return response;
  }

  /**
   * Upload a file in chunks, from where an earlier upload of it stopped, and add it as a source.
   * @param {string} session path of the session
   * @param {File} file
   * @param {(fraction: number) => void} onProgress
   */
  async upload(session, file, onProgress) {
    const name = `${file.lastModified}-${file.name.replace(/[^\p{L}\p{N} ._()+,-]/gu, "_").slice(-80)}`;
    const path = `${session}/uploads/${encodeURIComponent(name)}`;
    let { offset } = await this.request("GET", path);
    while (offset < file.size) {
      const answer = await this.request("PUT", `${path}?offset=${offset}`, file.slice(offset, offset + CHUNK));
      offset = answer.offset;
      onProgress(offset / file.size);
    }
    return this.request("POST", `${path}/finish`, { source_name: file.name.replace(/\.[^.]*$/, "").slice(0, 100) || "image" });
  }
}

/**
 * Split a binary message into header, masks and payload.
 * @param {ArrayBuffer} data
 * @returns {Answer}
 */
export function unpackMessage(data) {
  const length = new DataView(data).getUint32(0);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, length)));
  const payload = new Uint8Array(data, 4 + length);
  const text = new TextDecoder("ascii");
  const masks = (header.objects ?? []).map((/** @type {any} */ { size, offset, bytes, ...known }) => ({
    ...known,
    rle: { size, counts: text.decode(payload.subarray(offset, offset + bytes)) },
  }));
  return { header, masks, payload };
}

/**
 * The WebSocket of a session. Events: `changed` (detail: the revision), `online`, `offline`.
 */
export class SessionSocket extends EventTarget {
  /** @param {Api} api @param {string} session path of the session */
  constructor(api, session) {
    super();
    this.api = api;
    this.session = session;
    this.known = 0;
    /** @type {WebSocket | null} */
    this.socket = null;
    this.number = 0;
    /** @type {Map<number, {resolve: (answer: Answer) => void, reject: (error: Error) => void, onFrame?: (answer: Answer) => void}>} */
    this.waiting = new Map();
    this.closed = false;
  }

  /** Open it, and again whenever it closes. */
  connect() {
    const url = new URL(`${this.session}/socket`, location.href);
    url.protocol = url.protocol.replace("http", "ws");
    const protocols = this.api.token ? ["masklet", `masklet.token.${this.api.token}`] : ["masklet"];
    const socket = new WebSocket(url, protocols);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      this.socket = socket;
      this.send("follow", { since: this.known }, {});
      this.dispatchEvent(new Event("online"));
    };
    socket.onmessage = (event) => this.take(unpackMessage(event.data));
    socket.onclose = () => {
      this.socket = null;
      for (const { reject } of this.waiting.values()) reject(new ApiError(0, "The connection was lost. Repeat this."));
      this.waiting.clear();
      this.dispatchEvent(new Event("offline"));
      if (!this.closed) setTimeout(() => this.connect(), RETRY_MS);
    };
  }

  /**
   * Send a request; an answer settles it.
   * @param {string} type
   * @param {Record<string, any>} fields
   * @param {{resolve?: (answer: Answer) => void, reject?: (error: Error) => void, onFrame?: (answer: Answer) => void}} waiter
   * @returns {number} its id
   */
  send(type, fields, { resolve = () => {}, reject = () => {}, onFrame }) {
    const id = ++this.number;
    if (this.socket === null) {
      reject(new ApiError(0, "The server is not connected. Wait a moment and repeat this."));
      return id;
    }
    if (type !== "ack" && type !== "cancel") this.waiting.set(id, { resolve, reject, onFrame });
    this.socket.send(JSON.stringify({ type, id, ...fields }));
    return id;
  }

  /**
   * Send a request and wait for its answer.
   * @param {string} type
   * @param {Record<string, any>} fields
   * @returns {Promise<Answer>}
   */
  request(type, fields) {
    return new Promise((resolve, reject) => this.send(type, fields, { resolve, reject }));
  }

  /**
   * Track; each frame is acknowledged when `onFrame` returns.
   * @param {Record<string, any>} fields
   * @param {(answer: Answer) => void} onFrame
   * @returns {{done: Promise<Answer>, cancel: () => void}}
   */
  track(fields, onFrame) {
    let id = 0;
    const done = /** @type {Promise<Answer>} */ (
      new Promise((resolve, reject) => {
        id = this.send("track", fields, { resolve, reject, onFrame });
      })
    );
    return { done, cancel: () => this.send("cancel", { request: id }, {}) };
  }

  /** @param {Answer} answer */
  take(answer) {
    const { type, request, seq } = answer.header;
    if (type === "changed") {
      this.known = answer.header.revision;
      this.dispatchEvent(new CustomEvent("changed", { detail: answer.header.revision }));
      return;
    }
    const waiter = this.waiting.get(request);
    if (waiter === undefined) return;
    if (type === "frame") {
      waiter.onFrame?.(answer);
      this.send("ack", { seq }, {});
      return;
    }
    this.waiting.delete(request);
    if (type === "error") waiter.reject(new ApiError(answer.header.error.status, answer.header.error.message));
    else waiter.resolve(answer);
  }

  /** Close it for good. */
  close() {
    this.closed = true;
    this.socket?.close();
  }
}
