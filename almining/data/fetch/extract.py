"""An archive on disk as a folder: `extract` for .tar, .tar.gz and .zip, written for hostile ones.

Only plain files and folders inside the folder come out. Links, devices, paths that are absolute or
lead up, and names that stand twice are refused, and so is what passes a limit on members, bytes or
ratio; bytes are counted as they are written, whatever an archive declares. Files get no mode, owner
or time. Other formats, and archives inside archives, are left to the caller.
"""

from __future__ import annotations

import gzip
import os
import shutil
import stat
import struct
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from almining.data.fetch.download import FetchError, full_disk_said, need_room
from almining.progress import bar

BLOCK = 1 << 20
HEADER_BYTES = 1 << 22  # the most that may lie between two files of a tar, or after the last
SMALL = 1 << 26  # bytes that may come out of an archive of any size
LONGEST, LONGEST_PART, DEEPEST = 1024, 255, 32  # bytes of a path, of a part of it; its parts
BROKEN: tuple[type[Exception], ...] = (EOFError, zlib.error, tarfile.TarError, struct.error)
BROKEN += (zipfile.BadZipFile, gzip.BadGzipFile, NotImplementedError, RuntimeError, ValueError)
BROKEN += (LookupError, OverflowError)


@dataclass(frozen=True, slots=True)
class Limits:
    """When to stop.

    Args:
        members: files and folders in an archive.
        bytes: written.
        ratio: bytes written by bytes of the archive, once 64 MB are written.
    """

    members: int = 2_000_000
    bytes: int = 200_000_000_000
    ratio: float = 100.0


def extract(
    archive: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    limits: Limits | None = None,
    progress: bool | str = True,
) -> Path:
    """Return the folder that holds what is in an archive; it is there whole or not at all.

    Until the last file is written it is called `<folder>.part`; after an interruption the next call
    begins anew. When the folder is there, nothing is done.

    Args:
        archive: ends in .tar, .tar.gz, .tgz or .zip.
        folder: what to make.
        limits: when to stop. Default: those of `Limits`.
        progress: whether to show a bar, or what to call it.

    Raises:
        FetchError: naming archive and member, for what is refused or damaged, or a full disk. What
            was refused leaves nothing behind.
    """
    archive, folder = Path(archive), Path(folder)
    if folder.is_dir():
        return folder
    part = folder.with_name(f"{folder.name}.part")
    if part.is_symlink():
        raise FetchError(f"{part} is a link; nothing is written through it, so remove it")
    with full_disk_said(str(part)):
        if not archive.is_file():
            raise FetchError(f"{archive} is not there; fetch it first")
        if part.exists():
            shutil.rmtree(part)
        part.mkdir(parents=True)
        writer = _Writer(archive, part, limits or Limits())
        name = archive.name if progress is True else progress
        try:
            with bar(progress=name, name="extracting", unit="file") as shown:
                for member, content in _members(archive, writer):
                    writer.write(member, content)
                    shown.update()
        except RefusedError:
            shutil.rmtree(part)
            raise
        except BROKEN as error:
            shutil.rmtree(part)
            raise RefusedError(
                f"{archive}: the archive is damaged ({error}); remove it and fetch it again"
            ) from error
        part.replace(folder)
    return folder


class RefusedError(FetchError):
    """What an archive may not hold."""


@dataclass(frozen=True, slots=True)
class _Member:
    """A file or folder of an archive: its path, whether it is a folder, its size as declared."""

    name: str
    folder: bool
    size: int


class _Writer:
    """Writes members under a folder, and refuses those that may not be there."""

    def __init__(self, archive: Path, root: Path, limits: Limits) -> None:
        self.archive, self.root, self.limits = archive, root, limits
        self._packed = archive.stat().st_size
        self._seen: dict[str, bool] = {}  # folded path: whether a file stands there
        self._folders: set[Path] = {root}
        self.members = self.written = 0

    def refuse(self, name: str, why: str) -> RefusedError:
        """Return the error for a member."""
        return RefusedError(
            f"{self.archive}: {name!r} {why}; nothing is extracted. Remove the archive and fetch "
            "it again from where it is published"
        )

    def write(self, member: _Member, content: IO[bytes] | None) -> None:
        """Write one member."""
        self.members += 1
        if self.members > self.limits.members:
            raise self.refuse(member.name, f"is one more than {self.limits.members:,} members")
        parts = self._parts(member)
        path = self.root.joinpath(*parts)
        if member.folder:
            self._make(path)
            return
        assert content is not None
        self._make(path.parent)
        self._copy(member, content, path)

    def _parts(self, member: _Member) -> list[str]:
        """Return the parts of a path that stays inside and stands once."""
        name = member.name
        if any(unicodedata.category(sign) in ("Cc", "Cs") for sign in name) or "\\" in name:
            raise self.refuse(name, "holds a backslash, a control character or half a character")
        if name.startswith("/") or name[1:2] == ":":
            raise self.refuse(name, "is an absolute path")
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if ".." in parts:
            raise self.refuse(name, "leads out of the folder")
        if any(part[-1] in ". " for part in parts):
            raise self.refuse(name, "has a part that ends in a dot or a space, which some drop")
        lengths = [len(part.encode()) for part in parts]
        if sum(lengths) > LONGEST or max(lengths, default=0) > LONGEST_PART or len(parts) > DEEPEST:
            raise self.refuse(f"{name[:40]}...", "is too long or too deep a path")
        if not parts and not member.folder:
            raise self.refuse(name, "is no name of a file")
        self._note(name, parts, member.folder)
        return parts

    def _note(self, name: str, parts: list[str], is_folder: bool) -> None:
        """Refuse a file that stands twice, or where a folder is; in any case and composition."""
        folded = [unicodedata.normalize("NFC", part).casefold() for part in parts]
        for depth in range(1, len(folded)):
            if self._seen.setdefault("/".join(folded[:depth]), False):
                raise self.refuse(name, "lies in what is a file")
        whole = "/".join(folded)
        if whole in self._seen and not (is_folder and not self._seen[whole]):
            raise self.refuse(name, "stands twice, at least where case is ignored")
        self._seen[whole] = not is_folder

    def _make(self, folder: Path) -> None:
        """Make a folder, its parents too."""
        if folder not in self._folders:
            folder.mkdir(parents=True, exist_ok=True)
            self._folders.add(folder)

    def _copy(self, member: _Member, content: IO[bytes], path: Path) -> None:
        """Write a file and count its bytes."""
        size = 0
        with path.open("xb") as file:
            while block := content.read(BLOCK):
                size += len(block)
                self.written += len(block)
                self._check(member, size)
                file.write(block)
        if size != member.size:
            raise self.refuse(member.name, f"has {size:,} bytes, not {member.size:,} as declared")

    def _check(self, member: _Member, size: int) -> None:
        limits = self.limits
        if size > member.size:
            raise self.refuse(member.name, f"has more than the {member.size:,} bytes declared")
        if self.written > limits.bytes:
            raise self.refuse(member.name, f"goes beyond {limits.bytes:,} bytes in all")
        if self.written > max(SMALL, limits.ratio * self._packed):
            raise self.refuse(
                member.name, f"goes beyond {limits.ratio:g} times the size of the archive"
            )


def _members(archive: Path, writer: _Writer) -> Iterator[tuple[_Member, IO[bytes] | None]]:
    name = archive.name.lower()
    if name.endswith(".zip"):
        return _of_zip(archive, writer)
    if name.endswith((".tar", ".tar.gz", ".tgz")):
        return _of_tar(archive, writer)
    raise FetchError(f"{archive}: .tar, .tar.gz, .tgz and .zip can be extracted")


def _of_zip(archive: Path, writer: _Writer) -> Iterator[tuple[_Member, IO[bytes] | None]]:
    with zipfile.ZipFile(archive) as file:
        entries = file.infolist()
        if len(entries) > writer.limits.members:
            raise writer.refuse(entries[-1].filename, f"is one of {len(entries):,} members")
        declared = sum(entry.file_size for entry in entries)
        if declared > writer.limits.bytes:
            raise writer.refuse("", f"declares {declared:,} bytes, beyond {writer.limits.bytes:,}")
        need_room(writer.root, declared, archive.name)
        for entry in entries:
            kind = stat.S_IFMT(entry.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise writer.refuse(entry.filename, "is a link or a device")
            if entry.header_offset < 0:
                raise writer.refuse(entry.filename, "lies before the archive")
            if entry.flag_bits & 1:
                raise writer.refuse(entry.filename, "is encrypted")
            if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise writer.refuse(entry.filename, "is packed in a way that no set uses")
            # zipfile cuts a name at its first NUL, so the one stored is judged
            name = entry.orig_filename
            member = _Member(name, name.endswith("/"), entry.file_size)
            if member.folder:
                yield member, None
            else:
                with file.open(entry) as content:
                    yield member, content


def _of_tar(archive: Path, writer: _Writer) -> Iterator[tuple[_Member, IO[bytes] | None]]:
    need_room(writer.root, archive.stat().st_size, archive.name)
    with archive.open("rb") as packed:
        zipped = not archive.name.lower().endswith(".tar")
        plain = _Tape(cast(IO[bytes], gzip.open(packed) if zipped else packed), writer)
        with tarfile.open(fileobj=cast(IO[bytes], plain), mode="r:") as file:
            while entry := file.next():
                vars(file)["members"].clear()  # they are many, and not looked up again
                if not (entry.isfile() or entry.isdir()) or entry.issparse():
                    raise writer.refuse(entry.name, "is a link, a device or a sparse file")
                if entry.size < 0:
                    raise writer.refuse(entry.name, "declares less than no bytes")
                member = _Member(entry.name, entry.isdir(), entry.size)
                yield member, None if entry.isdir() else cast(IO[bytes], _Piece(plain, entry.size))
                plain.room = HEADER_BYTES
        plain.finish()


class _Tape:
    """The bytes of a tar, read once from front to back.

    What lies between two files is read at once by `tarfile`, so it must not be much.
    """

    def __init__(self, file: IO[bytes], writer: _Writer) -> None:
        self._file, self._writer = file, writer
        self._place = 0
        self.last, self.room = b"", HEADER_BYTES

    def tell(self) -> int:
        return self._place

    def seek(self, place: int) -> int:
        """Go on to a place further on."""
        if place < self._place:
            raise ValueError(f"byte {place:,} is asked for after byte {self._place:,}")
        while self._place < place and self.take(min(BLOCK, place - self._place)):
            pass
        return self._place

    def read(self, size: int) -> bytes:
        """Return what `tarfile` asks for, headers."""
        self.room -= size
        if self.room < 0:
            raise self._writer.refuse("", f"has a header of more than {HEADER_BYTES:,} bytes")
        return self.take(size)

    def finish(self) -> None:
        """See that the end is marked, for which `tarfile` takes any nonsense, and read to it."""
        if any(self.last) or not self.last:
            raise EOFError("it ends before its end is marked")
        while self.last:
            self.read(BLOCK)

    def take(self, size: int) -> bytes:
        """Return the next bytes of the file."""
        block = self._file.read(size)
        self._place += len(block)
        self.last = block
        return block


class _Piece:
    """The content of one file on a tape."""

    def __init__(self, tape: _Tape, size: int) -> None:
        self._tape, self._left = tape, size

    def read(self, size: int) -> bytes:
        block = self._tape.take(min(size, self._left)) if self._left else b""
        self._left -= len(block)
        return block
