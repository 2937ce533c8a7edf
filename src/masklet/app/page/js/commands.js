/** Commands: each has a key, a button where wanted, and a line of the key sheet. */

/**
 * @typedef {{id: string, label: string, group: string, key?: string, run: () => void, enabled?: () => boolean, button?: boolean, icon?: string, pressed?: () => boolean}} Command
 */

/** @type {Map<string, Command>} */
const commands = new Map();

/**
 * Register a command. `key` is as in the sheet: "Ctrl+Shift+Z", "ArrowLeft", "?", "n"; several are separated by spaces.
 * @param {Command} command
 */
export function registerCommand(command) {
  commands.set(command.id, command);
}

/** @returns {Command[]} */
export function allCommands() {
  return [...commands.values()];
}

/** @param {string} id */
export function runCommand(id) {
  const command = commands.get(id);
  if (command && command.enabled?.() !== false) command.run();
}

/**
 * Name the keys of an event as `registerCommand` does.
 * @param {KeyboardEvent} event
 * @returns {string}
 */
export function keyName(event) {
  const single = event.key.length === 1;
  const key = event.code.startsWith("Digit") && event.shiftKey ? event.code.slice(5) : event.key === " " ? "Space" : single ? event.key.toLowerCase() : event.key;
  const isLetter = /^[a-z0-9]$/.test(key) || !single || key === "Space";
  return `${event.ctrlKey || event.metaKey ? "Ctrl+" : ""}${event.altKey ? "Alt+" : ""}${event.shiftKey && isLetter ? "Shift+" : ""}${isLetter && single && key !== "Space" ? key.toUpperCase() : key}`;
}

/** Run commands by their keys, unless something is being typed or a dialog is open. */
export function listenToKeys() {
  document.addEventListener("keydown", (event) => {
    const target = /** @type {HTMLElement} */ (event.composedPath()[0]);
    const types = target instanceof HTMLElement && (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName));
    if (types && !(target instanceof HTMLInputElement && /^(range|checkbox)$/.test(target.type))) return;
    if (document.querySelector("dialog[open]")) return;
    const name = keyName(event);
    const isRange = target instanceof HTMLInputElement && target.type === "range";
    const isButton = target instanceof HTMLButtonElement || (types && !isRange);
    if (isButton && (name === "Space" || name === "Enter")) return;
    if (isRange && name.startsWith("Arrow") && !target.closest("#timeline")) return; // that of the frames has commands
    for (const command of commands.values()) {
      if (!command.key?.split(" ").includes(name) || command.enabled?.() === false) continue;
      event.preventDefault();
      command.run();
      return;
    }
  });
}
