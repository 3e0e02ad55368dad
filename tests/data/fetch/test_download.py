import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from almining.data.fetch import download as module
from almining.data.fetch.download import FetchError, Rules, check_file, download
from tests.data.serving import RULES, Server, serving

CONTENT = bytes(range(256)) * 20_000  # 5 MB
SHA = hashlib.sha256(CONTENT).hexdigest()
NAME = "/sets/a.zip"


@pytest.fixture
def site():
    with serving(files={NAME: CONTENT}) as server:
        yield server


def fetch(site: Server, folder: Path, **asked) -> Path:
    return download(site.url(NAME), folder / "a.zip", **{"rules": RULES} | asked)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_arrives_whole_and_only_once(site: Server, tmp_path: Path) -> None:
    path = fetch(site, tmp_path / "new", sha256=SHA, size=len(CONTENT))
    assert path.read_bytes() == CONTENT
    assert names(path.parent) == ["a.zip", "a.zip.seen.json"]
    assert fetch(site, tmp_path / "new", sha256=SHA) == path
    assert site.asked == [(NAME, None)]


def test_a_cut_connection_is_taken_up_where_it_ended(site: Server, tmp_path: Path) -> None:
    site.cut[NAME] = 3_000_000
    assert fetch(site, tmp_path, sha256=SHA).read_bytes() == CONTENT
    assert site.asked == [(NAME, None), (NAME, "bytes=3000000-")]


def test_a_weak_mark_says_nothing_so_it_is_begun_anew(site: Server, tmp_path: Path) -> None:
    site.cut[NAME], site.weak = 3_000_000, True
    assert fetch(site, tmp_path, sha256=SHA).read_bytes() == CONTENT
    assert site.asked == [(NAME, None), (NAME, None)]


def test_a_killed_download_is_taken_up_by_the_next_call(site: Server, tmp_path: Path) -> None:
    site.cut[NAME] = 1_000_000
    real = module._transfer

    def killed(*arguments: object) -> None:
        with pytest.raises(module._Cut):
            real(*arguments)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module, "_transfer", killed)
        fetch(site, tmp_path)
    assert names(tmp_path) == ["a.zip.part", "a.zip.part.json"]
    assert fetch(site, tmp_path).read_bytes() == CONTENT
    assert site.asked[1] == (NAME, "bytes=1000000-")
    assert names(tmp_path) == ["a.zip", "a.zip.seen.json"]


@pytest.mark.parametrize("fault", ["changed", "no ranges", "no mark", "lost state", "too long"])
def test_what_cannot_be_taken_up_is_begun_anew(site: Server, tmp_path: Path, fault: str) -> None:
    part, state = tmp_path / "a.zip.part", tmp_path / "a.zip.part.json"
    part.write_bytes(b"old" * (2_000_000 if fault == "too long" else 100))
    mark = {"changed": "x", "no mark": None}.get(fault, f'"{SHA}"')
    if fault != "lost state":
        kept = {"url": site.url(NAME), "mark": mark, "bytes": len(CONTENT)}
        state.write_text(json.dumps(kept))
    site.ranges = fault != "no ranges"
    site.marks = fault != "no mark"
    assert fetch(site, tmp_path).read_bytes() == CONTENT


def test_another_part_than_asked_for_is_not_taken(site: Server, tmp_path: Path) -> None:
    site.cut[NAME] = 1_000_000
    site.lies = "bytes 0-999/5120000"
    with pytest.raises(FetchError, match=r"sends something else; .* run this again, which goes on"):
        fetch(site, tmp_path)
    site.lies = ""
    assert fetch(site, tmp_path).read_bytes() == CONTENT


def test_a_part_that_is_complete_is_not_asked_for(site: Server, tmp_path: Path) -> None:
    (tmp_path / "a.zip.part").write_bytes(CONTENT)
    kept = {"url": site.url(NAME), "mark": f'"{SHA}"', "bytes": len(CONTENT)}
    (tmp_path / "a.zip.part.json").write_text(json.dumps(kept))
    assert fetch(site, tmp_path, sha256=SHA).read_bytes() == CONTENT
    assert site.asked == []


def test_another_file_than_published_is_refused_and_removed(site: Server, tmp_path: Path) -> None:
    site.files[NAME] = CONTENT[:-1] + b"!"
    with pytest.raises(FetchError, match=rf"not {SHA}, the one published; .* is removed; run"):
        fetch(site, tmp_path, sha256=SHA)
    assert names(tmp_path) == []
    with pytest.raises(FetchError, match=r"has 5,120,000 bytes, not 7: it is another file"):
        fetch(site, tmp_path, size=7)
    site.files[NAME] = CONTENT
    assert fetch(site, tmp_path, sha256=SHA).read_bytes() == CONTENT


def test_the_first_file_seen_is_asked_for_from_then_on(site: Server, tmp_path: Path) -> None:
    path = fetch(site, tmp_path)
    assert json.loads((tmp_path / "a.zip.seen.json").read_text())["sha256"] == SHA
    path.unlink()
    site.files[NAME] = b"another"
    with pytest.raises(FetchError, match=r"first seen \(if that is right, remove a.zip.seen.json"):
        fetch(site, tmp_path)
    (tmp_path / "a.zip.seen.json").unlink()
    assert fetch(site, tmp_path).read_bytes() == b"another"


def test_a_file_that_changed_on_the_disk_is_noticed(site: Server, tmp_path: Path) -> None:
    path = fetch(site, tmp_path)
    path.write_bytes(b"x" + CONTENT[1:])
    os.utime(path, ns=(1, 1))
    with pytest.raises(FetchError, match="remove the file to fetch it again"):
        fetch(site, tmp_path)
    path.write_bytes(CONTENT)
    assert fetch(site, tmp_path) == path
    assert len(site.asked) == 1


def test_a_file_put_there_by_hand_is_checked(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(CONTENT)
    assert check_file(path, sha256=SHA) == path
    with pytest.raises(FetchError, match="not 3; remove it to fetch it again"):
        check_file(path, size=3)
    with pytest.raises(FetchError, match="the one published"):
        check_file(path, sha256="0" * 64)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://a.org/x", "only https is allowed"),
        ("file:///etc/passwd", "only https is allowed"),
        ("https://b.org/x", "the host b.org is not among a.org; .* fetch the file by hand"),
        ("https://a.org.b.org/x", r"the host a.org.b.org is not among"),
        ("https://a.org@b.org/x", "b.org: an address with a name or a password is not used"),
        ("https://me:secret@a.org/x", "^a.org: an address with a name or a password"),
        ("https:///x", "the host None"),
    ],
)
def test_only_https_and_known_hosts(url: str, why: str, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match=why):
        download(url, tmp_path / "x", rules=Rules(["a.org"]))
    assert names(tmp_path) == []


@pytest.mark.parametrize("lie", ["bytes 0-9/10", "bytes */7", "x", "bytes 0-5119999/5120000"])
def test_a_part_that_was_not_asked_for_is_not_taken(site: Server, tmp_path: Path, lie: str) -> None:
    site.lies = lie
    with pytest.raises(FetchError, match="what follows byte 0, the server sends something else"):
        fetch(site, tmp_path)
    site.lies = ""
    assert fetch(site, tmp_path, sha256=SHA).read_bytes() == CONTENT


@pytest.mark.parametrize("shorter", [False, True])
def test_a_file_that_changes_between_two_parts_is_not_mixed(
    site: Server, tmp_path: Path, shorter: bool
) -> None:
    site.cut[NAME], site.strict = 3_000_000, False

    def changed(*arguments: object) -> None:
        with pytest.raises(module._Cut):
            real(*arguments)
        site.files[NAME] = b"!" * (100 if shorter else len(CONTENT))
        patch.setattr(module, "_transfer", real)
        raise module._Cut("the connection ended")

    real = module._transfer
    with pytest.MonkeyPatch.context() as patch, pytest.raises(FetchError, match="something else"):
        patch.setattr(module, "_transfer", changed)
        fetch(site, tmp_path)
    assert fetch(site, tmp_path).read_bytes() == site.files[NAME]


def test_what_is_packed_on_the_way_is_refused(site: Server, tmp_path: Path) -> None:
    site.heads = {"Content-Encoding": "gzip"}
    with pytest.raises(FetchError, match="comes as gzip, which was not asked for"):
        fetch(site, tmp_path)
    assert names(tmp_path) == []
    assert download(site.url(NAME), tmp_path / "a.tgz", rules=RULES).read_bytes() == CONTENT


def test_a_file_without_an_end_does_not_fill_the_disk(
    site: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.length = False
    assert fetch(site, tmp_path / "short").read_bytes() == CONTENT
    with pytest.raises(FetchError, match="more than the 4,000,000 bytes expected are sent"):
        fetch(site, tmp_path / "known", size=4_000_000)
    free = iter([1 << 40, 1 << 40, 1000])
    usage = shutil._ntuple_diskusage
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(9, 9, next(free)))
    with pytest.raises(FetchError, match="1,000 are free"):
        fetch(site, tmp_path / "endless")


KILLED = """
import os, signal, sys
from pathlib import Path
from almining.data.fetch import download as module
from tests.data.serving import RULES

real = module._length

def dying(path):
    if real(path) > 2_000_000:
        os.kill(os.getpid(), signal.SIGKILL)
    return 0

module.bar = lambda **_: Bar()

class Bar:
    n = 0
    def __enter__(self): return self
    def __exit__(self, *_): pass
    def update(self, _): dying(Path(sys.argv[2] + ".part"))

module.download(sys.argv[1], sys.argv[2], rules=RULES)
"""


def test_after_kill_9_it_goes_on(site: Server, tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, site.url(NAME), str(tmp_path / "a.zip")]
    assert subprocess.run(command, timeout=300, check=False).returncode == -signal.SIGKILL
    assert names(tmp_path) == ["a.zip.part", "a.zip.part.json"]
    assert fetch(site, tmp_path, sha256=SHA).read_bytes() == CONTENT
    assert int(site.asked[1][1].removeprefix("bytes=").rstrip("-")) > 2_000_000


def test_redirects_lead_to_allowed_hosts_only(site: Server, tmp_path: Path) -> None:
    site.moved["/old"] = NAME
    path = download(site.url("/old"), tmp_path / "a", rules=RULES, sha256=SHA)
    assert path.read_bytes() == CONTENT
    bads = ("http://localhost:1/x", "https://127.0.0.1/x", "file:///x", "ftp://127.0.0.1/x")
    bads += ("http://me@127.0.0.1/x", "http://[127.0.0.1/x", "http://127.0.0.1:x/x")
    for number, bad in enumerate(bads):
        site.moved["/old"] = bad
        with pytest.raises(
            FetchError,
            match=r"is not among 127.0.0.1|only http is allowed|is not allowed|password|"
            r"cannot be reached \((Invalid IPv6|nonnumeric port)",
        ):
            download(site.url("/old"), tmp_path / f"b{number}", rules=RULES)
    site.moved["/old"] = "/old"
    with pytest.raises(FetchError, match="the server answers 302"):
        download(site.url("/old"), tmp_path / "c", rules=RULES)


def test_what_the_network_says_is_said_with_a_remedy(site: Server, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="the server answers 404 Not Found; look up where the set"):
        download(site.url("/gone"), tmp_path / "x", rules=RULES)
    site.status[NAME] = 503
    with pytest.raises(FetchError, match="503 Service Unavailable; check the network"):
        fetch(site, tmp_path)
    with pytest.raises(
        FetchError, match=r"127.0.0.1 cannot be reached .*refused.*HTTPS_PROXY.* hand"
    ):
        download("http://127.0.0.1:9/x", tmp_path / "x", rules=RULES)


def test_a_full_disk_is_seen_before_anything_is_written(
    site: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(9, 9, 1000))
    with pytest.raises(FetchError, match=r"needs 273,555,456 bytes .* 1,000 are free; free some"):
        fetch(site, tmp_path)
    assert names(tmp_path) == []


def test_a_disk_that_fills_up_keeps_what_arrived(site: Server, tmp_path: Path) -> None:
    import resource
    import signal

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, before[1]))
        with pytest.raises(FetchError, match=r"a.zip.part could not be written: .* goes on"):
            fetch(site, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert fetch(site, tmp_path, sha256=SHA).read_bytes() == CONTENT
    assert site.asked[1][1] is not None
