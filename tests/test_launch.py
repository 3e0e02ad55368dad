import json
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
from almining import ranks
try:
    ranks.launch(*sys.argv[1:], progress="two ranks")
except KeyboardInterrupt:
    print("stopped by hand")
"""


def test_output_progress_and_ctrl_c_go_through(tmp_path) -> None:
    environment = {key: text for key, text in os.environ.items() if key != "TQDM_DISABLE"}
    del environment["OMP_NUM_THREADS"]
    printed, shown = tmp_path / "out", tmp_path / "err"
    with printed.open("w") as out, shown.open("w") as err:
        process = subprocess.Popen(
            [sys.executable, "-c", LAUNCH, "tests/rank_program.py", "wait", str(tmp_path)],
            stdout=out,
            stderr=err,
            cwd=REPO,
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
    said = printed.read_text().splitlines()
    assert said == ["hello from rank 0", f"{threads} threads", "stopped by hand"]
    assert "two ranks: slowly" in shown.read_text() and "elastic" not in shown.read_text()
    for rank in (0, 1):  # each finished its batch, and said so
        raised = json.loads((tmp_path / f"wait-{rank}.json").read_text())["raised"]
        assert raised[:2] == ["Interrupted", "stopped by Ctrl-C; what was finished is kept"]


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
