import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from almining.launch import launch

REPO = Path(__file__).resolve().parents[1]
LAUNCH = """
import sys
from almining.launch import launch
try:
    launch(*sys.argv[1:], progress="two ranks")
except KeyboardInterrupt:
    print("stopped by hand")
"""
SCRIPT = """
import os, signal, sys, time, warnings
from pathlib import Path
from almining.interrupts import Interrupted, check, held
from almining.progress import bar
signal.signal(signal.SIGINT, signal.default_int_handler)
rank = os.environ["RANK"]
print(f"hello from rank {rank}")
warnings.warn(f"a warning of rank {rank}")
sys.stdout.buffer.write(b"\\xff" + os.environ["OMP_NUM_THREADS"].encode() + b" threads\\n")
try:
    with held():
        Path(sys.argv[1], "ready" + rank).touch()
        while not all(Path(sys.argv[1], "ready" + each).exists() for each in "01"):
            time.sleep(0.05)
        with bar(range(4000), progress="slowly", name="sleep", unit="image") as items:
            for _ in items:
                time.sleep(0.05)
                check()
except Interrupted as error:
    Path(sys.argv[1], rank).write_text(str(error))
print(f"bye from rank {rank}", end="")
"""


def test_output_progress_and_ctrl_c_go_through(tmp_path) -> None:
    environment = {key: text for key, text in os.environ.items() if key != "TQDM_DISABLE"}
    del environment["OMP_NUM_THREADS"]
    printed, shown, script = tmp_path / "out", tmp_path / "err", tmp_path / "a script.py"
    script.write_text(SCRIPT)
    with printed.open("w") as out, shown.open("w") as err:
        process = subprocess.Popen(
            [sys.executable, "-c", LAUNCH, str(script), str(tmp_path)],
            stdout=out,
            stderr=err,
            env=environment | {"PYTHONPATH": str(REPO)},
        )
    end = time.monotonic() + 120
    while "/4000" not in shown.read_text() and time.monotonic() < end and process.poll() is None:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    try:
        assert process.wait(120) == 0, shown.read_text()
    finally:
        process.kill()
    threads = max(1, len(os.sched_getaffinity(0)) // 2)
    said = printed.read_text()
    assert said == f"hello from rank 0\n\ufffd{threads} threads\nbye from rank 0stopped by hand\n"
    complaints = shown.read_text()
    assert "two ranks: slowly" in complaints and "elastic" not in complaints
    assert "a warning of rank 0" in complaints and "rank 1" not in complaints
    for rank in ("0", "1"):  # each finished what it was at
        assert (tmp_path / rank).read_text() == "stopped by Ctrl-C; what was finished is kept"


def test_a_failure_names_the_rank_and_shows_what_it_said(tmp_path, capsys) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import os, sys, time\n"
        "print('fine so far')\n"
        "if os.environ['RANK'] == '1':\n"
        "    raise ValueError(f'no good: {sys.argv[1:]}')\n"
        "time.sleep(60)\n"
    )
    with pytest.raises(RuntimeError, match="rank 1 of 2 ended with exit code 1:") as caught:
        launch(script, "--seed", 3, progress=False)
    assert str(caught.value).endswith("ValueError: no good: ['--seed', '3']")
    assert capsys.readouterr().out == "fine so far\n"


def test_what_cannot_be_started_is_refused(tmp_path) -> None:
    with pytest.raises(ValueError, match=r"script = '.*nowhere\.py': no such file"):
        launch(tmp_path / "nowhere.py")
    with pytest.raises(ValueError, match="ranks = 0: at least one is needed"):
        launch(__file__, ranks=0)
