"""A run that waits, made without training, for a page to show: every kind, and hostile names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from almining.data.pool import Pool
from almining.data.scenes import make_scenes
from almining.label.desk import row_of
from almining.ledger import open_ledger
from almining.records import Detections, Evidence, Request, Target
from almining.review import Reviewer

HOSTILE = '<img src=x onerror="window.hacked=1">'
SCRIPT = "<script>window.hacked=1</script>"
SCENES = make_scenes(6, seed=0)


class Named:
    """The scenes under other names."""

    def __init__(self, names: dict[str, str]) -> None:
        self.names = names

    def load(self, image_id: str) -> Tensor:
        return SCENES.image(self.names[image_id])


def truth(hostile: bool = False) -> Pool:
    """Return the scenes with their boxes, perhaps under names that would be code if not escaped."""
    if not hostile:
        return SCENES
    names = {f"{HOSTILE}{number}": one for number, one in enumerate(SCENES.ids)}
    classes = [HOSTILE, SCRIPT, *SCENES.classes[2:]]
    return Pool(classes, {i: SCENES.target(one) for i, one in names.items()}, Named(names))


class Guessing(nn.Module):
    """A detector that finds what is there, a little off, and something that is not."""

    def __init__(self, hidden: Pool) -> None:
        super().__init__()
        self.hidden, self.place = hidden, nn.Parameter(torch.zeros(1))

    def detect(self, images: list[Tensor]) -> list[Detections]:
        return [self._found(image) for image in images]

    def _found(self, image: Tensor) -> Detections:
        for image_id in self.hidden.ids:
            if torch.equal(self.hidden.image(image_id), image):
                break
        target = self.hidden.target(image_id)
        boxes = torch.cat([target.boxes + 0.5, torch.tensor([[2.0, 2, 20, 20]])])
        labels = torch.cat([target.labels, torch.tensor([1])])
        return Detections(boxes, labels, torch.linspace(0.9, 0.4, len(labels)))


def begin(folder: Path, *, hostile: bool = False) -> Pool:
    """Make a run directory that waits for six answers; return its pool."""
    hidden = truth(hostile)
    one = hidden.ids[3]
    box = hidden.target(one).boxes[0]
    label = int(hidden.target(one).labels[0])
    why = Evidence("entropy", uncertain(hidden), f"most uncertain: {hidden.classes[0]} at 0.50")
    requests = [
        *(Request(f"001/{i}", i, "complete", score=0.5, evidence=why) for i in hidden.ids[:3]),
        Request("001/verify", one, "verify", box=box, label=label, score=0.4),
        Request("001/region", one, "region", box=box, label=label),
        Request("001/tag", hidden.ids[4], "tag"),
    ]
    with open_ledger(folder) as ledger:
        ledger.begin({"classes": list(hidden.classes)})
        ledger.close_cycle(0, {}, used=[], mined={}, set_aside=[])
        ledger.add_requests(1, [row_of(request) | {"set_aside": []} for request in requests])
    return Pool(hidden.classes, {i: Target.unknown() for i in hidden.ids}, hidden._images)


def uncertain(hidden: Pool) -> dict[str, Any]:
    target = hidden.target(hidden.ids[0])
    values = torch.linspace(0.7, 0.2, len(target))
    return {"boxes": target.boxes, "labels": target.labels, "entropies": values}


def reviewer(folder: str | Path, *, hostile: bool = False) -> Reviewer:
    """Return a reviewer of a run directory, which is made when there is none."""
    hidden = truth(hostile)
    if not (Path(folder) / "manifest.json").is_file():
        begin(Path(folder), hostile=hostile)
    pool = Pool(hidden.classes, {i: Target.unknown() for i in hidden.ids}, hidden._images)
    return Reviewer(pool, run_dir=folder, detector=Guessing(hidden))
