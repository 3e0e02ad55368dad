/**
 * The page of the review widget: one image at a time, what is asked about it, and the answers.
 *
 * Every answer is an event. It is kept in the browser until the kernel says that it is on disk; what
 * is shown is the fold of all events, saved or not, by the rules of `state.py`. What comes before
 * `class Page` knows no browser and is tested without one. anywidget calls `render`, at the end.
 * Names, captions and errors are only ever text: nothing of theirs becomes HTML.
 */

const PALETTE = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#F0E442"];
const DARK = ["#0072B2", "#D55E00", "#009E73", "#6b6b6b", "#000000"]; // under white text
const GREY = "#6b6b6b";
const NAMES = { help: "Keys", evidence: "Evidence", rejected: "Rejected boxes" };
const ASKS = { verify: " · one box", region: " · one region", tag: " · classes" };
const WORDS = {
  known: "given",
  drawn: "drawn",
  proposed: "undecided",
  accepted: "accepted",
  rejected: "rejected",
};
const LEAST = 1; // pixels of the original that a side has at least
const NEAR = 7; // pixels of the screen within which an edge is taken hold of
const IDLE = 60; // seconds without input after which time is not counted
const BITMAPS = 4; // decoded images that are kept
const KEYS = [
  ["1 … 9", "class of the selected box, or of the next one drawn; a class of the image"],
  ["← → ↑ ↓", "previous or next box (Tab, too, and out again)"],
  ["Shift + arrow", "move the box by a pixel; with Ctrl by ten"],
  ["Alt + arrow", "move its lower right corner"],
  ["n", "new box in the middle; or drag with the mouse, with Shift over the selected box, too"],
  ["a", "accept the predicted box and go to the next undecided one"],
  ["x, Delete", "reject a predicted box, delete another"],
  ["Shift + A, Shift + X", "accept or reject all that are undecided"],
  ["i", "ignore: neither right nor wrong"],
  ["y, n", "yes or no, where that is the question"],
  ["Enter", "finish the image and go on"],
  ["s", "skip the image and go on"],
  ["u, r", "undo, redo (Ctrl + Z, Ctrl + Y)"],
  ["PageUp, PageDown, [ ]", "previous or next image"],
  ["g", "go to an image by name"],
  ["e", "show or hide the evidence"],
  ["+ − 0", "zoom in, out, whole image (Ctrl + wheel, too); drag with Space to move it"],
  ["?", "these keys"],
  ["Esc", "deselect, then leave the widget"],
];

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
const round = (value) => Math.round(value * 100) / 100;
const last = (ids) => [...ids].pop() ?? null;
const area = ([x1, y1, x2, y2]) => (x2 - x1) * (y2 - y1);

/** Return a new UUID, on plain http as well, where `randomUUID` is missing. */
export function uuid(source = globalThis.crypto) {
  if (source.randomUUID) return source.randomUUID();
  const bytes = source.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

// The fold: what a log of events comes to. The rules are those of `state.py`, to the letter.

const EDITS = new Set(["add", "accept", "reject", "change", "remove", "tag"]);
const BESIDE = new Set(["start", "look", "undo", "redo"]);
const OWN = new Set(["known", "drawn"]); // boxes that nobody predicted

const untouched = () => ({
  boxes: new Map(), tags: new Set(), verdict: null, status: "open", seconds: 0, size: null,
});

const judge = (item, event) => {
  const box = item.boxes.get(event.key);
  if (box && !OWN.has(box.status)) box.status = event.do === "accept" ? "accepted" : "rejected";
};

const ACTIONS = {
  __proto__: null,
  accept: judge,
  reject: judge,
  add(item, { key, box, label, ignore = false }) {
    if (item.boxes.has(key)) return;
    item.boxes.set(key, { key, box, label, ignore, score: null, status: "drawn" });
  },
  change(item, { key, box, label, ignore }) {
    const one = item.boxes.get(key);
    if (!one) return;
    one.box = box ?? one.box;
    one.label = label ?? one.label;
    one.ignore = ignore ?? one.ignore;
    if (!OWN.has(one.status)) one.status = "accepted";
  },
  remove(item, { key }) {
    const one = item.boxes.get(key);
    if (one && OWN.has(one.status)) item.boxes.delete(key);
    else if (one) one.status = "rejected";
  },
  verdict: (item, { verdict }) => Object.assign(item, { verdict, status: "finished" }),
  tag: (item, { label, present }) => (present ? item.tags.add(label) : item.tags.delete(label)),
  finish: (item) => Object.assign(item, { status: "finished" }),
  skip: (item) => Object.assign(item, { status: "skipped" }),
  reopen: (item) => Object.assign(item, { verdict: null, status: "open" }),
};

/** Return the ids of the actions that count, and of those undone, in order. */
function standing(log) {
  const done = new Set();
  const undone = new Set();
  for (const event of log) {
    if (event.do === "undo" || event.do === "redo") {
      const [source, goal] = event.do === "undo" ? [done, undone] : [undone, done];
      if (source.delete(event.of)) goal.add(event.of);
    } else if (!BESIDE.has(event.do)) {
      done.add(event.id);
      undone.clear();
    }
  }
  return { done, undone };
}

/** Add the boxes a request begins with. */
function begin(item, event) {
  item.size ??= event.size;
  for (const status of ["known", "proposed"]) {
    for (const box of event[status]) {
      if (!item.boxes.has(box.key)) item.boxes.set(box.key, { ...box, status });
    }
  }
}

/** Return what a log of events comes to; what has nothing to act on does nothing. */
export function fold(events) {
  const log = new Map();
  for (const event of events) if (!log.has(event.id)) log.set(event.id, event);
  const { done, undone } = standing(log.values());
  const items = new Map();
  for (const event of log.values()) {
    if (!items.has(event.request)) items.set(event.request, untouched());
    const item = items.get(event.request);
    item.seconds += event.seconds;
    if (event.do === "start") begin(item, event);
    else if (done.has(event.id)) {
      ACTIONS[event.do]?.(item, event);
      if (EDITS.has(event.do)) item.status = "open";
    }
  }
  const plain = (item) => ({
    ...item, boxes: [...item.boxes.values()], tags: [...item.tags].sort((a, b) => a - b),
  });
  const requests = Object.fromEntries([...items].map(([id, item]) => [id, plain(item)]));
  return { requests, undo: last(done), redo: last(undone) };
}

// Geometry. Boxes are x1, y1, x2, y2 in pixels of the original; `size` is its [height, width]. A
// view says where the canvas shows it: canvas = image * scale + (x, y).

/** Return the view that shows the whole image in the middle of a room of so many pixels. */
export function fit([height, width], room, margin = 4) {
  const free = [Math.max(room.width - 2 * margin, 1), Math.max(room.height - 2 * margin, 1)];
  const scale = Math.min(free[0] / width, free[1] / height);
  return { scale, x: (room.width - width * scale) / 2, y: (room.height - height * scale) / 2 };
}

export const toCanvas = (view, [x, y]) => [x * view.scale + view.x, y * view.scale + view.y];
export const toImage = (view, [x, y]) => [(x - view.x) / view.scale, (y - view.y) / view.scale];

/** Return a view moved by so many pixels of the screen; the middle keeps showing the image. */
export function pan(view, [dx, dy], [height, width], room) {
  const keep = (value, side, free) => clamp(value, free / 2 - side * view.scale, free / 2);
  const { width: w, height: h } = room;
  return { ...view, x: keep(view.x + dx, width, w), y: keep(view.y + dy, height, h) };
}

/** Return a view zoomed about a point of the canvas, at most until the whole image shows. */
export function zoom(view, factor, point, size, room) {
  const whole = fit(size, room);
  const scale = Math.min(view.scale * factor, Math.max(64, whole.scale));
  if (scale <= whole.scale) return whole;
  const [x, y] = toImage(view, point);
  return pan({ scale, x: point[0] - x * scale, y: point[1] - y * scale }, [0, 0], size, room);
}

/** Return any two corners as a box inside the image, to a hundredth of a pixel. */
export function bounded([x1, y1, x2, y2], [height, width]) {
  const side = (a, b, end) => {
    const low = round(clamp(Math.min(a, b), 0, end - LEAST));
    return [low, round(clamp(Math.max(a, b), low + LEAST, end))];
  };
  const [[left, right], [top, bottom]] = [side(x1, x2, width), side(y1, y2, height)];
  return [left, top, right, bottom];
}

/** Return a box moved ("inside") or with the sides of `part` ("n", "se", …) moved. */
export function dragged(box, part, [dx, dy], size) {
  let [x1, y1, x2, y2] = box;
  const [height, width] = size;
  if (part === "inside") {
    const [right, down] = [clamp(dx, -x1, width - x2), clamp(dy, -y1, height - y2)];
    return bounded([x1 + right, y1 + down, x2 + right, y2 + down], size);
  }
  if (part.includes("w")) x1 = Math.min(x1 + dx, x2 - LEAST);
  if (part.includes("e")) x2 = Math.max(x2 + dx, x1 + LEAST);
  if (part.includes("n")) y1 = Math.min(y1 + dy, y2 - LEAST);
  if (part.includes("s")) y2 = Math.max(y2 + dy, y1 + LEAST);
  return bounded([x1, y1, x2, y2], size);
}

/** Return what of a box a point takes hold of: sides ("n", "se", …), "inside", or null. */
export function grip([x1, y1, x2, y2], [x, y], near) {
  if (x < x1 - near || x > x2 + near || y < y1 - near || y > y2 + near) return null;
  const side = (value, low, high, [first, second]) => {
    const inward = Math.min(near, (high - low) / 4); // the middle of a small box can still be held
    if (value <= low + inward) return first;
    return value >= high - inward ? second : "";
  };
  return side(y, y1, y2, "ns") + side(x, x1, x2, "we") || "inside";
}

/** Return the boxes under a point, the smallest first. */
export function under(boxes, point, near) {
  const held = boxes.filter((one) => grip(one.box, point, near));
  return held.sort((a, b) => area(a.box) - area(b.box));
}

/** Return a box with its x, y, width or height set. */
export function withField(box, name, value, size) {
  const now = { x: box[0], y: box[1], width: box[2] - box[0], height: box[3] - box[1] };
  const by = value - now[name];
  const part = { x: "inside", y: "inside", width: "e", height: "s" }[name];
  return dragged(box, part, name === "x" || name === "width" ? [by, 0] : [0, by], size);
}

// Keys: what a key means, given where the focus is and what is asked.

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const NAMED = {
  Delete: { do: "discard" },
  PageDown: { do: "turn", by: 1 },
  PageUp: { do: "turn", by: -1 },
  "]": { do: "turn", by: 1 },
  "[": { do: "turn", by: -1 },
  "+": { do: "zoom", factor: 1.25 },
  "=": { do: "zoom", factor: 1.25 },
  "-": { do: "zoom", factor: 0.8 },
  "?": { do: "toggle", what: "help" },
};
const LETTERS = {
  a: "accept", x: "discard", n: "create", i: "ignore", s: "skip", u: "undo", r: "redo", g: "jump",
};
const AGAIN = new Set(["step", "nudge", "turn", "zoom", "undo", "redo", "hold"]); // a held key repeats

/** Return the letter of a key, by its place where the layout has no Latin ones. */
function letterOf({ key, code = "" }) {
  if (/^[a-z]$/i.test(key)) return key.toLowerCase();
  return /^Key[A-Z]$/.test(code) && key.charCodeAt(0) > 127 ? code.slice(3).toLowerCase() : "";
}

/** Return the digit of a key; a digit above the letters needs no Shift, whatever the layout. */
function digitOf({ key, code = "", shiftKey }) {
  const isDigit = /^[0-9]$/.test(key);
  if (/^Digit[0-9]$/.test(code) && (isDigit || !shiftKey)) return Number(code.slice(5));
  return isDigit ? Number(key) : null;
}

/** Return what an arrow does. */
function arrow([x, y], { shiftKey, altKey, ctrlKey, metaKey }) {
  const by = ctrlKey || metaKey ? 10 : 1;
  if (altKey) return { do: "nudge", part: "se", by: [x, y] };
  if (shiftKey) return { do: "nudge", part: "inside", by: [x * by, y * by] };
  return by === 1 ? { do: "step", by: x + y } : null;
}

/** Return what a key without Ctrl and Alt does. */
function plainKey(event, kind) {
  const digit = digitOf(event);
  if (digit !== null) return digit ? { do: "choose", label: digit } : { do: "zoom", factor: 0 };
  if (NAMED[event.key]) return NAMED[event.key];
  const letter = letterOf(event);
  if (event.shiftKey && letter === "a") return { do: "judgeAll", verdict: "accept" };
  if (event.shiftKey && letter === "x") return { do: "judgeAll", verdict: "reject" };
  if (event.shiftKey) return null;
  if (kind === "verify" && letter === "y") return { do: "answer", verdict: "accept" };
  if (kind === "verify" && letter === "n") return { do: "answer", verdict: "reject" };
  if (letter === "e") return { do: "toggle", what: "evidence" };
  return LETTERS[letter] ? { do: LETTERS[letter] } : null;
}

/**
 * Return the command of a key, or null for a key that is left alone (Tab always is).
 *
 * `where` the focus is: "field" (an input or a select), "button", "entry" (of the list) or "page".
 */
export function action(event, { where = "page", kind = null } = {}) {
  const command = meaning(event, where, kind);
  return event.repeat && command && !AGAIN.has(command.do) ? { do: "nothing" } : command;
}

function meaning(event, where, kind) {
  const { key, altKey, shiftKey } = event;
  const control = event.ctrlKey || event.metaKey;
  if (key === "Tab" || event.isComposing) return null;
  if (where === "field") return key === "Escape" ? { do: "leaveField" } : null;
  if (ARROWS[key]) return arrow(ARROWS[key], event);
  if (key === "[" || key === "]") return NAMED[key]; // with AltGr on some layouts
  if (control && !altKey) {
    const letter = letterOf(event);
    if (letter === "z") return { do: shiftKey ? "redo" : "undo" };
    return letter === "y" ? { do: "redo" } : null;
  }
  if (control || altKey) return null;
  if (key === "Escape") return { do: "escape" };
  if (key === "Enter") return where === "button" ? null : { do: "finish" };
  if (key === " ") return where === "page" ? { do: "hold" } : null;
  return plainKey(event, kind);
}

// Time and messages: seconds that count, events that are kept until they are saved.

/** Return the seconds to wait before the next try. */
export const backoff = (tries) => Math.min(5 * 2 ** tries, 60);

/** Counts the seconds of a person at work; `now` is in seconds. */
export class Clock {
  constructor(now) {
    Object.assign(this, { at: now, input: now, counted: 0, hidden: false });
  }

  /** Return the seconds since `take`, without those that were idle or hidden. */
  seconds(now) {
    if (!this.hidden) this.counted += Math.max(0, Math.min(now, this.input + IDLE) - this.at);
    this.at = Math.max(this.at, now);
    return this.counted;
  }

  touch(now) {
    this.seconds(now);
    this.input = now;
  }

  hide(hidden, now) {
    this.seconds(now);
    this.hidden = hidden;
  }

  /** Return the seconds, and count from 0 again. */
  take(now) {
    const seconds = this.seconds(now);
    this.counted = 0;
    return seconds;
  }
}

/** Says when to ask again for what was not answered. */
export class Retry {
  tries = 0;
  at = null;

  due(now) {
    return this.at === null || now - this.at >= backoff(this.tries - 1);
  }

  asked(now) {
    this.at = now;
    this.tries += 1;
  }
}

/** Return what comes of it, or something else where the browser refuses. */
function attempt(act, otherwise = null) {
  try {
    return act();
  } catch {
    return otherwise; // no storage, or a full one: the caller says so
  }
}

/**
 * Return where unsaved events of a session are kept: one item each, so tabs cannot clash.
 *
 * What is put in `storage` is there at once for a page that is loaded again, but may be on the disk
 * minutes later; what is put in `vault` is on the disk soon, should the browser be killed.
 */
export function keeper(storage, session, vault = NOWHERE) {
  const prefix = `almining:${session}:`;
  const read = (name) => attempt(() => JSON.parse(storage.getItem(name)), null);
  const names = () => Array.from({ length: storage.length }, (_, i) => storage.key(i));
  return {
    put(event) {
      vault.put(event);
      return attempt(() => (storage.setItem(prefix + event.id, JSON.stringify(event)), true), false);
    },
    drop(id) {
      vault.drop(id);
      attempt(() => storage.removeItem(prefix + id));
    },
    /** Return what is in the storage, in the order it was done. */
    all() {
      const mine = attempt(names, []).filter((name) => name.startsWith(prefix));
      const found = mine.map((name) => [name.slice(prefix.length), read(name)]);
      return inOrder(found.filter(([id, event]) => event?.id === id).map(([, event]) => event));
    },
    /** Return, later, what is in the vault, in the order it was done. */
    rest: async () => inOrder(await vault.all()),
  };
}

const NOWHERE = { put() {}, drop() {}, all: async () => [] };
const inOrder = (events) => events.sort((a, b) => (a.at < b.at ? -1 : Number(a.at > b.at)));

/** Return a vault in IndexedDB; where that is refused, it keeps nothing. */
function vaultOf(session) {
  const opened = new Promise((done, fail) => {
    const asked = indexedDB.open("almining", 1);
    asked.onupgradeneeded = () => asked.result.createObjectStore("unsaved");
    asked.onsuccess = () => done(asked.result);
    asked.onerror = () => fail(asked.error);
  });
  const run = async (mode, call) => {
    const transaction = (await opened).transaction("unsaved", mode, { durability: "strict" });
    const asked = call(transaction.objectStore("unsaved"));
    return new Promise((done, fail) => {
      transaction.oncomplete = () => done(asked.result);
      transaction.onabort = () => fail(transaction.error);
    });
  };
  const mine = () => IDBKeyRange.bound([session], [session, []]);
  return {
    put: (event) => run("readwrite", (kept) => kept.put(event, [session, event.id])).catch(() => {}),
    drop: (id) => run("readwrite", (kept) => kept.delete([session, id])).catch(() => {}),
    all: () => run("readonly", (kept) => kept.getAll(mine())).catch(() => []),
  };
}

/** Holds the events: those saved, those on their way, those refused. */
export class Post {
  log = new Map();
  pending = new Map();
  refused = new Map();
  retry = new Retry();
  since = null; // when the kernel was first asked without an answer
  keeps = true; // whether the browser keeps what is not saved

  constructor(send, kept, now) {
    Object.assign(this, { send, kept, now, stamp: 0 });
  }

  get events() {
    return [...this.log.values(), ...this.pending.values()];
  }

  get unsaved() {
    return this.pending.size + this.refused.size;
  }

  /** Return a time that is later than any before, so that kept events have an order. */
  time() {
    this.stamp = Math.max(Date.now(), this.stamp + 1);
    return new Date(this.stamp).toISOString();
  }

  find(id) {
    return this.log.get(id) ?? this.pending.get(id);
  }

  /** Take in the kernel's log and what the browser kept; send what the kernel does not have. */
  open(events) {
    this.join(events);
    this.recover(this.kept.all());
    if (this.pending.size) this.deliver([...this.pending.values()]);
  }

  /** Take in events that were kept; return those that nobody knew of. */
  recover(events) {
    const known = [this.log, this.refused, this.pending];
    const lost = events.filter(({ id }) => !known.some((some) => some.has(id)));
    for (const { id } of events) if (this.log.has(id)) this.kept.drop(id);
    for (const event of events) this.stamp = Math.max(this.stamp, Date.parse(event.at) || 0);
    for (const event of inOrder([...this.pending.values(), ...lost])) {
      this.pending.delete(event.id);
      this.pending.set(event.id, event);
    }
    return lost;
  }

  join(events) {
    for (const event of events) {
      if (!this.log.has(event.id)) this.log.set(event.id, event);
      this.pending.delete(event.id);
    }
  }

  write(events) {
    for (const event of events) {
      this.keeps = this.kept.put(event) && this.keeps;
      this.pending.set(event.id, event);
    }
    this.deliver(events);
  }

  deliver(events) {
    if (this.since === null) {
      this.since = this.now();
      this.retry.asked(this.since);
    }
    this.send({ type: "events", events });
  }

  saved({ ids, events, refused }) {
    this.join(events);
    for (const id of ids) {
      if (this.pending.has(id)) this.join([this.pending.get(id)]);
      this.kept.drop(id); // of another tab, perhaps
    }
    for (const { id, text } of refused) {
      if (this.pending.has(id)) this.refused.set(id, { event: this.pending.get(id), text });
      this.pending.delete(id);
    }
    this.retry = new Retry();
    this.heard();
    if (this.pending.size) this.retry.asked(this.since);
  }

  /** The kernel answered, even if it saved nothing. */
  heard() {
    this.since = this.pending.size ? this.now() : null;
  }

  dismiss(id) {
    this.refused.delete(id);
    this.kept.drop(id);
  }

  /** Send again what was not answered for long enough. */
  tick() {
    const now = this.now();
    if (!this.pending.size || !this.retry.due(now)) return;
    this.retry.asked(now);
    this.send({ type: "events", events: [...this.pending.values()] });
  }

  /** Return the seconds the kernel has not answered for. */
  late() {
    return this.since === null ? 0 : this.now() - this.since;
  }
}

// Painting: what a box looks like says whose it is, by its line as well as by its colour.

const MANY = 40; // boxes above which a label shows only if it is no wider than its box
const short = (text) => (text.length > 40 ? `${text.slice(0, 39)}…` : text);
const colourOf = (label) => PALETTE[(label - 1) % PALETTE.length];
const LINES = { known: [], drawn: [], accepted: [], proposed: [6, 4], rejected: [] };

const haloOf = (colour) => (DARK.includes(colour) ? "rgba(255,255,255,0.75)" : "rgba(0,0,0,0.6)");

/** Stroke a rectangle of the canvas over a halo, light under dark colours. */
function stroke(pen, [x1, y1, x2, y2], colour, width, dash = [], halo = haloOf(colour)) {
  const lines = [[halo, width + 2, []], [colour, width, dash]];
  for (const [style, wide, pattern] of halo ? lines : lines.slice(1)) {
    Object.assign(pen, { strokeStyle: style, lineWidth: wide });
    pen.setLineDash(pattern);
    pen.strokeRect(x1, y1, x2 - x1, y2 - y1);
  }
  pen.setLineDash([]);
}

function line(pen, x1, y1, x2, y2) {
  pen.beginPath();
  pen.moveTo(x1, y1);
  pen.lineTo(x2, y2);
  pen.stroke();
}

/** Paint a box of the review, without its label. */
function paintBox(pen, one, place, selected) {
  const [x1, y1, x2, y2] = place;
  const colour = one.ignore ? GREY : colourOf(one.label);
  const dash = one.ignore ? [2, 3] : LINES[one.status];
  const width = one.status === "rejected" ? 1 : 2;
  stroke(pen, place, colour, selected ? width + 2 : width, dash);
  if (one.status === "rejected") line(pen, x1, (y1 + y2) / 2, x2, (y1 + y2) / 2);
  else if (one.ignore) {
    line(pen, x1, y1, x2, y2);
    line(pen, x1, y2, x2, y1);
  }
}

/** Return what a box of the evidence is called, on the image and beneath it. */
const letter = (i) => String.fromCharCode(65 + (i % 26));

/** Paint the box that is asked about. */
function paintAsked(pen, place) {
  stroke(pen, place, "#000000", 6, [], null);
  stroke(pen, place, "#ffffff", 3, [], null);
}

function paintHandles(pen, [x1, y1, x2, y2]) {
  const [middle, centre] = [(x1 + x2) / 2, (y1 + y2) / 2];
  const spots = [[x1, y1], [middle, y1], [x2, y1], [x1, centre], [x2, centre], [x1, y2], [middle, y2]];
  Object.assign(pen, { fillStyle: "#ffffff", strokeStyle: "#000000", lineWidth: 1.5 });
  for (const [x, y] of [...spots, [x2, y2]]) {
    pen.fillRect(x - 4, y - 4, 8, 8);
    pen.strokeRect(x - 4, y - 4, 8, 8);
  }
}

/** Paint a label where it hides no other, or not at all; a list says the same in words. */
function paintLabel(pen, room, taken, { text, place, colour, struck, must, within }) {
  const [x1, y1, x2, y2] = place;
  const [width, height] = [pen.measureText(text).width + 8, 17];
  if (within && width > x2 - x1) return;
  if (x2 < 0 || y2 < 0 || x1 > room.width || y1 > room.height) return;
  const [above, right] = [y1 - height, x2 - width];
  const spots = [[x1, above], [x1, y1], [x1, y2], [right, y2 - height], [right, above], [right, y2]];
  const inside = spots.map(([x, y]) => [
    clamp(x, 0, Math.max(room.width - width, 0)), clamp(y, 0, room.height - height),
  ]);
  const free = ([x, y]) => !taken.some(
    ([left, top, wide]) =>
      x < left + wide && left < x + width && y < top + height && top < y + height,
  );
  const [x, y] = inside.find(free) ?? (must ? inside[0] : []);
  if (x === undefined) return;
  taken.push([x, y, width]);
  const ink = DARK.includes(colour) ? "#ffffff" : "#000000";
  pen.fillStyle = colour;
  pen.fillRect(x, y, width, height);
  pen.fillStyle = ink;
  pen.fillText(text, x + 4, y + 12.5);
  Object.assign(pen, { strokeStyle: ink, lineWidth: 1 });
  if (struck) line(pen, x + 3, y + 8.5, x + width - 3, y + 8.5);
}

/** Paint the blocks of a heat map: the higher the value, the less of the image shows. */
function paintBlocks(pen, { region, values }, [height, width], place) {
  const top = Math.max(...values.flat(), 1e-12);
  values.forEach((row, i) => row.forEach((value, j) => {
    const share = clamp(value / top, 0, 1) || 0;
    const right = Math.min((j + 1) * region, width);
    const [x1, y1, x2, y2] = place([
      j * region, i * region, right, Math.min((i + 1) * region, height),
    ]);
    pen.fillStyle = `hsla(${50 - 50 * share}, 100%, ${60 - 25 * share}%, ${0.75 * share})`;
    pen.fillRect(x1, y1, x2 - x1, y2 - y1);
  }));
}

/** Return the label of a box. */
function labelOf(one, place, classes) {
  const score = one.score === null ? "" : ` ${one.score.toFixed(2)}`;
  const sign = { proposed: "?", accepted: " ✓" }[one.status] ?? "";
  const name = short(classes[one.label - 1] ?? `class ${one.label}`);
  const text = `${name}${score}${sign}${one.ignore ? ", ignored" : ""}`;
  const colour = one.ignore ? GREY : colourOf(one.label);
  return { text, place, colour, struck: one.status === "rejected" };
}

/** Paint all that lies over the image: evidence, boxes, the one asked about, the one selected. */
export function paintOverlay(pen, room, view, scene) {
  const { boxes, selected, asked, why, size, classes, draft } = scene;
  const place = ([x1, y1, x2, y2]) => [...toCanvas(view, [x1, y1]), ...toCanvas(view, [x2, y2])];
  const note = (box, text) => ({ text: short(text), place: place(box), colour: "#000000", must: true });
  pen.font = "12px sans-serif";
  if (why?.blocks) paintBlocks(pen, why.blocks, size, place);
  const marks = why?.marks ?? [];
  for (const { box } of marks) {
    const around = place(box).map((side, i) => side + (i < 2 ? -3 : 3)); // of a box that is the same
    stroke(pen, around, "#ffffff", 2, [10, 3, 2, 3], "#000000");
  }
  for (const one of boxes) {
    if (one !== selected && one.key !== asked?.key) paintBox(pen, one, place(one.box), false);
  }
  if (asked) paintAsked(pen, place(asked.box));
  if (selected && selected.key !== asked?.key) paintBox(pen, selected, place(selected.box), true);
  if (selected) paintHandles(pen, place(selected.box));
  if (draft) stroke(pen, place(draft.box), colourOf(draft.label), 2);
  const many = boxes.length > MANY;
  const labels = boxes
    .filter((one) => one !== selected && !(one.key === asked?.key && asked.text))
    .map((one) => ({ ...labelOf(one, place(one.box), classes), within: many }));
  labels.unshift(...marks.map(({ box }, i) => note(box, letter(i))));
  if (selected && !(selected.key === asked?.key && asked.text)) {
    labels.unshift({ ...labelOf(selected, place(selected.box), classes), must: true });
  }
  if (asked) labels.unshift(note(asked.box, asked.text));
  const taken = [];
  for (const label of labels) if (label.text) paintLabel(pen, room, taken, label);
}

// The document: small helpers, so that text is only ever text.

/** Return an element with properties ("aria-…" and "data-…" as attributes) and children. */
function make(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-") || name === "role" || name === "for") node.setAttribute(name, value);
    else node[name] = value;
  }
  node.append(...children);
  return node;
}

function write(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Make the children of a node those of some values, by key; what stays is not made again. */
function mirror(node, values, keyOf, build, patch) {
  const old = new Map([...node.children].map((child) => [child.dataset.of, child]));
  const children = values.map((value, i) => {
    const key = String(keyOf(value, i));
    const child = old.get(key) ?? build(value, i);
    child.dataset.of = key;
    old.delete(key);
    patch(child, value, i);
    return child;
  });
  for (const gone of old.values()) gone.remove();
  children.forEach((child, i) => {
    if (node.children[i] !== child) node.insertBefore(child, node.children[i] ?? null);
  });
}

function question({ kind, label }, name, taken) {
  if (kind === "verify") return `Is the marked box of class “${name(label)}”?`;
  if (kind === "region") {
    const claim = taken?.status === "proposed" ? ` The detector takes it for “${name(taken.label)}”.` : "";
    return `What is in the marked box?${claim}`;
  }
  if (kind === "tag") return "Which classes are in this image?";
  return "Which objects are there? Accept or reject each dashed box and draw what is missing.";
}

const EMPTY = { boxes: [], tags: [], verdict: null, status: "open", seconds: 0, size: null };
const CHANGED = "Changed after it was handed in: finish it, and hand in again.";
const NOTHING = "Nothing to review. Call cycle.run again: it trains on the answers and picks the next.";
const PARTS = `
<div class="ar-bar">
  <button data-run='{"do":"turn","by":-1}' title="previous image (PageUp)">‹ Previous</button>
  <strong data-part="position"></strong>
  <button data-run='{"do":"turn","by":1}' title="next image (PageDown)">Next ›</button>
  <label>Go to <select data-part="jump"></select></label>
  <label>Filter <select data-part="filter">
    <option>all</option><option>open</option><option>finished</option><option>skipped</option>
  </select></label>
  <button data-part="undo" data-run='{"do":"undo"}' title="undo (u)">Undo</button>
  <button data-part="redo" data-run='{"do":"redo"}' title="redo (r)">Redo</button>
  <button data-part="keys" data-run='{"do":"toggle","what":"help"}' title="keys (?)" aria-label="Keys">?</button>
  <span class="ar-counts"><span data-part="counts"></span> · <span data-part="time"></span> ·
    <b data-part="unsaved"></b></span>
</div>
<p class="ar-late" data-part="late" role="status"></p>
<div data-part="alerts" role="alert"></div>
<section class="ar-help" data-part="help" aria-label="Keys" hidden><dl data-part="legend"></dl></section>
<p class="ar-note" data-part="note" role="status"></p>
<div class="ar-main" data-part="main">
  <div class="ar-left">
    <div class="ar-stage" data-part="stage">
      <canvas data-part="picture" aria-hidden="true"></canvas>
      <canvas data-part="overlay" role="img"></canvas>
      <p class="ar-waiting" data-part="waiting">waiting for the kernel…</p>
    </div>
    <div class="ar-bar">
      <button data-run='{"do":"zoom","factor":0.8}' title="zoom out (−)" aria-label="Zoom out">−</button>
      <button data-run='{"do":"zoom","factor":0}' title="whole image (0)">Whole image</button>
      <button data-run='{"do":"zoom","factor":1.25}' title="zoom in (+)" aria-label="Zoom in">+</button>
      <button data-part="rejected" data-run='{"do":"toggle","what":"rejected"}'>Show rejected</button>
      <button data-part="evidence" data-run='{"do":"toggle","what":"evidence"}' title="evidence (e)">Show evidence</button>
    </div>
  </div>
  <div class="ar-right">
    <p class="ar-question" data-part="question" role="status"></p>
    <div class="ar-bar" data-part="verify">
      <button class="ar-big" data-part="yes" data-run='{"do":"answer","verdict":"accept"}'>Yes (y)</button>
      <button class="ar-big" data-part="no" data-run='{"do":"answer","verdict":"reject"}'>No (n)</button>
    </div>
    <section data-part="labels">
      <h4 data-part="chosen"></h4>
      <div class="ar-classes" data-part="classes"></div>
      <button data-part="nothing" data-run='{"do":"nothingHere"}'>Nothing here (x)</button>
    </section>
    <section data-part="listing">
      <h4 data-part="listed"></h4>
      <ul class="ar-list" data-part="list" aria-label="Boxes"></ul>
      <div class="ar-bar">
        <button data-run='{"do":"create"}'>New box (n)</button>
        <button data-part="acceptAll" data-run='{"do":"judgeAll","verdict":"accept"}'
          title="all that are undecided (Shift+A)">Accept all</button>
        <button data-part="rejectAll" data-run='{"do":"judgeAll","verdict":"reject"}'
          title="all that are undecided (Shift+X)">Reject all</button>
      </div>
    </section>
    <fieldset data-part="fields">
      <legend>Selected box</legend>
      <label>class <select data-field="label"></select></label>
      <label>x <input type="number" step="any" data-field="x"></label>
      <label>y <input type="number" step="any" data-field="y"></label>
      <label>width <input type="number" step="any" data-field="width"></label>
      <label>height <input type="number" step="any" data-field="height"></label>
      <label><input type="checkbox" data-field="ignore"> ignore (i)</label>
      <div class="ar-bar">
        <button data-part="accept" data-run='{"do":"accept"}'>Accept (a)</button>
        <button data-part="reject" data-run='{"do":"discard"}'>Reject (x)</button>
        <button data-part="remove" data-run='{"do":"discard"}'>Delete (x)</button>
      </div>
    </fieldset>
  </div>
  <div class="ar-bar ar-foot">
    <button class="ar-big" data-part="finish" data-run='{"do":"finish"}'>Finish (Enter)</button>
    <button data-run='{"do":"skip"}'>Skip (s)</button>
    <button data-part="reopen" data-run='{"do":"reopen"}'>Reopen</button>
    <p class="ar-live" data-part="live" aria-live="polite"></p>
    <button data-part="handIn" data-run='{"do":"handIn"}'>Hand in</button>
    <div class="ar-bar ar-note" data-part="sure" role="group" aria-label="Hand in" hidden>
      <span data-part="left"></span>
      <button data-part="others" data-run='{"do":"handIn","sure":true}'>Hand in the others</button>
      <button data-run='{"do":"toggle","what":"sure"}'>Go on reviewing</button>
    </div>
  </div>
  <section class="ar-why" data-part="why">
    <h4>Why this one?</h4>
    <p data-part="reason"></p>
    <ul class="ar-marks" data-part="marks" aria-label="Boxes of the evidence"></ul>
    <ul class="ar-strip" data-part="strip"></ul>
  </section>
</div>`;

/** The widget on a page: what is shown, and what its buttons, keys and pointer do. */
class Page {
  batch = null;
  post = null;
  state = fold([]);
  committed = new Set();
  changed = new Set(); // since they were handed in
  images = new Map(); // by request: {bitmap, size, why, strip}; the one shown longest ago first
  wanted = new Map(); // by request: when it was asked for
  searched = false; // whether all that the browser kept was found
  alerts = new Map(); // text -> what dismissing it does
  current = null;
  selected = null;
  label = 1; // of the next box
  view = null;
  whole = true; // whether the view follows the size of the canvas
  draft = null; // a box being drawn, moved or resized: {key, box, label}
  drag = null;
  click = null; // where the last one was
  show = { evidence: true, rejected: true, help: false, sure: false };
  busy = null; // why the kernel saves nothing now
  held = false; // the space bar
  pointed = false; // whether the last input was the pointer's, not a key
  frame = 0;
  hello = new Retry();
  stop = new AbortController();
  clock = new Clock(performance.now() / 1000);

  constructor(model, root) {
    Object.assign(this, { model, root, part: {} });
    root.innerHTML = PARTS; // constant; data becomes text
    for (const node of root.querySelectorAll("[data-part]")) this.part[node.dataset.part] = node;
    for (const node of root.querySelectorAll("button")) node.type = "button";
    this.part.legend.append(...KEYS.flatMap(([key, text]) => [make("dt", {}, key), make("dd", {}, text)]));
    this.listen();
    this.update();
    this.greet();
  }

  now() {
    return performance.now() / 1000;
  }

  /** Return a function that shows what it throws instead of losing it. */
  guard(act) {
    const show = (error) => this.alert(`Something went wrong in the page: ${error?.message ?? error}`);
    return (...given) => {
      try {
        Promise.resolve(act.apply(this, given)).catch(show);
      } catch (error) {
        show(error);
      }
    };
  }

  listen() {
    const { signal } = this.stop;
    const on = (target, names, act, options = {}) => {
      for (const name of names.split(" ")) {
        target.addEventListener(name, this.guard(act), { signal, ...options });
      }
    };
    const { root, part } = this;
    on(root, "keydown", this.onKey);
    on(root, "keyup", this.onKeyUp);
    on(root, "click", this.onClick);
    on(root, "change", this.onChange);
    on(root, "focusin", this.onFocus);
    on(root, "focusout", () => {
      this.held = false;
      this.settle();
    });
    on(root, "keydown pointerdown pointermove wheel focusin", () => this.clock.touch(this.now()), {
      capture: true, passive: true,
    });
    on(root, "keydown pointerdown", ({ type }) => {
      this.pointed = type === "pointerdown";
    }, { capture: true, passive: true });
    const hide = () => this.clock.hide(document.hidden, this.now());
    on(document, "visibilitychange", hide);
    hide();
    on(part.overlay, "pointerdown", this.onDown);
    on(part.overlay, "pointermove", this.onMove);
    on(part.overlay, "pointerup", this.onUp);
    on(part.overlay, "pointercancel", this.cancel);
    on(part.overlay, "wheel", this.onWheel, { passive: false });
    this.onMessage = this.guard(this.receive);
    this.model.on("msg:custom", this.onMessage);
    const seen = new ResizeObserver(this.guard(() => this.paint(true)));
    seen.observe(part.stage);
    const timer = setInterval(this.guard(this.tick), 1000);
    signal.addEventListener("abort", () => (seen.disconnect(), clearInterval(timer)));
    this.watchPixels();
  }

  /** Paint again when the window comes to a screen of other pixels, or the browser zooms. */
  watchPixels() {
    const change = () => (this.paint(true), this.watchPixels());
    const query = matchMedia(`(resolution: ${devicePixelRatio}dppx)`);
    query.addEventListener("change", this.guard(change), { signal: this.stop.signal, once: true });
  }

  close() {
    this.stop.abort();
    cancelAnimationFrame(this.frame);
    this.model.off("msg:custom", this.onMessage);
    this.forget([...this.images.keys()]);
    this.root.remove();
  }

  // What is there

  get request() {
    return this.batch?.requests.find(({ id }) => id === this.current) ?? null;
  }

  item(id = this.current) {
    return (Object.hasOwn(this.state.requests, id) && this.state.requests[id]) || EMPTY;
  }

  get image() {
    return this.images.get(this.current) ?? null;
  }

  /** The boxes as they are shown: a draft in its place, rejected ones only when wanted. */
  get boxes() {
    const boxes = this.item().boxes.filter((one) => this.show.rejected || one.status !== "rejected");
    const { key, box } = this.draft ?? {};
    return key ? boxes.map((one) => (one.key === key ? { ...one, box } : one)) : boxes;
  }

  get box() {
    return this.boxes.find(({ key }) => key === this.selected) ?? null;
  }

  get undecided() {
    return this.item().boxes.filter(({ status }) => status === "proposed");
  }

  get draws() {
    return ["complete", "region"].includes(this.request?.kind);
  }

  /** The box that is asked about: of a region it may have been moved. */
  get asked() {
    const { kind, box, label } = this.request ?? {};
    if (kind === "verify") return { box, text: `${this.name(label)}?` };
    const one = kind === "region" && this.boxes.find(({ status }) => !OWN.has(status));
    return one ? { ...one, text: one.status === "proposed" ? "what is this?" : "" } : null;
  }

  get place() {
    return `${this.part.position.textContent}: ${this.request.image_id}`;
  }

  name(label) {
    return this.batch.classes[label - 1] ?? `class ${label}`;
  }

  those(status) {
    return (this.batch?.requests ?? []).filter(({ id }) => this.item(id).status === status);
  }

  // Messages

  send(message) {
    try {
      this.model.send(message);
    } catch (error) {
      this.alert(`The kernel cannot be reached: ${error?.message ?? error}. Run the cell again.`);
    }
  }

  greet() {
    this.hello.asked(this.now());
    this.send({ type: "hello" });
  }

  receive(message, buffers = []) {
    const { type } = message;
    if (type === "batch") return this.open(message);
    if (type === "image") return this.take(message, buffers);
    if (type === "error") return this.alert(message.text);
    if (!this.post) return null;
    this.busy = type === "busy" ? message.text : null;
    if (type === "busy") this.post.heard();
    if (type === "saved") this.post.saved(message);
    if (type === "committed") {
      this.hand(message.requests);
      this.say(message.text);
    }
    return this.update();
  }

  /** Begin with a batch, or hear again of the same one. */
  open(batch) {
    if (this.batch?.session !== batch.session) {
      this.forget([...this.images.keys()]);
      const vault = attempt(() => vaultOf(batch.session), NOWHERE);
      const kept = keeper(browser("localStorage"), batch.session, vault);
      this.searched = false;
      const post = new Post((message) => this.send(message), kept, () => this.now());
      this.post = post;
      kept.rest().then(this.guard((events) => this.post === post && this.found(events)));
      Object.assign(this, { current: null, selected: null, drag: null, draft: null });
    }
    this.batch = batch;
    this.hand(batch.committed);
    this.post.open(batch.events);
    this.update();
    if (this.request) return;
    this.current = null;
    const ids = batch.requests.map(({ id }) => id);
    const before = attempt(() => browser("sessionStorage").getItem(`almining:${batch.session}`));
    this.go(ids.includes(before) ? before : (this.those("open")[0]?.id ?? ids[0] ?? null));
  }

  hand(ids) {
    this.committed = new Set(ids);
    for (const id of ids) this.changed.delete(id);
  }

  /** Send what was found in the vault alone: the browser was killed. */
  found(events) {
    const lost = this.post.recover(events);
    this.searched = true;
    if (lost.length) this.post.deliver(lost);
    this.update();
  }

  /** Keep an image that was asked for; another page's are left. */
  async take({ request, size, why, strip }, buffers) {
    if (!this.wanted.has(request) || this.images.has(request)) return;
    const files = buffers.map((view) => new Blob([view], { type: "image/jpeg" }));
    const bitmap = await createImageBitmap(files[0]).catch((error) => {
      throw new Error(`the image of ${request} cannot be shown: ${error.message}; skip it`);
    });
    if (this.stop.signal.aborted || this.images.has(request)) return bitmap.close();
    const pictures = strip.map((text, i) => ({ text, url: URL.createObjectURL(files[i + 1]) }));
    this.images.set(request, { bitmap, size, why, strip: pictures });
    this.wanted.delete(request);
    const old = [...this.images.keys()].filter((id) => id !== this.current && id !== request);
    this.forget(old.slice(0, Math.max(0, this.images.size - BITMAPS)));
    if (request === this.current) this.begin();
  }

  /** Show an image from its beginning: of a region, the box asked about is selected. */
  begin() {
    if (this.request?.kind === "region") this.selected ??= this.boxes[0]?.key ?? null;
    this.update();
    this.paint(true);
  }

  forget(ids) {
    for (const id of ids) {
      this.images.get(id).bitmap.close();
      for (const { url } of this.images.get(id).strip) URL.revokeObjectURL(url);
      this.images.delete(id);
    }
  }

  want(id) {
    if (!id || this.images.has(id)) return;
    if (!this.wanted.has(id)) this.wanted.set(id, new Retry());
    const retry = this.wanted.get(id);
    if (!retry.due(this.now())) return;
    retry.asked(this.now());
    this.send({ type: "want", request: id });
  }

  tick() {
    if (!this.batch && this.hello.due(this.now())) this.greet();
    this.post?.tick();
    this.want(this.current);
    this.updateTime();
  }

  // Moving about, and writing what was done

  /** Show a request; the seconds spent on the one before are written down. */
  go(id) {
    if (id === this.current) return;
    this.settle();
    const spent = this.current && this.clock.seconds(this.now()) >= 0.2;
    if (spent && !this.committed.has(this.current)) this.act([{ do: "look" }]);
    this.clock.take(this.now());
    Object.assign(this, { current: id, selected: null, view: null, whole: true, drag: null, draft: null });
    if (id) attempt(() => browser("sessionStorage").setItem(`almining:${this.batch.session}`, id));
    const image = this.images.get(id);
    if (image && this.images.delete(id)) this.images.set(id, image);
    this.want(id);
    this.want(this.nextOpen());
    this.begin();
    if (this.request) this.say(this.place);
  }

  /** Return the next open request after the current one, from the start again at the end. */
  nextOpen() {
    const { requests } = this.batch;
    const at = requests.findIndex(({ id }) => id === this.current);
    const order = [...requests.slice(at + 1), ...requests.slice(0, Math.max(at, 0))];
    return order.find(({ id }) => this.item(id).status === "open" && !this.committed.has(id))?.id;
  }

  /** Write events about a request; return whether that was possible. */
  act(things, request = this.current) {
    const again = things.some((thing) => thing.do !== "look") && this.committed.delete(request);
    if (again) this.changed.add(request);
    const seconds = round(this.clock.take(this.now()));
    const events = things.map((thing, i) => ({
      id: uuid(), request, ...thing, seconds: i ? 0 : seconds, at: this.post.time(),
    }));
    const kept = this.post.keeps;
    this.post.write(events);
    if (kept && !this.post.keeps) {
      this.alert("This browser keeps nothing: what is unsaved is lost when the page is closed.");
    }
    this.update();
    return true;
  }

  /** Return whether the image is there to be judged; say so if not. */
  ready() {
    if (!this.image) this.say("The image is not there yet: waiting for the kernel.");
    else this.view ??= fit(this.image.size, this.room());
    return Boolean(this.image);
  }

  edit(...things) {
    return things.length > 0 && this.ready() && this.act(things);
  }

  /** Write down a box that was moved by keys. */
  settle() {
    if (!this.draft || this.drag) return;
    const { key, box } = this.draft;
    this.draft = null;
    this.edit({ do: "change", key, box });
  }

  say(text) {
    const same = this.part.live.textContent === text;
    write(this.part.live, same ? `${text}\u00a0` : text); // a change is read out
  }

  alert(text, dismiss = () => {}) {
    this.alerts.set(text, dismiss);
    this.updateAlerts();
  }

  // Commands

  run(command) {
    if (command.do !== "nudge") this.settle();
    this[command.do](command);
  }

  nothing() {}

  hold() {
    this.held = true;
  }

  turn({ by }) {
    const { filter } = this.part;
    const { requests } = this.batch ?? { requests: [] };
    const at = requests.findIndex(({ id }) => id === this.current);
    const way = by > 0 ? requests.slice(at + 1) : requests.slice(0, Math.max(at, 0)).reverse();
    const found = way.find(({ id }) => ["all", this.item(id).status].includes(filter.value));
    if (found) this.go(found.id);
    else this.say(`There is no ${by > 0 ? "next" : "previous"} image (filter: ${filter.value}).`);
  }

  jump() {
    this.part.jump.focus();
  }

  /** Show or hide the keys, the evidence, rejected boxes, the question before handing in. */
  toggle({ what }) {
    this.show[what] = !this.show[what];
    this.update();
    if (NAMES[what] && this.focused() === this.root) this.say(`${NAMES[what]} ${this.show[what] ? "shown" : "hidden"}.`);
  }

  escape() {
    if (this.drag) return this.cancel();
    const shown = ["help", "sure"].find((what) => this.show[what]);
    if (shown) return this.toggle({ what: shown });
    if (this.selected) return this.select(null);
    const around = this.root.parentElement.closest("[tabindex]"); // the cell
    return around ? around.focus({ preventScroll: true }) : this.focused()?.blur();
  }

  leaveField() {
    this.root.focus({ preventScroll: true });
  }

  /** Select a box and say it, after other words; where the focus goes to it, it is read anyway. */
  select(key, words = "") {
    const { list } = this.part;
    const listed = list.contains(this.focused());
    if (key !== this.selected) {
      this.selected = key;
      this.update();
    }
    const at = this.boxes.findIndex((one) => one.key === key);
    const entry = list.children[at];
    const box = entry && !listed ? `Box ${at + 1} of ${this.boxes.length}: ${this.words(this.box)}` : "";
    if (words || box) this.say(`${words} ${box}`.trim());
    if (!entry) return;
    if (listed) entry.firstChild.focus();
    const top = entry.offsetTop;
    list.scrollTop = clamp(list.scrollTop, top + entry.offsetHeight - list.clientHeight, top);
  }

  step({ by }) {
    const { boxes } = this;
    if (!boxes.length) return this.say("There are no boxes.");
    const at = boxes.findIndex(({ key }) => key === this.selected);
    const next = at < 0 ? (by > 0 ? 0 : boxes.length - 1) : (at + by + boxes.length) % boxes.length;
    return this.select(boxes[next].key);
  }

  nudge({ part, by }) {
    if (!this.box) return this.say("No box is selected: the arrows select one.");
    if (!this.image) return this.ready();
    this.draft = { key: this.selected, box: dragged(this.box.box, part, by, this.image.size) };
    return this.paint();
  }

  create() {
    if (!this.draws || !this.ready()) return;
    const [height, width] = this.image.size;
    const { clientWidth, clientHeight } = this.part.stage;
    const [x, y] = toImage(this.view, [clientWidth / 2, clientHeight / 2]);
    const half = Math.min(clientWidth, clientHeight) / 8 / this.view.scale;
    const [cx, cy] = [clamp(x, half, width - half), clamp(y, half, height - half)];
    this.add([cx - half, cy - half, cx + half, cy + half], "New box: Shift and Alt with arrows.");
  }

  add(corners, text) {
    const key = `d:${uuid()}`;
    const box = bounded(corners, this.image.size);
    this.selected = key;
    if (this.edit({ do: "add", key, box, label: this.label, ignore: false })) this.say(text);
  }

  /** Accept the selected box, and go to the next one undecided. */
  accept() {
    const { box } = this;
    if (!box) return this.select(this.undecided[0]?.key ?? null);
    if (OWN.has(box.status)) return this.say("Only a predicted box is accepted.");
    if (box.status === "accepted") return this.advance(box.key);
    return this.edit({ do: "accept", key: box.key }) && this.advance(box.key);
  }

  /** Reject the selected box if it was predicted, delete it if not. */
  discard() {
    const { box } = this;
    if (!box) return this.select(this.undecided[0]?.key ?? null);
    const own = OWN.has(box.status);
    if (box.status === "rejected") return this.advance(box.key);
    const at = this.boxes.indexOf(box);
    if (!this.edit({ do: own ? "remove" : "reject", key: box.key })) return null;
    if (own) this.select(this.boxes[Math.min(at, this.boxes.length - 1)]?.key ?? null, "Deleted.");
    return own || this.advance(box.key);
  }

  advance(key) {
    const order = this.item().boxes;
    const at = order.findIndex((one) => one.key === key);
    const left = [...order.slice(at + 1), ...order.slice(0, at)];
    const next = left.find(({ status }) => status === "proposed");
    if (next) this.select(next.key, `${this.undecided.length} undecided.`);
    else this.say("No box is undecided.");
  }

  judgeAll({ verdict }) {
    const boxes = this.undecided;
    if (!boxes.length) return this.say("No box is undecided.");
    const done = this.edit(...boxes.map(({ key }) => ({ do: verdict, key })));
    return done && this.say(`${boxes.length === 1 ? "1 box" : `${boxes.length} boxes`} ${verdict}ed.`);
  }

  nothingHere() {
    const one = this.asked;
    if (one?.key && one.status !== "rejected") this.edit({ do: "reject", key: one.key });
  }

  ignore() {
    const { box } = this;
    if (!box) return this.say("No box is selected: the arrows select one.");
    const done = this.edit({ do: "change", key: box.key, ignore: !box.ignore });
    return done && this.say(box.ignore ? "No longer ignored." : "Ignored.");
  }

  /** A class was chosen: of the image, of the box selected or asked about, or of the next box. */
  choose({ label }) {
    if (!this.batch || label > this.batch.classes.length || this.request?.kind === "verify") return;
    if (this.request?.kind === "tag") {
      const present = !this.item().tags.includes(label);
      if (this.edit({ do: "tag", label, present })) {
        this.say(`${this.name(label)}: ${present ? "present" : "not present"}`);
      }
      return;
    }
    this.label = label;
    const box = this.box ?? this.asked;
    const settled = !box || (box.label === label && !["proposed", "rejected"].includes(box.status));
    if (!settled && !this.edit({ do: "change", key: box.key, label })) return;
    if (settled) this.update();
    this.say(`${box ? "The" : "The next"} box is of class ${this.name(label)}.`);
  }

  zoom({ factor }) {
    const { width, height } = this.room();
    this.zoomAt(factor, [width / 2, height / 2]);
  }

  zoomAt(factor, point) {
    if (!this.ready()) return;
    this.view = factor && zoom(this.view, factor, point, this.image.size, this.room());
    this.whole = !factor;
    this.paint(true);
  }

  answer({ verdict }) {
    const { status, verdict: before } = this.item();
    const same = status === "finished" && before === verdict;
    if (same || this.edit({ do: "verdict", verdict })) this.goOn();
  }

  finish() {
    if (!this.request) return null;
    const left = this.undecided.length;
    if (this.item().status === "finished" || this.committed.has(this.current)) return this.goOn();
    if (this.request.kind === "verify") return this.say("Answer with Yes (y) or No (n).");
    if (left) {
      return this.say(
        `${left} predicted ${left > 1 ? "boxes are" : "box is"} undecided: ` +
          "Shift+A accepts, Shift+X rejects all that are left.",
      );
    }
    return this.edit({ do: "finish" }) && this.goOn();
  }

  skip() {
    if (this.request && (this.item().status === "skipped" || this.act([{ do: "skip" }]))) this.goOn();
  }

  reopen() {
    if (this.item().status !== "open") this.act([{ do: "reopen" }]);
  }

  goOn() {
    const next = this.nextOpen();
    const done = `Finished ${this.those("finished").length} of ${this.batch.requests.length}.`;
    if (next) this.go(next);
    this.say(`${done} ${next ? `Now ${this.place}` : "None is left: hand in."}`);
  }

  undo() {
    this.revert("undo", this.state.undo, "Undid");
  }

  redo() {
    this.revert("redo", this.state.redo, "Did again");
  }

  revert(what, id, said) {
    if (!id) return this.say(`There is nothing to ${what}.`);
    const event = this.post.find(id);
    const request = this.batch.requests.find((one) => one.id === event.request);
    const label = event.label ?? this.item(request.id).boxes.find(({ key }) => key === event.key)?.label;
    this.go(request.id);
    if (!this.act([{ do: what, of: id }])) return null;
    if (event.key && this.item().boxes.some(({ key }) => key === event.key)) this.select(event.key);
    return this.say(`${said}: ${event.do}${label ? ` ${this.name(label)}` : ""} on ${request.image_id}.`);
  }

  handIn({ sure = false }) {
    const left = this.batch.requests.filter(({ id }) => !this.committed.has(id));
    const open = left.filter(({ id }) => this.item(id).status === "open").length;
    if (open === left.length) return this.say("Nothing is finished or skipped yet.");
    this.show.sure = open > 0 && !sure;
    this.update();
    if (this.show.sure) return this.part.others.focus();
    this.say("Handing in…");
    return this.send({ type: "commit", partial: open > 0 });
  }

  dismiss({ text }) {
    this.alerts.get(text)?.();
    this.alerts.delete(text);
    this.update();
  }

  // Input

  focused() {
    const node = this.root.getRootNode().activeElement;
    return this.root.contains(node) ? node : null;
  }

  onKey(event) {
    event.stopPropagation();
    const { target } = event;
    const entry = this.part.list.contains(target) && "entry";
    const field = target.matches("select, input:not([type=checkbox])") && "field";
    const button = target.matches("button, input") && "button";
    const where = entry || field || button || "page";
    const command = action(event, { where, kind: this.request?.kind });
    if (!command) return;
    event.preventDefault();
    this.run(command);
  }

  onKeyUp(event) {
    if (event.key === " ") this.held = false;
    this.settle();
  }

  onClick(event) {
    const button = event.target.closest("[data-run]");
    if (!button) return;
    const command = JSON.parse(button.dataset.run);
    const twice = event.detail > 1 && ["answer", "finish", "skip"].includes(command.do);
    if (this.pointed) this.leaveField(); // keys are for the page, not for what was clicked
    if (!twice) this.run(command); // a double click is one answer, not one to the next image, too
  }

  onFocus({ target }) {
    if (this.part.list.contains(target)) this.select(target.closest("li").dataset.of);
  }

  onChange({ target }) {
    if (this.pointed && target.matches("select")) this.leaveField();
    if (target === this.part.jump) return this.go(target.value);
    const { box } = this;
    const name = target.dataset.field;
    if (!name || !box) return this.update();
    target.dataset.shown = target.value; // from here on it shows what the box is
    const change = { do: "change", key: box.key };
    if (name === "label") return this.choose({ label: Number(target.value) });
    if (name === "ignore") return this.edit({ ...change, ignore: target.checked });
    const value = target.value === "" ? NaN : Number(target.value);
    if (Number.isFinite(value) && this.image) {
      const moved = withField(box.box, name, value, this.image.size);
      if (String(moved) !== String(box.box)) this.edit({ ...change, box: moved });
    } else this.say(`${name} has to be a number.`);
    return this.update();
  }

  room() {
    return { width: this.part.stage.clientWidth, height: this.part.stage.clientHeight };
  }

  at(event) {
    const { left, top } = this.part.overlay.getBoundingClientRect();
    return [event.clientX - left, event.clientY - top];
  }

  /** Return what the pointer would take hold of: a part of the selected box, or null. */
  gripped(point) {
    const { box, view } = this;
    if (!box || !view || !this.draws) return null;
    return grip(box.box, toImage(view, point), NEAR / view.scale);
  }

  onDown(event) {
    this.root.focus({ preventScroll: true });
    if (this.drag || event.button > 1 || !this.ready()) return;
    this.settle();
    const start = this.at(event);
    const part = event.shiftKey ? null : this.gripped(start);
    const draws = part ? "grip" : this.draws ? "draw" : "look";
    const mode = event.button === 1 || this.held ? "pan" : draws;
    this.drag = { mode, part, start, last: start, moved: false, from: this.box };
    this.part.overlay.setPointerCapture(event.pointerId);
    event.preventDefault();
  }

  onMove(event) {
    const { drag, view } = this;
    const now = this.at(event);
    if (!drag) return this.point(now);
    const by = [now[0] - drag.start[0], now[1] - drag.start[1]];
    drag.moved ||= Math.hypot(...by) > 3;
    if (!drag.moved) return null;
    const { size } = this.image;
    if (drag.mode === "pan") {
      this.view = pan(view, [now[0] - drag.last[0], now[1] - drag.last[1]], size, this.room());
      this.whole = false;
    } else if (drag.mode === "draw") {
      const corners = [...toImage(view, drag.start), ...toImage(view, now)];
      this.draft = { key: null, box: bounded(corners, size), label: this.label };
    } else if (drag.mode === "grip") {
      const moved = dragged(drag.from.box, drag.part, by.map((one) => one / view.scale), size);
      this.draft = { key: drag.from.key, box: moved };
    }
    drag.last = now;
    return this.paint(drag.mode === "pan");
  }

  onUp() {
    const { drag, draft } = this;
    Object.assign(this, { drag: null, draft: null });
    if (!drag || drag.mode === "pan") return;
    if (!drag.moved) this.pick(drag.start);
    else if (drag.mode === "draw") this.add(draft.box, `Drew ${this.name(this.label)}.`);
    else if (this.boxes.some(({ key }) => key === draft?.key)) this.edit({ do: "change", ...draft });
    this.paint();
  }

  cancel() {
    Object.assign(this, { drag: null, draft: null });
    this.paint();
  }

  /** Select the smallest box under the pointer; the next one when it is clicked there again. */
  pick(point) {
    const found = under([...this.boxes], toImage(this.view, point), NEAR / 2 / this.view.scale);
    const again = this.click && Math.hypot(point[0] - this.click[0], point[1] - this.click[1]) < 5;
    const at = again ? found.findIndex(({ key }) => key === this.selected) + 1 : 0;
    this.click = point;
    this.select(found.length ? found[at % found.length].key : null);
  }

  point(at) {
    const part = this.gripped(at);
    const cursors = { inside: "move", n: "ns-resize", s: "ns-resize", e: "ew-resize", w: "ew-resize" };
    const corner = { nw: "nwse-resize", se: "nwse-resize", ne: "nesw-resize", sw: "nesw-resize" };
    const free = this.draws ? "crosshair" : "default";
    this.part.overlay.style.cursor = this.held ? "grab" : ({ ...cursors, ...corner }[part] ?? free);
  }

  onWheel(event) {
    if (!event.ctrlKey) return;
    event.preventDefault();
    this.zoomAt(Math.exp(-event.deltaY / 300), this.at(event));
  }

  // Showing

  /** Show the state of things; only what changed is touched. */
  update() {
    const held = this.focused();
    const asked = new Set(this.batch?.requests.map(({ id }) => id)); // not of cycles that are over
    this.state = fold((this.post?.events ?? []).filter((event) => asked.has(event.request)));
    if (!this.box && !this.drag) this.selected = null;
    const { request, root, part } = this;
    const item = this.item();
    const count = item.boxes.filter(({ status }) => status !== "rejected").length;
    Object.assign(root.dataset, {
      request: this.current ?? "", kind: request?.kind ?? "", status: item.status, boxes: count,
      unsaved: this.searched ? this.post.unsaved : "", undo: this.state.undo ? "yes" : "no",
    });
    const over = this.batch && this.batch.requests.every(({ id }) => this.committed.has(id));
    const note = this.changed.has(this.current) ? CHANGED : this.batch ? "" : "waiting for the kernel…";
    write(part.note, over ? (this.batch.text ?? NOTHING) : note);
    part.main.hidden = !request;
    part.help.hidden = !this.show.help;
    part.sure.hidden = !this.show.sure;
    part.keys.setAttribute("aria-expanded", this.show.help);
    this.updateHeader();
    this.updateAlerts();
    this.updateTime();
    if (request) this.updateSide(request, item);
    const lost = held && (!held.isConnected || held.disabled || held.closest("[hidden]"));
    if (lost) root.focus({ preventScroll: true }); // the focus does not fall out of the widget
    this.paint();
  }

  updateHeader() {
    const { part } = this;
    const requests = this.batch?.requests ?? [];
    const at = requests.findIndex(({ id }) => id === this.current) + 1;
    const [open, finished, skipped] = ["open", "finished", "skipped"].map((one) => this.those(one).length);
    write(part.position, `${at} of ${requests.length}`);
    write(part.counts, `${finished} finished, ${skipped} skipped, ${open} left`);
    write(part.unsaved, this.searched ? `${this.post.unsaved} unsaved` : "");
    const status = (id) => (this.committed.has(id) ? "handed in" : this.item(id).status);
    const wanted = (id) => id === this.current || ["all", this.item(id).status].includes(part.filter.value);
    const shown = requests.map((one, i) => ({ ...one, place: i + 1 })).filter(({ id }) => wanted(id));
    mirror(part.jump, shown, ({ id }) => id, ({ id }) => make("option", { value: id }), (node, one) =>
      write(node, `${one.place}. ${one.image_id}${ASKS[one.kind] ?? ""} · ${status(one.id)}`));
    part.jump.value = this.current ?? "";
    write(part.left, `${open} ${open === 1 ? "is" : "are"} still open: hand in the others?`);
    part.undo.disabled = !this.state.undo;
    part.redo.disabled = !this.state.redo;
    part.handIn.disabled = !(this.batch && !this.post.unsaved && this.committed.size < requests.length);
    part.handIn.classList.toggle("ar-big", !open && !part.handIn.disabled);
    part.reopen.hidden = this.item().status === "open";
  }

  updateAlerts() {
    const refused = [...(this.post?.refused ?? [])].map(([id, { event, text }]) => [
      `Not saved (${event.do}): ${text}`, () => this.post.dismiss(id),
    ]);
    for (const [text, dismiss] of refused) this.alerts.set(text, dismiss);
    mirror(this.part.alerts, [...this.alerts.keys()], (text) => text, (text) => {
      const button = make("button", { type: "button", "data-run": JSON.stringify({ do: "dismiss", text }) });
      button.append("Dismiss");
      return make("p", { className: "ar-alert" }, make("span", {}, text), button);
    }, () => {});
  }

  updateTime() {
    const items = Object.values(this.state.requests);
    const here = this.clock.seconds(this.now());
    const all = items.reduce((sum, { seconds }) => sum + seconds, here);
    write(this.part.time, `${Math.round(this.item().seconds + here)} s here, ${Math.round(all)} s in all`);
    const late = 5 * 2 ** Math.floor(Math.log2((this.post?.late() ?? 0) / 5)); // is read out: seldom
    const where = this.post?.keeps ? "in this browser" : "in this page only";
    const text = this.busy ?? (late >= 5 ? `The kernel has not answered for over ${late} s` : "");
    write(this.part.late, text && `${text}; answers are kept ${where}.`);
  }

  updateSide(request, item) {
    const { part, box } = this;
    const { kind } = request;
    write(part.question, question(request, (label) => this.name(label), this.asked));
    part.overlay.setAttribute("aria-label", `${request.image_id}: ${this.boxes.length} boxes, listed beside`);
    part.verify.hidden = kind !== "verify";
    part.finish.hidden = kind === "verify";
    part.acceptAll.hidden = part.rejectAll.hidden = kind === "region";
    part.labels.hidden = kind === "verify";
    part.nothing.hidden = kind !== "region";
    part.listing.hidden = !this.draws;
    part.fields.hidden = !this.draws || !box;
    part.yes.setAttribute("aria-pressed", item.verdict === "accept");
    part.no.setAttribute("aria-pressed", item.verdict === "reject");
    part.rejected.hidden = !this.draws;
    part.rejected.setAttribute("aria-pressed", this.show.rejected);
    part.evidence.setAttribute("aria-pressed", this.show.evidence);
    write(part.chosen, kind === "complete" ? `Class of the ${box ? "selected" : "next"} box` : "Classes");
    this.updateClasses(kind, item);
    if (this.draws) this.updateList();
    if (box) this.updateFields(box);
    write(part.reason, this.image?.why?.text ?? request.why ?? "");
    const { why, strip: pictures = [] } = this.image ?? {};
    part.evidence.hidden = !why?.blocks && !why?.marks.length && !pictures.length;
    const [marks, strip] = this.show.evidence ? [why?.marks ?? [], pictures] : [[], []];
    part.why.hidden = !part.reason.textContent && !marks.length && !strip.length;
    mirror(part.marks, marks, (_, i) => i, (_, i) => make("li", {}, make("b", {}, letter(i)), make("span")),
      ({ lastChild }, { text }) => write(lastChild, ` ${text}`));
    mirror(part.strip, strip, ({ url }) => url, ({ url, text }) =>
      make("li", {}, make("img", { src: url, alt: text }), make("span", { "aria-hidden": "true" }, text)),
    () => {});
  }

  updateClasses(kind, { tags }) {
    const one = this.box ?? (kind === "region" ? this.asked : null);
    const open = kind === "region" && one?.status !== "accepted" && !OWN.has(one?.status);
    const marked = kind === "tag" ? tags : open ? [] : [one?.label ?? this.label];
    mirror(this.part.classes, this.batch.classes, (name, i) => i, (name, i) => {
      const button = make("button", { type: "button" });
      button.dataset.run = JSON.stringify({ do: "choose", label: i + 1 });
      button.style.setProperty("--class", colourOf(i + 1));
      return button;
    }, (button, name, i) => {
      write(button, i < 9 ? `${i + 1} ${name}` : name);
      button.setAttribute("aria-pressed", marked.includes(i + 1));
    });
  }

  words({ label, score, status, ignore }) {
    const sure = score === null ? "" : ` ${score.toFixed(2)}`;
    return `${this.name(label)}${sure}, ${WORDS[status]}${ignore ? ", ignored" : ""}`;
  }

  updateList() {
    const { part, boxes, selected } = this;
    const left = this.undecided.length;
    write(part.listed, `Boxes (${boxes.length}${left ? `, ${left} undecided` : ""})`);
    part.acceptAll.disabled = !left;
    part.rejectAll.disabled = !left;
    mirror(part.list, boxes, ({ key }) => key, () => make("li", {}, make("button", { type: "button" })),
      ({ firstChild: button }, one, i) => {
        write(button, `${i + 1}. ${this.words(one)}`);
        button.className = `ar-${one.status}`;
        button.style.setProperty("--class", one.ignore ? GREY : colourOf(one.label));
        if (one.key === selected) button.setAttribute("aria-current", "true");
        else button.removeAttribute("aria-current");
      });
  }

  updateFields(one) {
    const [x1, y1, x2, y2] = one.box;
    const values = { label: one.label, x: x1, y: y1, width: x2 - x1, height: y2 - y1 };
    for (const node of this.part.fields.querySelectorAll("[data-field]")) {
      const name = node.dataset.field;
      if (name === "label") {
        mirror(node, this.batch.classes, (_, i) => i, (text, i) =>
          make("option", { value: i + 1 }, text), (option, text) => write(option, text));
      }
      if (name === "ignore") node.checked = one.ignore;
      else if (node !== this.focused() || node.value === node.dataset.shown) {
        node.value = name === "label" ? one.label : round(values[name]);
        node.dataset.shown = node.value;
      }
    }
    this.part.accept.disabled = !["proposed", "rejected"].includes(one.status);
    this.part.reject.disabled = !["proposed", "accepted"].includes(one.status);
    this.part.remove.disabled = !OWN.has(one.status);
  }

  /** Paint before the next frame: what lies over the image, and the image if it moved. */
  paint(moved = false) {
    this.moved ||= moved;
    if (this.frame || this.stop.signal.aborted) return;
    this.frame = requestAnimationFrame(this.guard(() => {
      this.frame = 0;
      this.paintNow();
    }));
  }

  paintNow() {
    const { part, image, request } = this;
    const room = this.room();
    part.waiting.hidden = Boolean(image);
    if (!room.width || !room.height || !request) return;
    if (image && this.whole) this.view = fit(image.size, room);
    if (this.moved || !image) this.paintPicture(room, image);
    this.moved = false;
    const pen = prepared(part.overlay, room);
    if (!image) return;
    const why = this.show.evidence ? image.why : null;
    const scene = { boxes: this.boxes, selected: this.box, asked: this.asked, why, size: image.size };
    const draft = this.draft?.key === null ? this.draft : null;
    paintOverlay(pen, room, this.view, { ...scene, draft, classes: this.batch.classes });
  }

  paintPicture(room, image) {
    const pen = prepared(this.part.picture, room);
    if (!image) return;
    const { bitmap, size: [height, width] } = image;
    const { scale, x, y } = this.view;
    pen.imageSmoothingEnabled = (width * scale * devicePixelRatio) / bitmap.width < 3;
    pen.imageSmoothingQuality = "high";
    pen.drawImage(bitmap, x, y, width * scale, height * scale);
  }
}

/** Return the pen of an empty canvas as sharp as the screen. */
function prepared(canvas, { width, height }) {
  const sides = [width, height].map((side) => Math.round(side * devicePixelRatio));
  if (canvas.width !== sides[0] || canvas.height !== sides[1]) {
    [canvas.width, canvas.height] = sides;
  }
  const pen = canvas.getContext("2d");
  pen.setTransform(devicePixelRatio, 0, 0, devicePixelRatio, 0, 0);
  pen.clearRect(0, 0, width, height);
  return pen;
}

/** Return a storage of the browser, or null where it may not be used. */
const browser = (name) => attempt(() => window[name], null);

/** Called by anywidget for every place the widget is shown. */
function render({ model, el }) {
  const root = make("div", {
    className: "almining-review", tabIndex: 0, role: "region", "aria-label": "Review of the picked images",
    "data-lm-suppress-shortcuts": "true",
  });
  el.append(root);
  const page = new Page(model, root);
  return () => page.close();
}

export default { render };
