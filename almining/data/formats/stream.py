"""The lists of a JSON file, some elements at a time, so that its size is no bound.

A window of the file is read at a time, and the standard library parses each element in it, many at
once where it can. An element longer than the window may grow is read member by member, so that a
member nobody reads is never held as a whole. What is skipped must be well-formed too. Values inside
an element are not judged here.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from almining.data.formats.parse import RepeatedKeyError, unique
from almining.data.formats.report import Report, bad_byte
from almining.progress import bar

WINDOW = 2**15  # bytes read at once; a few hundred objects stay in the fast caches
LONGEST = 2**20  # characters; a longer value is read piece by piece
LARGE = 50_000_000  # bytes; reading a larger file shows its progress
NEAR = 16  # characters; what is closer to the end of the window may go on or be due to that end
TRIES = 64  # objects inside an element that may look like its end
WORDS = ("true", "false", "null", "NaN", "Infinity", "-Infinity")
CUT = "Unterminated string"  # the one error the parser places at the start of what is cut

KINDS = {"[": "a list", "{": "an object", '"': "a text", "n": "null"}
KINDS |= {"t": "true or false", "f": "true or false"}

_blank = re.compile(r"[ \t\n\r]*").match
_inside_string = re.compile(r'(?:[^"\\\x00-\x1f]++|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4})*+').match
_next = {
    "{": ("}", re.compile(r"[ \t\n\r]*,[ \t\n\r]*\{").match),
    "[": ("]", re.compile(r"[ \t\n\r]*,[ \t\n\r]*\[").match),
}


class _TooLongError(Exception):
    pass


class _BadFileError(ValueError):
    def __init__(self, record: str, field: str, value: str, remedy: str) -> None:
        super().__init__(record, field, value, remedy)
        self.told = (record, field, value, remedy)


_parse = json.JSONDecoder(object_pairs_hook=unique).raw_decode


def read_lists(
    path: Path,
    report: Report,
    wanted: Mapping[str, Collection[str]],
    *,
    window: int = WINDOW,
    longest: int = LONGEST,
) -> Iterator[tuple[str, int, list[dict[str, Any]]]]:
    """Read the lists of objects at the top level of a JSON file, in the order of the file.

    What is wrong with the file is noted in the report as errors; check it at the end.

    Args:
        path: the file.
        report: where to note what is wrong.
        wanted: the lists to read, and which members of their objects are kept however long the
            object is. Of a short one all are.
        window: how many bytes are read at once.
        longest: a value of more characters than this is read piece by piece.

    Yields:
        A list's name, the position in it of the first object that follows, and some objects.
    """
    kinds: dict[str, str] = {}
    try:
        size, name = path.stat().st_size, f"read {path.name}"
        shown = bar(progress=size > LARGE, name=name, unit="MB", total=size // 10**6)
        with path.open("rb") as file, shown:
            source = _Source(file, window, longest, shown)
            for key, first, batch in source.lists(wanted, kinds):
                yield key, first, _objects(path, report, key, first, batch)
    except OSError as error:
        report.fatal(path, "file", "path", str(path), f"cannot be read: {error.strerror}")
    except _BadFileError as error:
        report.fatal(path, *error.told)
    except RecursionError:
        remedy = "lists or objects stand too deep in one another; correct it or fetch it again"
        report.fatal(path, source.inside or "file", "JSON", "nested too deeply", remedy)
    else:
        for key in (key for key in wanted if kinds.get(key) != KINDS["["]):
            report.fatal(path, "file", key, kinds.get(key, "absent"), "a list of objects is needed")


def _objects(
    path: Path, report: Report, key: str, first: int, batch: list[Any]
) -> list[dict[str, Any]]:
    if set(map(type, batch)) == {dict}:
        return batch
    for number, entry in enumerate(batch, first):
        if not isinstance(entry, dict):
            report.fatal(path, f"{key}[{number}]", key, entry, "an object is needed")
    return [entry for entry in batch if isinstance(entry, dict)]


class _Source:
    """A JSON text of which a window is in memory; `at` is where the next token begins in it."""

    def __init__(self, file: BinaryIO, window: int, longest: int, shown: Any) -> None:
        self.file, self.window, self.longest, self.shown = file, window, longest, shown
        self.text, self.at, self.ended = "", 0, False
        self.inside = ""  # the record that is read
        self.decoder = codecs.getincrementaldecoder("utf-8")()
        self.read, self.line, self.column = 0, 1, 1  # bytes; the place where the window begins
        self.fresh, self.tried = True, False

    def lists(
        self, wanted: Mapping[str, Collection[str]], kinds: dict[str, str]
    ) -> Iterator[tuple[str, int, list[Any]]]:
        """Go through the top level; `kinds` learns what stands under each name wanted."""
        mark = self.peek()
        if mark != "{":
            if mark != "[":
                self.element()  # what is no JSON at all is told first
            remedy = f"an object with the lists {', '.join(wanted)} is needed"
            raise _BadFileError("file", "top level", KINDS.get(mark, "a number"), remedy)
        for key in self.members():
            self.inside = key
            mark = self.peek()
            if key in wanted:
                kinds[key] = KINDS.get(mark, "a number")
            if key in wanted and mark == "[":
                number, self.inside = 0, f"{key}[0]"
                for batch in self.batches(partial(self.element, wanted[key])):
                    yield key, number, batch
                    number += len(batch)
                    self.inside = f"{key}[{number}]"
            else:
                self.element()
            self.inside = ""
        if self.peek():
            self.fail(self.at, "Extra data")

    def more(self) -> bool:
        """Forget what was passed and read on; False at the end of the file."""
        if self.ended:
            return False
        data = self.file.read(self.window)
        self.ended = not data
        waiting = len(self.decoder.getstate()[0])
        try:
            text = self.decoder.decode(data, final=not data)
        except UnicodeDecodeError as error:
            if not data:
                self.fail(len(self.text), "")
            value = bad_byte(error, self.read - waiting)
            where = f", in {self.inside} or soon after" if self.inside else ""
            remedy = f"not UTF-8{where}; save the file as UTF-8"
            raise _BadFileError("file", "encoding", value, remedy) from None
        self.read += len(data)
        if self.fresh and text:
            text, self.fresh = text.removeprefix("\ufeff"), False
        self.line, self.column = self.place(self.at)
        self.text, self.at, self.tried = self.text[self.at :] + text, 0, False
        self.shown.update(self.read // 10**6 - self.shown.n)
        return not self.ended

    def place(self, at: int) -> tuple[int, int]:
        """Return line and column of a position in the window, counted from 1."""
        lines = self.text.count("\n", 0, at)
        if lines:
            return self.line + lines, at - self.text.rfind("\n", 0, at)
        return self.line, self.column + at

    def fail(self, at: int, why: str) -> NoReturn:
        """Raise what is wrong at a position in the window."""
        rest = self.text[at:].strip()
        cut = self.ended and (why.startswith(CUT) or any(word.startswith(rest) for word in WORDS))
        remedy = f"{why}{self.where()}; correct it or fetch the file again"
        if cut:
            why = f"ends here{self.where()}: it is cut short" if self.read else "is empty"
            remedy = f"the file {why}; fetch it again"
        line, column = self.place(at)
        value = self.text[at : at + 40] or "end of file"
        raise _BadFileError(f"line {line}, column {column}", "JSON", value, remedy)

    def where(self) -> str:
        """Return which record is read, to be put after what is said of it."""
        return f", in {self.inside}" if self.inside else ""

    def repeated(self, key: str) -> NoReturn:
        """Raise that a key stands twice in the object that begins here."""
        line, column = self.place(self.at)
        remedy = "the key stands twice in one object, so one value would be lost; remove one"
        raise _BadFileError(f"line {line}, column {column}{self.where()}", "key", key, remedy)

    def peek(self) -> str:
        """Return the first character of the next token, "" at the end of the file."""
        while True:
            found = _blank(self.text, self.at)
            self.at = self.at if found is None else found.end()
            if self.at < len(self.text):
                return self.text[self.at]
            if not self.more():
                return ""

    def value(self, longest: int | None = None) -> Any:
        """Return the value that begins here.

        Raises:
            _TooLongError: when it takes more than `longest` characters.
        """
        while True:
            try:
                value, end = _parse(self.text, self.at)
            except json.JSONDecodeError as error:
                near = error.pos + NEAR >= len(self.text) or error.msg.startswith(CUT)
                if self.ended or not near:
                    self.fail(error.pos, error.msg)
            except RepeatedKeyError as error:
                self.repeated(str(error))
            except ValueError:
                self.fail(self.at, "a number has too many digits")
            else:
                if self.ended or end + NEAR < len(self.text):  # 1 may be the start of 1.5
                    self.at = end
                    return value
            held = len(self.text) - self.at
            if longest is not None and held > longest:
                raise _TooLongError
            while len(self.text) - self.at < 2 * held + 1 and self.more():
                pass

    def element(self, fields: Collection[str] = ()) -> Any:
        """Return the value that begins here; of a long object these members, of others a sign."""
        try:
            return self.value(self.longest)
        except _TooLongError:
            mark = self.text[self.at]
        if mark == "{":
            found = {}
            for key in self.members():
                if key in fields:
                    found[key] = self.value()
                else:
                    self.element()
            return found
        if mark == "[":
            for _ in self.batches(self.element):
                pass
        elif mark == '"':
            self.skip_string()
        else:
            self.value()
        return f"{mark}..."

    def skip_string(self) -> None:
        """Pass a long string."""
        self.at += 1
        while True:
            found = _inside_string(self.text, self.at)
            self.at = self.at if found is None else found.end()
            if self.text.startswith('"', self.at):
                self.at += 1
                return
            cut = len(self.text) - self.at < len(r"\u0000")
            if not (cut and self.more()):
                ended = self.ended and (self.at == len(self.text) or self.text[self.at] == "\\")
                self.fail(self.at, CUT if ended else "Invalid character or escape in a string")

    def members(self) -> Iterator[str]:
        """Go through the keys of an object; the caller passes the value of each."""
        seen: set[str] = set()
        self.at += 1
        if self.peek() == "}":
            self.at += 1
            return
        while True:
            if self.peek() != '"':
                self.fail(self.at, "Expecting property name enclosed in double quotes")
            key = self.value()
            if key in seen:
                self.repeated(key)
            seen.add(key)
            if self.peek() != ":":
                self.fail(self.at, "Expecting ':' delimiter")
            self.at += 1
            self.peek()
            yield key
            if self.closed("}"):
                return

    def batches(self, single: Callable[[], Any]) -> Iterator[list[Any]]:
        """Go through the elements of an array, many at once or one by `single`."""
        self.at += 1
        if self.peek() == "]":
            self.at += 1
            return
        while True:
            self.peek()
            yield self.many() or [single()]
            if self.closed("]"):
                return

    def closed(self, bracket: str) -> bool:
        """Pass the bracket that ends an object or an array, or the comma before what follows."""
        mark = self.peek()
        if mark not in (bracket, ","):
            self.fail(self.at, "Expecting ',' delimiter")
        self.at += 1
        return mark == bracket

    def many(self) -> list[Any]:
        """Return all elements that certainly end in this window; [] where that is not known.

        What stands before a comma is a number of whole elements if it parses as an array: the
        comma then follows an element of that array and of no array inside it.
        """
        if self.tried or self.at == len(self.text):
            return []
        self.tried = True
        end = self.last_end()
        try:
            text = f"[{self.text[self.at : end]}]"
            batch, length = _parse(text)
        except (ValueError, RecursionError):
            return []
        if length < len(text) or not batch:
            return []
        self.at = end
        elements: list[Any] = batch
        return elements

    def last_end(self) -> int:
        """Return where the last element that may end in this window ends."""
        closing, follows = _next.get(self.text[self.at], ("", None))
        if follows is None:
            return max(self.text.rfind(",", self.at), self.at)
        end = len(self.text)
        for _ in range(TRIES):
            end = self.text.rfind(closing, self.at, end)
            if end < 0:
                break
            if follows(self.text, end + 1):
                return end + 1
        return self.at
