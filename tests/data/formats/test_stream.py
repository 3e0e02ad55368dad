"""The streaming parser reads what `json.loads` reads, wherever its window ends."""

import json
import random
import tracemalloc

import pytest

from almining.data.formats.parse import unique
from almining.data.formats.report import Report
from almining.data.formats.stream import read_lists
from almining.progress import bar

LISTS = {"images": ("id",), "annotations": ("id", "bbox"), "categories": ("id",)}


@pytest.fixture
def stream(tmp_path):
    """Write a text and read it: the lists found, and the findings."""

    def read(text, **options):
        path = tmp_path / "file.json"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        report, found = Report(True), {}
        for key, first, entries in read_lists(path, report, LISTS, **options):
            rows = found.setdefault(key, [])
            assert first == len(rows) or report.findings
            rows += entries
        return found, report.findings

    return read


def document(images="[]", annotations="[]", categories="[]", more=""):
    return f'{{{more}"images": {images}, "annotations": {annotations}, "categories": {categories}}}'


def one(findings):
    assert len(findings) == 1, findings
    return findings[0]


WORDS = ["", "a", "é", "漢字", "😀", '"', "\\", "\n\t\b", "}, {", "], [", "\u2028", "\ud800", "e1"]
NUMBERS = [0, -1, 12, 10**30, 1.5, -2.5e-7, 1e300, 123456.789]


def value(rng, depth):
    kind = rng.randrange(6 if depth else 4)
    if kind == 0:
        return rng.choice(NUMBERS)
    if kind == 1:
        return "".join(rng.choice(WORDS) for _ in range(rng.randrange(4)))
    if kind in (2, 3):
        return rng.choice([True, False, None, float("inf"), float("-inf")])
    count = rng.randrange(4)
    if kind == 4:
        return [value(rng, depth - 1) for _ in range(count)]
    return {f"{i}{rng.choice(WORDS)}": value(rng, depth - 1) for i in range(count)}


def entry(rng):
    return {"id": rng.choice(NUMBERS), "bbox": value(rng, 2), "other": value(rng, 3)}


@pytest.mark.parametrize("seed", range(12))
def test_random_documents_through_every_window(stream, seed):
    rng = random.Random(seed)
    names = [*LISTS, "info", "more"]
    rng.shuffle(names)
    data = {
        name: [entry(rng) for _ in range(rng.randrange(5))] if name in LISTS else value(rng, 3)
        for name in names
    }
    text = json.dumps(data, ensure_ascii=bool(seed % 2), indent=(None, 1, "\t")[seed % 3]).encode(
        "utf-8", "surrogatepass"
    )
    if b"\xed\xa0\x80" in text:
        text = text.replace(b"\xed\xa0\x80", rb"\ud800")
    whole = {name: data[name] for name in LISTS if data[name]}
    for window in (1, 2, 3, 5, 7, 16, 61, 256, 10**6):
        found, findings = stream(text, window=window)
        assert findings == [] and found == whole, window
    kept = {
        name: [{key: row[key] for key in LISTS[name]} for row in rows]
        for name, rows in whole.items()
    }
    for window, longest in ((1, 1), (3, 4), (7, 20)):  # every element is read piece by piece
        found, findings = stream(text, window=window, longest=longest)
        assert findings == []
        assert {k: [{f: r[f] for f in LISTS[k]} for r in v] for k, v in found.items()} == kept


def plainly(raw):
    """Return the lists as a reader without a window sees them, or what is wrong."""
    try:
        data = json.loads(raw.decode().removeprefix("\ufeff"), object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        return None, error
    kinds = [type(data), *(type(data.get(name)) for name in LISTS if isinstance(data, dict))]
    rows = [row for name in LISTS for row in data[name]] if kinds == [dict, *[list] * 3] else [None]
    if not all(isinstance(row, dict) for row in rows):
        return None, None
    return {name: data[name] for name in data if name in LISTS and data[name]}, None


BITS = ['"', "\\", "{", "}", "[", "]", ",", ":", "}, {", '"}, {"', "], [", "e", ".", "-", "1", "0"]
BITS += [
    "null",
    "NaN",
    "tru",
    "\n",
    "\r",
    "\0",
    "\\u12",
    "\\ud83d",
    '"id": 1,',
    "é",
    "1e400",
    "\ufeff",
]


@pytest.mark.parametrize("seed", range(6))
def test_damaged_documents_are_judged_as_without_a_window(stream, seed):
    rng, verdicts = random.Random(200 + seed), set()
    for _ in range(40):
        data = {name: [entry(rng) for _ in range(rng.randrange(4))] for name in LISTS}
        text = json.dumps({**data, "info": value(rng, 2)}, indent=rng.choice([None, 1]))
        raw = bytearray(text.encode("utf-8", "surrogatepass"))
        for _ in range(rng.randrange(3)):
            at = rng.randrange(len(raw))
            bit = rng.choice([rng.choice(BITS).encode(), bytes([rng.randrange(256)])])
            raw[at : at + rng.randrange(4)] = bit if rng.random() < 0.7 else b""
        raw = raw[: rng.randrange(len(raw))] if rng.random() < 0.1 else raw
        wanted, error = plainly(bytes(raw))
        verdicts.add(wanted is None)
        for options in ({}, {"window": rng.randrange(1, 9)}, {"window": rng.randrange(9, 99)}):
            found, findings = stream(bytes(raw), **options)
            assert bool(findings) == (wanted is None), (raw, findings)
            if wanted is not None:
                assert repr({k: v for k, v in found.items() if v}) == repr(wanted)
            elif isinstance(error, json.JSONDecodeError) and error.msg in findings[0].remedy:
                assert findings[0].record == f"line {error.lineno}, column {error.colno}"
        _, findings = stream(bytes(raw), window=rng.randrange(1, 60), longest=rng.randrange(1, 60))
        assert bool(findings) == (wanted is None), (raw, findings)
    assert verdicts == {True, False}


@pytest.mark.parametrize("seed", range(6))
def test_pretty_and_packed_texts_say_the_same(stream, seed):
    rng = random.Random(100 + seed)
    data = {name: [entry(rng) for _ in range(3)] for name in LISTS}
    found = [
        stream(json.dumps(data, **how), window=64)
        for how in ({"indent": 4}, {"separators": (",", ":")}, {"sort_keys": True})
    ]
    assert found == [(data, [])] * 3


CUTS = ['{"id": 12}', '{"id": -1e5}', '{"id": true}', '{"id": null, "x": "\\ud83d\\ude00"}']
CUTS += ['{"id": "é😀"}', '{"id": 1.25E+3, "x": [ ]}', '{ "id" : [[1,2] , {"a":{}}]\r\n}']


@pytest.mark.parametrize("text", CUTS)
def test_a_window_may_end_anywhere(stream, text):
    whole = document(f" [ {text} , {text}\n] ", more='"info": ' + text + ", ")
    wanted = json.loads(text)
    size = len(whole.encode())
    for window in range(1, size + 1):
        found, findings = stream(whole, window=window)
        assert findings == [] and found["images"] == [wanted, wanted]
    for longest in range(1, size, 3):
        found, findings = stream(whole, window=1, longest=longest)
        assert findings == [] and [row["id"] for row in found["images"]] == [wanted["id"]] * 2


@pytest.mark.parametrize("window", [1, 4, 11, 10**5])
@pytest.mark.parametrize("longest", [3, 10**6])
def test_every_cut_is_an_error(stream, window, longest):
    text = document('[{"id": 1, "x": [1, {"y": "z"}]}]', '[{"id": -2}, {"id": 3}]', more='"v": 1, ')
    for end in range(len(text)):
        _, findings = stream(text[:end], window=window, longest=longest)
        assert ("cut short" if end else "is empty") in one(findings).remedy, text[:end]
        assert findings[0].action == "error" and findings[0].field == "JSON"


def test_a_cut_says_where(stream):
    _, findings = stream('{"images": [\n{"id": 1},\n{"id": 2, "file_name": "a')
    assert "images[1]" in one(findings).remedy and findings[0].record == "line 3, column 24"
    _, findings = stream("")
    assert one(findings).value == "end of file" and findings[0].record == "line 1, column 1"
    _, findings = stream(document('[{"id": 1}]').encode() + b"  \n")
    assert findings == []
    _, findings = stream(document('[{"x": "é').encode()[:17])  # inside the two bytes of é
    assert "cut short" in one(findings).remedy or findings[0].value


BROKEN = {
    "comma": ('{"id": 1} {"id": 2}', "line 1, column 23", "Expecting ',' delimiter"),
    "last comma": ('{"id": 1},', "line 1, column 23", "Expecting value"),
    "colon": ('{"id" 1}', "line 1, column 19", "Expecting ':' delimiter"),
    "key": ("{id: 1}", "line 1, column 14", "double quotes"),
    "word": ('{"id": nul }', "line 1, column 20", "Expecting value"),
    "number": ('{"id": 01}', "line 1, column 21", "Expecting ',' delimiter"),
    "bracket": ('{"id": [1}', "line 1, column 22", "Expecting ',' delimiter"),
    "escape": (r'{"id": "\x"}', "line 1, column 21", "scape"),
    "unicode": (r'{"id": "\u12g4"}', "line 1, column 2", "scape"),
    "control": ('{"id": "a\nb"}', "line 1, column 22", "nvalid"),
    "quote": ("{'id': 1}", "line 1, column 14", "double quotes"),
}


@pytest.mark.parametrize("case", BROKEN)
@pytest.mark.parametrize("window", [1, 8, 10**5])
def test_broken_text_is_found_where_it_is(stream, case, window):
    text, where, word = BROKEN[case]
    _, findings = stream(document(f"[{text}]") + " " * 100, window=window)
    assert one(findings).record.startswith(where) and word in findings[0].remedy
    assert "images[" in findings[0].remedy and findings[0].field == "JSON"


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_skipped_must_be_well_formed(stream, case):
    text, _, _ = BROKEN[case]
    for longest in (2, 10**6):
        _, findings = stream(
            document(more=f'"x": [{text}], ') + " " * 99, window=4, longest=longest
        )
        assert one(findings).field == "JSON" and "x" in findings[0].remedy


def test_more_after_the_end(stream):
    _, findings = stream(document() + "\n{}")
    assert "Extra data" in one(findings).remedy and findings[0].record == "line 2, column 1"
    _, findings = stream(document() + "\0" * 50)
    assert "Extra data" in one(findings).remedy


@pytest.mark.parametrize("window", [1, 9, 10**5])
@pytest.mark.parametrize("longest", [2, 10**6])
def test_a_key_that_stands_twice(stream, window, longest):
    cases = {
        document('[{"id": 1}, {"id": 2, "id": 2}]'): ("id", "images[1]"),
        document('[{"id": 1, "x": {"a": [{"b": 1, "b": 2}]}}]'): ("b", "images[0]"),
        document(more='"info": {"year": 1, "year": 1}, '): ("year", "info"),
        document(more='"images": [], '): ("images", ""),
        document(more='"info": 1, "info": 2, '): ("info", ""),
    }
    for text, (key, where) in cases.items():
        _, findings = stream(text, window=window, longest=longest)
        assert one(findings).field == "key" and findings[0].value == key
        assert "twice" in findings[0].remedy
        assert findings[0].record.partition(", in ")[2] == where


@pytest.mark.parametrize("text", ["[]", "[1, 2", '"a"', "3", "null"])
def test_wrong_top_level(stream, text):
    _, findings = stream(text)
    assert one(findings).field == "top level" and "an object with the lists" in findings[0].remedy
    _, findings = stream(text, window=1, longest=1)
    assert one(findings).field == "top level"


def test_wrong_lists(stream):
    _, findings = stream('{"images": {"id": [1]}, "annotations": "x"}')
    assert [(f.field, f.value) for f in findings] == [
        ("images", "an object"),
        ("annotations", "a text"),
        ("categories", "absent"),
    ]
    found, findings = stream(document('[{"id": 1}, 7, [2], {"id": 3}]'))
    assert [f.record for f in findings] == ["images[1]", "images[2]"]
    assert found["images"] == [{"id": 1}, {"id": 3}]
    _, findings = stream(document(f'[{{"id": 1}}, [{"2, " * 99}3]]'), window=8, longest=16)
    assert one(findings).record == "images[1]"


@pytest.mark.parametrize("window", [1, 2, 3, 10**5])
def test_encodings(stream, window):
    text = document('[{"id": "é漢😀"}]')
    for head in (b"", b"\xef\xbb\xbf"):
        found, findings = stream(head + text.encode(), window=window)
        assert findings == [] and found == {"images": [{"id": "é漢😀"}]}
        bad = head + b'{"images": [{"id": "x' + b'\xe9"}]}' + b" " * 9
        _, findings = stream(bad, window=window)
        assert one(findings).value == f"byte {bad.index(0xE9, 4)} = 0xe9"
        assert "UTF-8" in findings[0].remedy and findings[0].field == "encoding"
    _, findings = stream(text.encode("utf-16"), window=window)
    assert "byte 0 = 0x" in one(findings).value


def test_deep_nesting_and_huge_numbers(stream):
    for more in (f'"x": {"[" * 10**5}{"]" * 10**5}, ', f'"x": {"1" * 5000}, '):
        for longest in (10, 10**7):
            _, findings = stream(document(more=more), longest=longest)
            assert one(findings).field == "JSON" and findings[0].action == "error"
    deep = f'"x": {"[" * 5000}{"]" * 5000}, '
    _, findings = stream(document(more=deep), window=1, longest=1)  # each list is long
    assert one(findings).value == "nested too deeply" and findings[0].record == "x"
    found, findings = stream(document(f'[{{"id": 1{"0" * 400}}}]'), window=16)
    assert findings == [] and found["images"] == [{"id": 10**400}]


def test_absent_file(tmp_path):
    report = Report(True)
    assert list(read_lists(tmp_path / "gone.json", report, LISTS)) == []
    assert one(report.findings).field == "path" and "cannot be read" in report.findings[0].remedy


def written(path, pieces, times):
    with path.open("w") as file:
        file.write('{"annotations": [{"id": 1, "segmentation": ')
        for number in range(times):
            file.write(pieces[0] if number == 0 else pieces[1])
        file.write(pieces[2] + ', "bbox": [1, 2, 3, 4]}], "images": [], "categories": []}')


LONG = {
    "numbers": ("[[", "1.25, 17.5, " * 1000, "1]]"),
    "string": ('"', "0123456789" * 1000, '"'),
    "escapes": ('"', r"\u00e9\n" * 1000, '"'),
    "objects": ("[", '{"a": [1, 2]}, ' * 1000, "{}]"),
    "members": ("{", "", '"last": [' + "3, " * 700_000 + "3]}"),
}


@pytest.mark.parametrize("case", LONG)
def test_memory_does_not_grow_with_a_value_nobody_reads(tmp_path, case):
    path, pieces = tmp_path / "long.json", LONG[case]
    written(path, pieces, max(1, 2_000_000 // len(pieces[1] or pieces[2])))
    report = Report(True)
    tracemalloc.start()
    found = [rows for _, _, rows in read_lists(path, report, LISTS, longest=2**16)]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert report.findings == [] and found == [[{"id": 1, "bbox": [1, 2, 3, 4]}]]
    assert peak < 4_000_000


@pytest.mark.slow
def test_fifty_megabytes_of_segmentation(tmp_path):
    path = tmp_path / "long.json"
    written(path, LONG["numbers"], 4_200)
    assert path.stat().st_size > 50_000_000
    report = Report(True)
    tracemalloc.start()
    found = [rows for _, _, rows in read_lists(path, report, LISTS)]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert report.findings == [] and found == [[{"id": 1, "bbox": [1, 2, 3, 4]}]]
    assert peak < 30_000_000


def test_progress_is_shown_for_large_files_only(stream, monkeypatch):
    shown = []

    def watched(**options):
        shown.append((options["progress"], options["total"]))
        return bar(**{**options, "progress": False})

    monkeypatch.setattr("almining.data.formats.stream.bar", watched)
    stream(document("[]"))
    stream(document("[]") + " " * 50_100_000, window=2**20)
    assert shown == [(False, 0), (True, 50)]


def test_what_is_broken_early_is_refused_early(stream):
    text = document('[{"id": nul}]') + " " * 5_000_000
    tracemalloc.start()
    _, findings = stream(text.encode(), longest=10**9)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert "images[0]" in one(findings).remedy and peak < 7_000_000
