"""Start a script on several ranks of this machine, from a notebook or a program.

It runs under `torchrun` in processes of its own; this one shows their progress and what rank 0
prints, warnings included, and says which rank failed and why. Several machines are `torchrun`'s own
affair.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from almining.progress import FILE, Mirror

POLL_S = 0.2
TAIL = 25  # lines


def launch(
    script: str | os.PathLike[str],
    *args: object,
    ranks: int = 2,
    progress: bool | str = True,
    restarts: int = 0,
    threads: int | None = None,
) -> None:
    """Run a script on several ranks and wait for it; Ctrl-C reaches all of them.

    Args:
        script: a Python file; `ranks.joined(folder)` inside it makes the ranks one group.
        *args: what it finds in `sys.argv`.
        ranks: how many processes.
        progress: whether to show rank 0's progress bar here, or what to call it.
        restarts: how often all ranks are started again when one is lost.
        threads: of each rank; `OMP_NUM_THREADS` by default, or the cores divided by the ranks.

    Raises:
        ValueError: when there is no such script, or for fewer than one rank.
        RuntimeError: naming the rank that failed, with the end of what it printed.
    """
    if not Path(script).is_file():
        raise ValueError(f"script = {str(script)!r}: no such file")
    if ranks < 1:
        raise ValueError(f"ranks = {ranks}: at least one is needed")
    cores = len(os.sched_getaffinity(0))
    count = str(threads or os.environ.get("OMP_NUM_THREADS") or max(1, cores // ranks))
    with tempfile.TemporaryDirectory(prefix="almining-ranks-") as folder:
        logs = Path(folder)
        state = logs / "progress.json"
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command += [f"--nproc-per-node={ranks}", f"--max-restarts={restarts}", "--redirects=3"]
        command += [f"--log-dir={logs}", str(script), *map(str, args)]
        told = {"OMP_NUM_THREADS": count, "PYTHONUNBUFFERED": "1", FILE: str(state)}
        with (logs / "agent.log").open("wb") as agent:
            process = subprocess.Popen(
                command, stdout=agent, stderr=agent, env=os.environ | told, start_new_session=True
            )
        with Mirror(state, progress=progress) as shown:
            printed = _Printed(logs)
            try:
                while process.poll() is None:
                    time.sleep(POLL_S)
                    shown.update()
                    printed.show()
            except BaseException:
                _stop(process)
                raise
            finally:
                printed.show(rest=True)
        if process.returncode:
            raise RuntimeError(_failure(logs, ranks))


class _Printed:
    """What rank 0 prints, as it comes."""

    def __init__(self, logs: Path) -> None:
        self.logs = logs
        self.seen: dict[Path, int] = {}

    def show(self, *, rest: bool = False) -> None:
        """Print what is new: whole lines, and in the end the `rest`."""
        for path in sorted(self.logs.glob("*/attempt_*/0/std*.log")):
            with path.open("rb") as file:
                file.seek(self.seen.get(path, 0))
                new = file.read()
            new = new if rest else new[: new.rfind(b"\n") + 1]
            self.seen[path] = self.seen.get(path, 0) + len(new)
            stream = sys.stdout if path.stem == "stdout" else sys.stderr
            stream.write(new.decode(errors="replace"))


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Let the ranks finish their step, as after Ctrl-C; insist when that fails."""
    for how in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        process.send_signal(how)
        try:
            process.wait(40)  # torchrun kills ranks that do not end in 30 seconds
            return
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            continue


def _failure(logs: Path, ranks: int) -> str:
    """Say which rank failed first, and with what."""
    agent = (logs / "agent.log").read_text(errors="replace")
    cause = agent.rpartition("Root Cause")[2]
    found = re.search(r"rank\s*: (\d+).*?exitcode\s*: (-?\d+)", cause, flags=re.DOTALL)
    if found is None:
        return "torchrun failed:\n" + _tail(agent)
    rank, code = int(found[1]), int(found[2])
    how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    files = sorted(logs.glob(f"*/attempt_*/{rank}/stderr.log"))
    text = files[-1].read_text(errors="replace") if files else ""
    return f"rank {rank} of {ranks} ended with {how}:\n{_tail(text)}".rstrip("\n :")


def _tail(text: str) -> str:
    return "\n".join(text.splitlines()[-TAIL:])
