"""Same seed, same result: twice, in new processes, with a real detector."""

import subprocess
import sys

SCRIPT = """
import hashlib
import almining as al
from almining.papers import baselines

lab = al.lab.setup("faster_rcnn", images=14, labelled=4, test=3, device="cpu")
config = baselines.Config(steps_per_image=0.5, batch=2, lr=1e-3, optimizer="adamw")
for recipe in (baselines.u_random(config), baselines.entropy_max(config)):
    history = al.cycle.run(recipe, lab.detector, lab.pool, oracle=al.label.Simulated(lab.hidden),
                           test=lab.test, budget=3, cycles=2, seed={seed}, progress=False)
    digest = hashlib.sha256()
    for name, value in sorted(history.detector.state_dict().items()):
        digest.update(name.encode() + value.cpu().numpy().tobytes())
    print(recipe.name, [row.picked for row in history.rows], digest.hexdigest())
"""


def start(seed: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SCRIPT.format(seed=seed)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_equal_picks_and_equal_weights_in_new_processes() -> None:
    running = [start(seed) for seed in (3, 3, 4)]
    one, two, other = (process.communicate()[0].splitlines() for process in running)
    assert [process.returncode for process in running] == [0, 0, 0]
    assert len(one) == 2 and one == two
    assert all(mine != theirs for mine, theirs in zip(one, other, strict=True))
