"""One file from the network: over https only, from known hosts, resumed, checked, renamed.

What arrives is `<name>.part` until it is whole and its SHA-256 is the one published; where none is,
the first one seen is kept in `<name>.seen.json` and asked for from then on. Nothing here uses an
account: a file that needs one is put in its place by hand, and is checked alike.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from almining.digests import digest_file
from almining.progress import bar

BLOCK = 1 << 20
TIMEOUT_S = 60.0
SPARE = 1 << 28  # bytes of the disk that stay free
REDIRECTS = 5


class FetchError(OSError):
    """What went wrong with a download or an archive, and what to do."""


@dataclass(frozen=True, slots=True)
class Rules:
    """Where files may come from.

    Args:
        hosts: names of servers, lower case; the first and every one a redirect leads to.
        schemes: of addresses.

    >>> Rules(["images.org"]).check("https://images.org/a.zip")
    >>> Rules(["images.org"]).check("http://images.org/a.zip")
    Traceback (most recent call last):
    almining.data.fetch.download.FetchError: http://images.org/a.zip: only https is allowed
    """

    hosts: tuple[str, ...]
    schemes: tuple[str, ...] = ("https",)

    def __post_init__(self) -> None:
        """Keep lists as tuples."""
        object.__setattr__(self, "hosts", tuple(self.hosts))
        object.__setattr__(self, "schemes", tuple(self.schemes))

    def check(self, url: str) -> None:
        """Raise a `FetchError` for an address that is not allowed."""
        parts = urlsplit(url)
        if parts.scheme not in self.schemes:
            raise FetchError(f"{url}: only {' or '.join(self.schemes)} is allowed")
        if parts.username is not None:  # not shown: it may be someone's
            raise FetchError(f"{parts.hostname}: an address with a name or a password is not used")
        if parts.hostname not in self.hosts:
            raise FetchError(
                f"{url}: the host {parts.hostname} is not among {', '.join(self.hosts)}; if the "
                "set has moved there, fetch the file by hand"
            )


class _Redirects(HTTPRedirectHandler):
    """Redirects to what the rules allow."""

    max_redirections = REDIRECTS

    def __init__(self, rules: Rules) -> None:
        self._rules = rules

    def http_error_302(self, req: Request, fp: Any, code: int, msg: str, headers: Any) -> Any:
        """Follow it, and leave nothing open that is not followed."""
        try:
            return super().http_error_302(req, fp, code, msg, headers)
        except (OSError, ValueError):
            fp.close()
            raise

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302

    def redirect_request(
        self, req: Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> Request | None:
        self._rules.check(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class _Cut(Exception):
    """The connection ended before the file did."""


def download(
    url: str,
    path: str | os.PathLike[str],
    *,
    rules: Rules,
    sha256: str | None = None,
    size: int | None = None,
    progress: bool | str = True,
) -> Path:
    """Return a file that was fetched, or was there; interrupted, the next call goes on.

    Args:
        url: the address.
        path: where the file is to be.
        rules: where it may come from.
        sha256: of the file, in hexadecimal, where one is published.
        size: in bytes, where it is known: a longer answer is cut off and refused.
        progress: whether to show a bar, or what to call it.

    Raises:
        FetchError: saying what to do: the network, an address or a host that is not allowed, a
            full disk, a file that is not the one expected.
    """
    path = Path(path)
    if path.exists():
        return check_file(path, sha256=sha256, size=size)
    rules.check(url)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    while True:
        before = _length(part)
        try:
            _transfer(url, part, rules, size, path.name if progress is True else progress)
            break
        except _Cut as cut:
            if _length(part) <= before:
                raise FetchError(
                    f"{url}: {cut}; check the network (HTTPS_PROXY, where there is a proxy) and "
                    f"run this again, which goes on, or fetch the file by hand, to {path}"
                ) from cut.__cause__
    try:
        check_file(part, sha256=sha256, size=size, record=_record(path))
    except FetchError as error:
        part.unlink()
        _state(part).unlink(missing_ok=True)
        raise FetchError(f"{url}: {error}. What arrived is removed; run this again") from error
    part.replace(path)
    _state(part).unlink(missing_ok=True)
    return check_file(path, sha256=sha256, size=size)


def check_file(
    path: Path, *, sha256: str | None = None, size: int | None = None, record: Path | None = None
) -> Path:
    """Return the path of a file that is the one expected; once known, it is not read again.

    Args:
        path: the file.
        sha256: of the file, where one is published.
        size: in bytes, where it is known.
        record: where the first hash seen is kept. Default: `<name>.seen.json` beside the file.

    Raises:
        FetchError: when it is another.
    """
    record = _record(path) if record is None else record
    found = path.stat()
    if size is not None and found.st_size != size:
        raise FetchError(
            f"{path.name} has {found.st_size:,} bytes, not {size:,}; remove it to fetch it again"
        )
    seen = _read(record)
    asked = sha256 or seen.get("sha256")
    if asked and (seen.get("bytes"), seen.get("time")) == (found.st_size, found.st_mtime_ns):
        if seen.get("sha256") == asked:
            return path
    digest = digest_file(path)
    if asked is not None and digest != asked:
        whose = "published" if sha256 else f"first seen (if that is right, remove {record.name})"
        raise FetchError(
            f"{path.name} has the SHA-256 {digest}, not {asked}, the one {whose}; remove the file "
            "to fetch it again"
        )
    content = {"sha256": digest, "bytes": found.st_size, "time": found.st_mtime_ns}
    _write(record, content)
    return path


def forget(path: Path) -> None:
    """Let another file take the place of one that was seen."""
    _record(path).unlink(missing_ok=True)


def need_room(folder: Path, size: int, what: str) -> None:
    """Raise a `FetchError` when a folder's disk has no room for so many bytes more."""
    free = shutil.disk_usage(folder).free
    if free < size + SPARE:
        raise FetchError(
            f"{what} needs {size + SPARE:,} bytes on the disk of {folder}, {free:,} are free; free "
            "some, or choose another folder"
        )


@contextmanager
def full_disk_said(what: str) -> Iterator[None]:
    """Turn what a disk says into a `FetchError` that names what was being written."""
    try:
        yield
    except FetchError:
        raise
    except OSError as error:
        raise FetchError(
            f"{what} could not be written: {error.strerror or error}; mend that and run this "
            "again, which goes on"
        ) from error


def _transfer(url: str, part: Path, rules: Rules, size: int | None, progress: bool | str) -> None:
    """Fetch what is still missing of a file."""
    state, have = _read(_state(part)), _length(part)
    headers = {"User-Agent": "almining", "Accept-Encoding": "identity"}
    known = state.get("bytes") if state.get("url") == url and state.get("mark") else None
    if have and have == known:
        return
    if have and known is not None and have < known:
        headers |= {"Range": f"bytes={have}-", "If-Range": state["mark"]}
    with _answer(Request(url, headers=headers), rules) as answer:
        start, total = _extent(answer, have, state)
        if start is None:
            _state(part).unlink(missing_ok=True)
            raise _Cut(f"asked for what follows byte {have:,}, the server sends something else")
        if size is not None and total is not None and total != size:
            raise FetchError(f"{url} has {total:,} bytes, not {size:,}: it is another file")
        coding = answer.headers.get("Content-Encoding") or "identity"
        if coding != "identity" and not part.stem.lower().endswith("gz"):
            raise FetchError(f"{url} comes as {coding}, which was not asked for; fetch it by hand")
        need_room(part.parent, (total or size or 0) - start, part.name)
        with full_disk_said(str(part)), part.open("r+b" if start else "wb") as file:
            file.truncate(start)
            file.seek(start)
            if not start:
                mark = {"url": url, "mark": _mark(answer.headers), "bytes": total}
                _write(_state(part), mark)
            _copy(answer, file, start, total or size, progress)
            file.flush()
            os.fsync(file.fileno())
    if total is not None and _length(part) < total:
        raise _Cut(f"the connection ended after {_length(part):,} of {total:,} bytes")


@contextmanager
def _answer(request: Request, rules: Rules) -> Iterator[Any]:
    """Open an address; what a server or the network answers instead is said in words."""
    answer: Any
    try:
        answer = build_opener(_Redirects(rules)).open(request, timeout=TIMEOUT_S)
    except HTTPError as error:
        answer = error
        if error.code != 416:  # that is: what is there is no beginning of what is served now
            error.close()
            said = f"the server answers {error.code} {error.reason}"
            if error.code >= 500 or error.code in (408, 429):
                raise _Cut(said) from error
            raise FetchError(
                f"{request.full_url}: {said}; look up where the set is now, and fetch the file by "
                "hand"
            ) from error
    except FetchError:
        raise
    except (OSError, HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)  # of an URLError, which only wraps it
        raise _Cut(f"{urlsplit(request.full_url).hostname} cannot be reached ({reason})") from error
    with answer:
        yield answer


def _extent(answer: Any, have: int, state: dict[str, Any]) -> tuple[int | None, int | None]:
    """Return where an answer begins, None where it should not, and the length of the file."""
    if answer.status == 200:
        return 0, answer.length
    known = state.get("bytes") or 0
    good = answer.status == 206 and _mark(answer.headers) in (None, state.get("mark"))
    good &= answer.headers.get("Content-Range") == f"bytes {have}-{known - 1}/{known}"
    return have if good else None, known


def _copy(answer: Any, file: Any, done: int, most: int | None, progress: bool | str) -> None:
    shown = bar(
        progress=progress, name="fetching", unit="MB", total=None if most is None else most >> 20
    )
    with shown:
        while True:
            try:
                block = answer.read(BLOCK)
            except (OSError, HTTPException) as error:
                raise _Cut(f"the connection ended after {done:,} bytes ({error})") from error
            if not block:
                return
            done += len(block)
            if most is None:
                need_room(Path(file.name).parent, len(block), file.name)
            elif done > most:
                raise FetchError(f"{file.name}: more than the {most:,} bytes expected are sent")
            file.write(block)
            shown.update((done >> 20) - shown.n)


def _mark(headers: Any) -> str | None:
    """Return by what the server knows that the file is still the same; a weak tag says nothing."""
    tag = headers.get("ETag", "")
    return tag if tag and not tag.startswith("W/") else headers.get("Last-Modified")


def _record(path: Path) -> Path:
    return path.with_name(f"{path.name}.seen.json")


def _state(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _read(path: Path) -> dict[str, Any]:
    """Return the object in a small file, empty where it is absent or no such thing."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _write(path: Path, content: dict[str, Any]) -> None:
    with full_disk_said(str(path)):
        part = path.with_name(f"{path.name}.new")
        part.write_text(json.dumps(content), encoding="utf-8")
        part.replace(path)
