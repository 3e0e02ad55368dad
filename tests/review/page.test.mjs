// The page's parts that need no browser: the fold, geometry, keys, time, and what keeps events.
import assert from "node:assert/strict";
import { test } from "node:test";

import * as page from "../../almining/review/page.mjs";

const box = (key, more = {}) => ({ key, box: [0, 0, 9, 9], label: 1, ignore: false, score: null, ...more });
const start = (request, known = [], proposed = []) => ({
  id: `start:${request}`, request, do: "start", seconds: 0, size: [50, 100], known, proposed,
});
let count = 0;
const did = (what, more = {}, request = "q") => ({
  id: more.id ?? `e${(count += 1)}`, request, do: what, seconds: 1, ...more,
});
const statuses = (log, request = "q") =>
  Object.fromEntries(page.fold(log).requests[request].boxes.map(({ key, status }) => [key, status]));

test("nothing comes to nothing", () => {
  assert.deepEqual(page.fold([]), { requests: {}, undo: null, redo: null });
});

const BEGUN = start("q", [box("k")], [box("p", { score: 0.5 }), box("r")]);
const CASES = {
  "a start": [[], { k: "known", p: "proposed", r: "proposed" }],
  "accept, reject": [
    [did("accept", { key: "p" }), did("reject", { key: "r" })],
    { k: "known", p: "accepted", r: "rejected" },
  ],
  "a known box is not judged": [
    [did("reject", { key: "k" })], { k: "known", p: "proposed", r: "proposed" },
  ],
  "a change accepts": [
    [did("reject", { key: "p" }), did("change", { key: "p", label: 2 })],
    { k: "known", p: "accepted", r: "proposed" },
  ],
  "remove: own ones go, predicted ones are rejected": [
    [did("remove", { key: "k" }), did("accept", { key: "p" }), did("remove", { key: "p" })],
    { p: "rejected", r: "proposed" },
  ],
  "a key that is there is not added": [
    [did("add", { key: "p", box: [1, 1, 2, 2], label: 1 })],
    { k: "known", p: "proposed", r: "proposed" },
  ],
  "unknown keys, unknown deeds": [
    ["accept", "change", "remove", "constructor"].map((what) => did(what, { key: "none" })),
    { k: "known", p: "proposed", r: "proposed" },
  ],
  "a second start adds what is new": [
    [{ ...start("q", [box("p")], [box("z")]), id: "again" }],
    { k: "known", p: "proposed", r: "proposed", z: "proposed" },
  ],
};
for (const [name, [log, expected]] of Object.entries(CASES)) {
  test(`fold: ${name}`, () => assert.deepEqual(statuses([BEGUN, ...log]), expected));
}

test("an id counts once, its seconds, too", () => {
  const one = did("tag", { label: 2, present: true });
  const { requests } = page.fold([one, { ...one, present: false }]);
  assert.deepEqual([requests.q.tags, requests.q.seconds], [[2], 1]);
});

test("tags are sorted as numbers", () => {
  const log = [10, 9, 2, 9].map((label, i) => did("tag", { label, present: i < 3 }));
  assert.deepEqual(page.fold(log).requests.q.tags, [2, 10]);
});

test("status: an edit opens again, a verdict finishes, reopen forgets it", () => {
  const status = (...log) => page.fold(log).requests.q.status;
  assert.equal(status(did("finish")), "finished");
  assert.equal(status(did("finish"), did("skip")), "skipped");
  assert.equal(status(did("finish"), did("tag", { label: 1, present: true })), "open");
  assert.equal(status(did("finish"), did("look")), "finished");
  const log = [did("verdict", { verdict: "accept" })];
  assert.equal(page.fold(log).requests.q.verdict, "accept");
  assert.equal(page.fold([...log, did("reopen")]).requests.q.verdict, null);
});

test("undo and redo reach over requests, and apply in the order of the log", () => {
  const log = [BEGUN, start("s", [], [box("p")])];
  log.push(did("change", { id: "a", key: "k", label: 2 }), did("change", { id: "b", key: "k", label: 3 }));
  log.push(did("accept", { id: "c", key: "p" }, "s"));
  const then = (...more) => page.fold([...log, ...more]);
  const undo = (of) => did("undo", { of });
  assert.equal(then().undo, "c");
  const first = then(undo("c"), undo("a"), undo("b"));
  assert.deepEqual([first.undo, first.redo], [null, "b"]);
  assert.equal(first.requests.q.boxes[0].label, 1);
  const back = then(undo("b"), undo("a"), did("redo", { of: "b" }), did("redo", { of: "a" }));
  assert.equal(back.requests.q.boxes[0].label, 3);
  assert.equal(back.undo, "a");
  assert.equal(then(undo("c"), did("finish"), did("redo", { of: "c" })).redo, null);
  assert.equal(then(undo("c")).requests.s.boxes[0].status, "proposed");
  assert.equal(then(undo("c"), undo("c"), undo("none")).undo, "b");
});

test("a request may have any name", () => {
  const { requests } = page.fold([did("skip", {}, "__proto__")]);
  assert.deepEqual(Object.keys(requests), ["__proto__"]);
});

const SIZE = [50, 100]; // height, width
const ROOM = { width: 220, height: 220 };

test("an image is fitted into the middle, and points go there and back", () => {
  const view = page.fit(SIZE, ROOM, 10);
  assert.deepEqual(view, { scale: 2, x: 10, y: 60 });
  assert.deepEqual(page.toCanvas(view, [100, 50]), [210, 160]);
  assert.deepEqual(page.toImage(view, page.toCanvas(view, [3, 4])), [3, 4]);
});

test("zoom keeps the point under the pointer, and ends at the whole image", () => {
  const whole = page.fit(SIZE, ROOM);
  const near = page.zoom(whole, 4, [110, 110], SIZE, ROOM);
  assert.deepEqual(page.toImage(near, [110, 110]), page.toImage(whole, [110, 110]));
  assert.equal(near.scale, 4 * whole.scale);
  assert.deepEqual(page.zoom(near, 0.01, [0, 0], SIZE, ROOM), whole);
  assert.equal(page.zoom(whole, 1e9, [0, 0], SIZE, ROOM).scale, 64);
  const lost = page.pan(near, [1e6, -1e6], SIZE, ROOM);
  assert.deepEqual(page.toImage(lost, [110, 110]).map(Math.round), [0, 50]);
});

test("a box is bounded by the image, in order, and at least a pixel wide", () => {
  assert.deepEqual(page.bounded([30.126, 20, -5, 70], SIZE), [0, 20, 30.13, 50]);
  assert.deepEqual(page.bounded([100, 50, 100, 50], SIZE), [99, 49, 100, 50]);
});

test("a box is moved without changing shape, and resized without turning over", () => {
  const one = [10, 10, 30, 20];
  assert.deepEqual(page.dragged(one, "inside", [500, -500], SIZE), [80, 0, 100, 10]);
  assert.deepEqual(page.dragged(one, "nw", [5, -3], SIZE), [15, 7, 30, 20]);
  assert.deepEqual(page.dragged(one, "se", [-500, 500], SIZE), [10, 10, 11, 50]);
  assert.deepEqual(page.dragged(one, "w", [500, 0], SIZE), [29, 10, 30, 20]);
  assert.deepEqual(page.dragged(one, "n", [0, -4], SIZE), [10, 6, 30, 20]);
});

test("any drag of any box leaves a valid one", () => {
  let seed = 1;
  const random = (end) => ((seed = (seed * 48271) % 2147483647) / 2147483647) * end;
  for (let i = 0; i < 2000; i += 1) {
    const corners = [random(120) - 10, random(70) - 10, random(120) - 10, random(70) - 10];
    const part = ["n", "e", "s", "w", "nw", "ne", "sw", "se", "inside"][i % 9];
    const by = [random(300) - 150, random(300) - 150];
    const [x1, y1, x2, y2] = page.dragged(page.bounded(corners, SIZE), part, by, SIZE);
    assert.ok(x1 >= 0 && y1 >= 0 && x2 <= 100 && y2 <= 50 && x1 < x2 && y1 < y2, part);
  }
});

test("a point takes hold of corners, edges and the inside; the middle of a small box, too", () => {
  const one = [10, 10, 30, 30];
  const held = { "9,9": "nw", "20,31": "s", "29,20": "e", "20,20": "inside", "31,9": "ne" };
  for (const [point, part] of Object.entries(held)) {
    assert.equal(page.grip(one, point.split(",").map(Number), 3), part, point);
  }
  assert.equal(page.grip(one, [34, 20], 3), null);
  assert.equal(page.grip([10, 10, 12, 12], [11, 11], 5), "inside");
});

test("of the boxes under a point the smallest comes first", () => {
  const boxes = [[0, 0, 50, 50], [10, 10, 20, 20], [5, 5, 40, 40], [60, 0, 70, 10]];
  const found = page.under(boxes.map((one, key) => ({ key, box: one })), [15, 15], 1);
  assert.deepEqual(found.map(({ key }) => key), [1, 2, 0]);
});

test("numeric fields set one number and stay inside", () => {
  const one = [10, 10, 30, 20];
  assert.deepEqual(page.withField(one, "x", 12.5, SIZE), [12.5, 10, 32.5, 20]);
  assert.deepEqual(page.withField(one, "y", 999, SIZE), [10, 40, 30, 50]);
  assert.deepEqual(page.withField(one, "width", 5, SIZE), [10, 10, 15, 20]);
  assert.deepEqual(page.withField(one, "height", -4, SIZE), [10, 10, 30, 11]);
});

const press = (key, more = {}, context = {}) => page.action({ key, code: "", ...more }, context)?.do ?? null;
const KEYS = [
  ["Tab", {}, {}, null],
  ["1", { code: "Digit1" }, {}, "choose"],
  ["&", { code: "Digit1" }, {}, "choose"], // a French keyboard
  ["!", { code: "Digit1", shiftKey: true }, {}, null],
  ["+", { code: "Digit3", shiftKey: true }, {}, "zoom"], // a Hungarian one
  ["3", { code: "Numpad3" }, {}, "choose"],
  ["ArrowLeft", { code: "Numpad4" }, {}, "step"], // without NumLock
  ["0", { code: "Digit0" }, {}, "zoom"],
  ["ф", { code: "KeyA" }, {}, "accept"], // a Cyrillic one
  ["A", {}, {}, "accept"], // with Caps Lock
  ["A", { shiftKey: true }, {}, "judgeAll"],
  ["X", { shiftKey: true }, {}, "judgeAll"],
  ["x", {}, {}, "discard"],
  ["Delete", {}, {}, "discard"],
  ["n", {}, { kind: "complete" }, "create"],
  ["n", {}, { kind: "verify" }, "answer"],
  ["y", {}, { kind: "verify" }, "answer"],
  ["y", {}, { kind: "tag" }, null],
  ["z", { ctrlKey: true }, {}, "undo"],
  ["Z", { metaKey: true, shiftKey: true }, {}, "redo"],
  ["y", { ctrlKey: true }, {}, "redo"],
  ["s", { ctrlKey: true }, {}, null],
  ["s", { altKey: true }, {}, null],
  ["]", { code: "Digit9", ctrlKey: true, altKey: true }, {}, "turn"], // AltGr on a German one
  ["ArrowUp", { shiftKey: true }, {}, "nudge"],
  ["ArrowUp", { altKey: true }, {}, "nudge"],
  ["Enter", {}, { where: "page" }, "finish"],
  ["Enter", {}, { where: "entry" }, "finish"],
  ["Enter", {}, { where: "button" }, null],
  ["Enter", {}, { where: "field" }, null],
  ["Enter", { repeat: true }, {}, "nothing"],
  ["u", { repeat: true }, {}, "undo"],
  [" ", {}, { where: "button" }, null],
  [" ", {}, {}, "hold"],
  ["u", {}, { where: "button" }, "undo"],
  ["u", {}, { where: "field" }, null],
  ["Escape", {}, { where: "field" }, "leaveField"],
  ["Escape", {}, {}, "escape"],
  ["?", { shiftKey: true }, {}, "toggle"],
  ["e", {}, {}, "toggle"],
  ["Enter", { isComposing: true }, {}, null],
];
for (const [key, more, context, expected] of KEYS) {
  test(`key: ${[...Object.keys(more), key, ...Object.values(context)].join(" ")}`, () => {
    assert.equal(press(key, more, context), expected);
  });
}

test("arrows say how far", () => {
  const far = page.action({ key: "ArrowLeft", shiftKey: true, ctrlKey: true });
  assert.deepEqual(far, { do: "nudge", part: "inside", by: [-10, 0] });
  assert.deepEqual(page.action({ key: "ArrowDown", altKey: true }).by, [0, 1]);
  assert.equal(page.action({ key: "ArrowUp" }).by, -1);
  assert.equal(page.action({ key: "7", code: "Numpad7" }).label, 7);
});

test("seconds: idle and hidden ones do not count", () => {
  const clock = new page.Clock(100);
  assert.equal(clock.seconds(130), 30);
  assert.equal(clock.take(1000), 60);
  clock.touch(1000);
  clock.hide(true, 1010);
  clock.touch(1020);
  clock.hide(false, 1030);
  assert.equal(clock.seconds(1035), 15);
  assert.equal(clock.take(1035) + clock.seconds(1035), 15);
});

/** A storage of a browser; `full` makes it refuse. */
function fakeStorage(full = false) {
  const items = new Map();
  return {
    items,
    get length() { return items.size; },
    key: (i) => [...items.keys()][i] ?? null,
    getItem: (name) => items.get(name) ?? null,
    removeItem: (name) => items.delete(name),
    setItem(name, value) {
      if (full) throw new Error("QuotaExceededError");
      items.set(name, value);
    },
  };
}

test("kept events: one item each, in the order they were done, and only of this session", () => {
  const storage = fakeStorage();
  const kept = page.keeper(storage, "s");
  storage.items.set("almining:s:broken", "{").set("almining:s", "q").set("other", "1");
  page.keeper(storage, "s:t").put({ id: "c", at: "0" });
  assert.ok(kept.put({ id: "b", at: "2" }) && kept.put({ id: "a", at: "1" }));
  assert.ok(storage.items.has("almining:s:b"));
  assert.deepEqual(kept.all().map(({ id }) => id), ["a", "b"]);
  kept.drop("a");
  assert.deepEqual(kept.all().map(({ id }) => id), ["b"]);
});

test("a storage that is full or missing is no error, but is said", () => {
  for (const storage of [fakeStorage(true), null]) {
    const kept = page.keeper(storage, "s");
    assert.equal(kept.put({ id: "a", at: "1" }), false);
    assert.deepEqual(kept.all(), []);
    kept.drop("a");
  }
});

/** A post with a storage, what it sent, and a clock that is set by hand. */
function fakePost(storage = fakeStorage()) {
  const sent = [];
  const time = { now: 0 };
  const post = new page.Post((message) => sent.push(message.events.map(({ id }) => id)),
    page.keeper(storage, "s"), () => time.now);
  post.open([]);
  const make = (id) => ({ id, request: "q", do: "skip", seconds: 1, at: post.time() });
  return { post, sent, time, storage, write: (...ids) => post.write(ids.map(make)) };
}

test("an event is kept until it is saved", () => {
  const { post, sent, storage, write } = fakePost();
  write("a");
  assert.deepEqual([sent, storage.items.size, post.unsaved], [[["a"]], 1, 1]);
  assert.equal(page.fold(post.events).requests.q.status, "skipped");
  post.saved({ ids: ["a"], events: [{ ...post.find("a") }], refused: [] });
  assert.deepEqual([storage.items.size, post.unsaved, post.events.length], [0, 0, 1]);
});

test("what was saved before is named without its row", () => {
  const { post, write } = fakePost();
  write("a");
  post.saved({ ids: ["a"], events: [], refused: [] });
  assert.deepEqual([post.unsaved, post.events.length], [0, 1]);
});

test("without an answer all is sent again, ever more seldom", () => {
  const { post, sent, time, write } = fakePost();
  write("a");
  write("b");
  const again = [];
  for (time.now = 1; time.now <= 200; time.now += 1) {
    const before = sent.length;
    post.tick();
    if (sent.length > before) again.push(time.now);
  }
  assert.deepEqual(again, [5, 15, 35, 75, 135, 195]);
  assert.deepEqual(sent.at(-1), ["a", "b"]);
  assert.equal(post.late(), 201);
  post.saved({ ids: ["a", "b"], events: [], refused: [] });
  assert.equal(post.late(), 0);
});

test("a page that was loaded again sends what the kernel does not have", () => {
  const { storage, write } = fakePost();
  write("a");
  write("b", "c");
  const later = fakePost(storage);
  assert.deepEqual(later.sent, [["a", "b", "c"]]);
  const last = new page.Post(() => {}, page.keeper(storage, "s"), () => 0);
  last.open([later.post.find("b")]);
  assert.deepEqual([...last.pending.keys()], ["a", "c"]);
  assert.equal(storage.items.size, 2);
});

test("what only the vault kept is sent, once and in order", async () => {
  const kept = new Map();
  const vault = {
    put: (event) => kept.set(event.id, event),
    drop: (id) => kept.delete(id),
    all: async () => [...kept.values()].reverse(),
  };
  const storage = fakeStorage();
  const before = new page.Post(() => {}, page.keeper(storage, "s", vault), () => 0);
  before.open([]);
  const make = (id, at) => ({ id, request: "q", do: "skip", seconds: 1, at });
  before.write(["1", "2", "3", "4"].map((at) => make(`e${at}`, at)));
  storage.items.delete("almining:s:e2"); // what a killed browser had not written
  storage.items.delete("almining:s:e4");
  const sent = [];
  const keeper = page.keeper(storage, "s", vault);
  const post = new page.Post(({ events }) => sent.push(events.map(({ id }) => id)), keeper, () => 0);
  post.open([make("e1", "1")]);
  assert.deepEqual([sent, kept.size], [[["e3"]], 3]);
  const lost = post.recover(await keeper.rest());
  assert.deepEqual(lost.map(({ id }) => id), ["e2", "e4"]);
  assert.deepEqual([...post.pending.keys()], ["e2", "e3", "e4"]);
  assert.deepEqual(post.recover(await keeper.rest()), []);
  post.saved({ ids: ["e2", "e3", "e4"], events: [], refused: [] });
  assert.equal(kept.size, 0);
});

test("what is refused is not shown as done, and stays until it is dismissed", () => {
  const { post, storage, write } = fakePost();
  write("a");
  post.saved({ ids: [], events: [], refused: [{ id: "a", text: "no" }, { id: "other", text: "no" }] });
  assert.deepEqual([post.events, post.unsaved, post.refused.size], [[], 1, 1]);
  assert.equal(storage.items.size, 1);
  post.dismiss("a");
  assert.deepEqual([post.unsaved, storage.items.size], [0, 0]);
});

test("a page that cannot keep says so, and goes on", () => {
  const { post, sent, write } = fakePost(fakeStorage(true));
  write("a");
  assert.deepEqual([post.keeps, post.unsaved, sent], [false, 1, [["a"]]]);
});

test("rows of another tab join the log once", () => {
  const { post, write } = fakePost();
  write("mine");
  const row = { id: "theirs", request: "q", do: "finish", seconds: 2 };
  post.saved({ ids: ["theirs"], events: [row], refused: [] });
  post.saved({ ids: ["theirs"], events: [row], refused: [] });
  assert.deepEqual(post.events.map(({ id }) => id), ["theirs", "mine"]);
});

test("ids are UUIDs, on plain http, too", () => {
  const plain = { getRandomValues: (bytes) => crypto.getRandomValues(bytes) };
  const form = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;
  for (const source of [crypto, plain]) assert.match(page.uuid(source), form);
  assert.notEqual(page.uuid(plain), page.uuid(plain));
});

test("times are later than any before, and backoff ends at a minute", () => {
  const { post } = fakePost();
  const times = Array.from({ length: 50 }, () => post.time());
  assert.equal(new Set(times).size, 50);
  assert.deepEqual(times, [...times].sort());
  assert.deepEqual([0, 1, 2, 3, 4, 9].map(page.backoff), [5, 10, 20, 40, 60, 60]);
});
