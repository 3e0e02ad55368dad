import gzip
import io
import resource
import shutil
import signal
import stat
import tarfile
import tracemalloc
import warnings
import zipfile
from pathlib import Path

import pytest

from almining.data.fetch import extract as module
from almining.data.fetch.download import FetchError
from almining.data.fetch.extract import Limits, extract

GOOD = {"a/": b"", "a/b.txt": b"x" * 512, "a/c.txt": b"y" * 1000, "e": b"", f"{'z' * 150}/ü": b"z"}
LINK, HARD, DEVICE, PIPE = tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE


def tar(path: Path, *entries: tuple[str, bytes], kind: bytes | None = None) -> Path:
    """Write a tar; names that end in / are folders, and the last entry may be of another kind."""
    mode = "w" if path.suffix == ".tar" else "w:gz"
    with tarfile.open(path, mode) as file:
        for number, (name, content) in enumerate(entries, start=1):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            entry.type = tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
            if kind is not None and number == len(entries):
                entry.type, entry.size, entry.linkname = kind, 0, "../outside"
            file.addfile(entry, io.BytesIO(content))
    return path


def zipped(path: Path, *entries: tuple[str, bytes], mode: int = 0) -> Path:
    """Write a zip; the last entry may have a mode."""
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w") as file:
        warnings.simplefilter("ignore")  # of names that stand twice
        for number, (name, content) in enumerate(entries, start=1):
            entry = zipfile.ZipInfo(name)
            entry.compress_type = zipfile.ZIP_DEFLATED
            if mode and number == len(entries):
                entry.external_attr = mode << 16
            file.writestr(entry, content)
    return path


def made(folder: Path, kind: str, *entries: tuple[str, bytes]) -> Path:
    path = folder / f"made{kind}"
    return zipped(path, *entries) if kind == ".zip" else tar(path, *entries)


def held(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


KINDS = (".tar", ".tar.gz", ".tgz", ".zip")


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_in_an_archive_comes_out_once(tmp_path: Path, kind: str) -> None:
    archive = made(tmp_path, kind, *GOOD.items())
    folder = extract(archive, tmp_path / "out")
    assert held(folder) == {name: content for name, content in GOOD.items() if name[-1] != "/"}
    assert not (tmp_path / "out.part").exists()
    (folder / "e").write_bytes(b"mine")
    archive.unlink()
    assert extract(archive, folder) == folder
    assert (folder / "e").read_bytes() == b"mine"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("at", [0, 1, 3, 4])
def test_interrupted_anywhere_it_ends_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, at: int
) -> None:
    archive = made(tmp_path, kind, *GOOD.items())
    real = module._Writer.write

    def killed(self, member, content) -> None:
        if self.members == at:
            raise KeyboardInterrupt
        real(self, member, content)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module._Writer, "write", killed)
        extract(archive, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (tmp_path / "out.part" / "a").mkdir(exist_ok=True, parents=True)
    (tmp_path / "out.part" / "a" / "half").write_bytes(b"of an earlier try")
    assert len(held(extract(archive, tmp_path / "out"))) == 4


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("entries", "why"),
    [
        ([("../x", b"1")], "leads out of the folder"),
        ([("a/../../x", b"1")], "leads out of the folder"),
        ([("/tmp/x", b"1")], "is an absolute path"),
        ([("C:/x", b"1")], "is an absolute path"),
        ([("a\\x", b"1")], "holds a backslash"),
        ([("a\nx", b"1")], "a control character"),
        ([("./", b""), (".", b"1")], "is no name of a file"),
        ([("a/.. /x", b"1")], "ends in a dot or a space"),
        ([("x.", b"1")], "ends in a dot or a space"),
        ([("y" * 256, b"1")], "is too long or too deep a path"),
        ([("a/" * 32 + "x", b"1")], "is too long or too deep a path"),
        ([("a" * 200 + ("/" + "b" * 200) * 6, b"1")], "is too long or too deep a path"),
        ([("a", b"1"), ("a", b"2")], "stands twice"),
        ([("a", b"1"), ("A", b"2")], "stands twice, at least where case is ignored"),
        ([("ü", b"1"), ("u\u0308", b"2")], "stands twice"),
        ([("a", b"1"), ("a/b", b"2")], "lies in what is a file"),
        ([("a/b", b"1"), ("a", b"2")], "stands twice"),
        ([("a", b"1"), ("a/", b"")], "stands twice"),
    ],
)
def test_hostile_names_are_refused(
    tmp_path: Path, kind: str, entries: list[tuple[str, bytes]], why: str
) -> None:
    archive = made(tmp_path, kind, ("first", b"1"), *entries)
    with pytest.raises(FetchError, match=rf"made{kind}: .*{why}.*; nothing is extracted"):
        extract(archive, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == [archive.name]


@pytest.mark.parametrize("kind", [LINK, HARD, DEVICE, PIPE, tarfile.BLKTYPE, b"?", b"S"])
def test_only_files_and_folders_come_out_of_a_tar(tmp_path: Path, kind: bytes) -> None:
    archive = tar(tmp_path / "a.tar", ("a", b"1"), ("x", b""), kind=kind)
    with pytest.raises(FetchError, match="'x' is a link, a device or a sparse file"):
        extract(archive, tmp_path / "out")
    assert not (tmp_path / "out").exists() and not (tmp_path / "out.part").exists()


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO, stat.S_IFSOCK])
def test_only_files_and_folders_come_out_of_a_zip(tmp_path: Path, kind: int) -> None:
    archive = zipped(tmp_path / "a.zip", ("a", b"1"), ("x", b"../outside"), mode=kind | 0o777)
    with pytest.raises(FetchError, match="'x' is a link or a device"):
        extract(archive, tmp_path / "out")


def test_a_name_that_zipfile_would_cut_is_refused(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "a.zip", ("good.txt#.exe", b"1"))
    content = archive.read_bytes()
    archive.write_bytes(content.replace(b"good.txt#.exe", b"good.txt\0.exe"))
    with pytest.raises(FetchError, match=r"good.txt\\x00.exe' holds a backslash, a control"):
        extract(archive, tmp_path / "out")


def test_a_path_of_very_many_folders_ends_soon(tmp_path: Path) -> None:
    archive = tar(tmp_path / "a.tgz", ("a/" * 100_000 + "x", b"1"))
    with pytest.raises(FetchError, match="is too long or too deep a path"):
        extract(archive, tmp_path / "out")


def test_a_zip_without_a_name_is_refused(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "a.zip", ("Q", b"1"))
    archive.write_bytes(archive.read_bytes().replace(b"Q", b"\0"))
    with pytest.raises(FetchError, match=r"'\\x00' holds a backslash, a control"):
        extract(archive, tmp_path / "out")
    with pytest.raises(FetchError, match="'' is no name of a file"):
        extract(zipped(tmp_path / "b.zip", ("", b"1")), tmp_path / "out")


@pytest.mark.parametrize("way", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_zip_packed_in_ways_that_fill_the_memory_is_refused(tmp_path: Path, way: int) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", way) as file:
        file.writestr("a", b"1" * 5000)
    with pytest.raises(FetchError, match="'a' is packed in a way that no set uses"):
        extract(tmp_path / "a.zip", tmp_path / "out")


def test_files_that_overlap_in_a_zip_are_refused(tmp_path: Path) -> None:
    content = zipped(tmp_path / "a.zip", ("A", bytes(5000))).read_bytes()
    place = content.index(b"PK\1\2")
    entry, end = content[place : place + 47], bytearray(content[place + 47 :])
    twice = entry + entry.replace(b"A", b"B")
    end[8:12], end[12:16] = b"\2\0\2\0", len(twice).to_bytes(4, "little")
    (tmp_path / "a.zip").write_bytes(content[:place] + twice + end)
    with pytest.raises(FetchError, match="damaged"):
        extract(tmp_path / "a.zip", tmp_path / "out")


@pytest.mark.parametrize("size", ["-5", "-1", "99999999999999", "x"])
def test_a_tar_that_renames_and_resizes_is_judged_by_what_it_says_last(
    tmp_path: Path, size: str
) -> None:
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT) as file:
        entry = tarfile.TarInfo("harmless")
        entry.size, entry.pax_headers = 700, {"path": "../../evil", "size": size}
        file.addfile(entry, io.BytesIO(b"1" * 700))
    with pytest.raises(FetchError, match=r"leads out|less than no bytes|damaged"):
        extract(tmp_path / "a.tar", tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar"]


def test_an_encrypted_zip_is_refused(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "a.zip", ("a", b"1"))
    content = bytearray(archive.read_bytes())
    content[content.index(b"PK\1\2") + 8] |= 1
    content[6] |= 1
    archive.write_bytes(content)
    with pytest.raises(FetchError, match="'a' is encrypted"):
        extract(archive, tmp_path / "out")


@pytest.mark.parametrize("kind", KINDS)
def test_limits(tmp_path: Path, kind: str) -> None:
    archive = made(tmp_path, kind, *((f"{i}", b"1" * 100) for i in range(9)))
    for limits, why in (
        (Limits(members=8), "members"),
        (Limits(bytes=899), "'8' goes beyond 899 bytes in all|declares 900 bytes, beyond 899"),
    ):
        with pytest.raises(FetchError, match=why):
            extract(archive, tmp_path / "out", limits=limits)
    exact = Limits(members=9, bytes=900)
    assert len(held(extract(archive, tmp_path / "out", limits=exact))) == 9


@pytest.mark.parametrize("kind", KINDS[1:])
def test_a_bomb_stops_at_the_ratio(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SMALL", 1 << 20)
    archive = made(tmp_path, kind, ("big", bytes(3 << 20)))
    with pytest.raises(FetchError, match="'big' goes beyond 100 times the size of the archive"):
        extract(archive, tmp_path / "out")
    assert len(held(extract(archive, tmp_path / "out", limits=Limits(ratio=2000)))) == 1


def test_declared_sizes_are_not_believed(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "a.zip", ("a", b"1" * 5000))
    content = archive.read_bytes()
    small = (5000).to_bytes(4, "little"), (10).to_bytes(4, "little")
    archive.write_bytes(content.replace(*small))
    with pytest.raises(FetchError, match=r"damaged|has more than the 10 bytes declared"):
        extract(archive, tmp_path / "out")
    archive.write_bytes(content.replace(small[0], (6000).to_bytes(4, "little")))
    with pytest.raises(FetchError, match=r"damaged|has 5,000 bytes, not 6,000 as declared"):
        extract(archive, tmp_path / "out")


def test_a_header_that_fills_the_memory_is_refused(tmp_path: Path) -> None:
    entry = tarfile.TarInfo("x")
    entry.type, entry.size = tarfile.XHDTYPE, 300 << 20
    with gzip.open(tmp_path / "a.tgz", "wb", compresslevel=1) as file:
        file.write(entry.tobuf(tarfile.USTAR_FORMAT))
        for _ in range(20):
            file.write(bytes(1 << 20))
    tracemalloc.start()
    with pytest.raises(FetchError, match="has a header of more than 4,194,304 bytes"):
        extract(tmp_path / "a.tgz", tmp_path / "out")
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()


@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_seen_wherever_it_is(tmp_path: Path, kind: str) -> None:
    archive = made(tmp_path, kind, *GOOD.items())
    content = archive.read_bytes()
    cuts = [0, 10, *range(512, len(content), 512)] if kind == ".tar" else [0, 20, 99]
    cuts = [cut for cut in cuts if any(content[cut:])]  # the rest is only what fills the last block
    cuts += [] if kind == ".tar" else [len(content) - 5]
    for cut in cuts:
        archive.write_bytes(content[:cut])
        with pytest.raises(FetchError):
            extract(archive, tmp_path / "out")
        assert not (tmp_path / "out").exists(), cut
    spoilt = bytearray(content)
    spoilt[content.index(b"a/b.txt") + 8 if kind == ".zip" else len(content) // 2] ^= 0xFF
    archive.write_bytes(spoilt)
    if kind != ".tar":  # a plain tar has a sum of its headers only
        with pytest.raises(FetchError, match="damaged"):
            extract(archive, tmp_path / "out")
    archive.write_bytes(b"<html>please log in</html>" * 90)
    with pytest.raises(
        FetchError, match=r"the archive is damaged .*; remove it and fetch it again"
    ):
        extract(archive, tmp_path / "out")


def test_nonsense_between_two_files_of_a_tar_is_no_end(tmp_path: Path) -> None:
    archive = tar(tmp_path / "a.tar", ("a", b"1" * 512), ("b", b"2" * 512))
    content = bytearray(archive.read_bytes())
    content[1024:1536] = b"\xff" * 512
    archive.write_bytes(content)
    with pytest.raises(FetchError, match="it ends before its end is marked"):
        extract(archive, tmp_path / "out")


def test_a_link_in_the_way_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out.part").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FetchError, match=r"out.part is a link; nothing is written through it"):
        extract(made(tmp_path, ".zip", *GOOD.items()), tmp_path / "out")
    assert held(tmp_path / "elsewhere") == {}


def test_what_is_no_archive_is_said(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match=r"a.zip is not there"):
        extract(tmp_path / "a.zip", tmp_path / "out")
    (tmp_path / "a.rar").write_bytes(b"")
    with pytest.raises(FetchError, match=r"\.tar, \.tar\.gz, \.tgz and \.zip can be extracted"):
        extract(tmp_path / "a.rar", tmp_path / "out")


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = made(tmp_path, ".zip", ("a", bytes(3_000_000)))
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(9, 9, 1000))
        with pytest.raises(FetchError, match="1,000 are free; free some"):
            extract(archive, tmp_path / "out")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, before[1]))
        with pytest.raises(FetchError, match=r"out.part could not be written: .* run this again"):
            extract(archive, tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert not (tmp_path / "out").exists()
    assert len(held(extract(archive, tmp_path / "out"))) == 1
