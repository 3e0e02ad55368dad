"""What a notebook's first cell needs: `lab.setup(...)`, and sliders that redraw a figure.

`ALMINING_DATA` (`voc:<root>`, `coco:<json>`, default the toy world) chooses the images,
`ALMINING_DEVICE` where to compute (default: cuda when there is one), `ALMINING_SCALE` how much
(`small`, `full`; default small on a CPU).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from almining import demo
from almining.cycle import labelled as complete_ids
from almining.data import regimes
from almining.data.pool import Pool
from almining.data.readers import read_coco, read_voc
from almining.data.scenes import make_scenes
from almining.detectors.rcnn import FasterRCNN, faster_rcnn, reuse
from almining.rng import derive, generator
from almining.train import TrainConfig, fit

# the detector a cycle starts from, where the demo itself knows too much
START = {"faster_rcnn": "faster_rcnn_start"}
TEST_SEED = 900_000
START_STEPS = {"cpu": 150, "cuda": 600}  # to train new heads on the reader's own labelled images
SCALES = {"small": {"images": 240, "test": 100}, "full": {"images": 2400, "test": 500}}


@dataclass(frozen=True, slots=True, eq=False)
class Lab:
    """What a notebook works with.

    Args:
        pool: what is known at the start: some images complete, the others tagged.
        hidden: the truth, for a simulated oracle.
        test: complete images to measure on.
        detector: the start, M⁰, trained on the complete images of such a pool.
        device: where to compute.
        toy: whether this is the toy world, on which a notebook's assertions hold.
        note: one sentence on what was set up.
    """

    pool: Pool
    hidden: Pool
    test: Pool
    detector: Any
    device: torch.device
    toy: bool
    note: str

    def __repr__(self) -> str:
        """Say in one line what was set up."""
        return f"Lab({self.note})"


def setup(
    name: str = "faster_rcnn",
    *,
    seed: int = 0,
    images: int | None = None,
    labelled: int = 20,
    test: int | None = None,
    data: str | None = None,
    device: str | None = None,
) -> Lab:
    """Return pool, hidden truth, test pool, starting detector and device.

    Args:
        name: the kind of detector.
        seed: which scenes are drawn, and which images start out labelled.
        images: size of the pool; by default 240, or 2400 at full scale, or all of the reader's own.
        labelled: how many of them start out complete; the others are tagged.
        test: number of test images, likewise.
        data: overrides `ALMINING_DATA`.
        device: overrides `ALMINING_DEVICE`.

    Raises:
        ValueError: when the environment or an argument names something that does not exist.
    """
    if name not in START:
        raise ValueError(f"name = {name!r}: there is a lab for {', '.join(START)}")
    where = _device(device)
    scale = SCALES[_scale(where)]
    source = data or os.environ.get("ALMINING_DATA") or "toy"
    if source == "toy":
        if seed >= TEST_SEED:
            raise ValueError(
                f"seed = {seed}: scenes of {TEST_SEED} and up are test scenes and the demos' own; "
                "choose a lower seed"
            )
        hidden = make_scenes(scale["images"] if images is None else images, seed=seed)
        held_out = make_scenes(scale["test"] if test is None else test, seed=TEST_SEED)
        pool = regimes.unlabelled(hidden, keep=min(labelled, len(hidden)), seed=seed, tags=True)
        detector = demo.load_demo(START[name], device=where)
        return Lab(
            pool, hidden, held_out, detector, where, True, f"toy world, {pool!r}, on {where}"
        )
    hidden, held_out = _read(source, seed, images, test)
    pool = regimes.unlabelled(hidden, keep=min(labelled, len(hidden)), seed=seed, tags=True)
    detector = _own_start(name, pool, seed, where)
    found = len({*hidden.findings, *held_out.findings})
    note = (
        f"{source.partition(':')[0]} data, {pool!r}, on {where}; "
        f"new heads were trained on the labelled images; {found} findings, "
        "see .hidden.findings and .test.findings"
    )
    return Lab(pool, hidden, held_out, detector, where, False, note)


def _device(asked: str | None) -> torch.device:
    name = (
        asked
        or os.environ.get("ALMINING_DEVICE")
        or ("cuda" if torch.cuda.is_available() else "cpu")
    )
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"device {name!r} is not to be had here: {error}; set ALMINING_DEVICE=cpu"
        ) from error


def _scale(device: torch.device) -> str:
    name = os.environ.get("ALMINING_SCALE") or ("small" if device.type == "cpu" else "full")
    if name not in SCALES:
        raise ValueError(f"ALMINING_SCALE = {name!r}: use one of {', '.join(SCALES)}")
    return name


def _read(source: str, seed: int, images: int | None, test: int | None) -> tuple[Pool, Pool]:
    kind, _, place = source.partition(":")
    path = Path(place).expanduser()
    if kind not in ("voc", "coco") or not place:
        raise ValueError(
            f"ALMINING_DATA = {source!r}: use voc:<root>, coco:<instances.json> or toy"
        )
    if kind == "voc":
        splits = {
            name: path / "ImageSets" / "Main" / f"{name}.txt"
            for name in ("trainval", "train", "test", "val")
        }
        there = [name for name, file in splits.items() if file.exists()]
        for ours, theirs in (("trainval", "test"), ("train", "val")):
            if {ours, theirs} <= set(there):
                learned = read_voc(path, ours)
                held_out = read_voc(path, theirs, classes=learned.classes)
                return _some(learned, images, seed), _some(held_out, test, seed)
        raise ValueError(
            f"ALMINING_DATA = {source!r}: {path / 'ImageSets' / 'Main'} holds neither trainval.txt "
            "and test.txt nor train.txt and val.txt; write lists of the images to learn from and "
            "to measure on"
        )
    if not path.is_file():
        raise ValueError(f"ALMINING_DATA = {source!r}: there is no file {path}; correct the path")
    everything = read_coco(path, coco_images(path))
    order = torch.randperm(len(everything), generator=generator(seed, "split")).tolist()
    ids = [everything.ids[position] for position in order]
    quarter = max(1, len(ids) // 4)
    return (
        _some(everything.subset(ids[quarter:]), images, seed),
        _some(everything.subset(ids[:quarter]), test, seed),
    )


def coco_images(json: Path) -> Path:
    """Return the folder of images beside a COCO file: `images`, or COCO's own `../<split>`.

    Raises:
        ValueError: naming the folders that were tried.
    """
    tried = [
        json.parent / "images",
        json.parent.parent / json.stem.removeprefix("instances_"),
        json.parent.parent / "images",
    ]
    for folder in tried:
        if folder.is_dir():
            return folder
    raise ValueError(f"no folder of images beside {json}; tried {', '.join(map(str, tried))}")


def _some(pool: Pool, most: int | None, seed: int) -> Pool:
    """Return at most so many of the complete images: only they can stand for the hidden truth."""
    known = complete_ids(pool)
    order = torch.randperm(len(known), generator=generator(seed, "some")).tolist()
    return pool.subset([known[position] for position in sorted(order[:most])])


def _own_start(name: str, pool: Pool, seed: int, device: torch.device) -> FasterRCNN:
    """Train new heads on the reader's own images, over the demo's backbone."""
    detector = reuse(
        faster_rcnn(pool.classes, min_size=240, max_size=400, seed=seed), demo.load_demo(name)
    )
    ids = complete_ids(pool)
    schedule = TrainConfig(steps=START_STEPS.get(device.type, 150), batch=4, lr=2e-3)
    fit(detector.to(device), pool, schedule, ids=ids, seed=derive(seed, "start"), progress="start")
    return detector.eval()


def knobs(render: Callable[..., Any], /, **choices: Any) -> Any:
    """Return sliders above a figure that is redrawn whenever one is moved.

    Args:
        render: takes the choices by name and returns a matplotlib figure.
        choices: name to `(low, high, step, start)` of numbers for a slider, or a list for a menu.

    >>> from almining import draw
    >>> box = knobs(lambda cut: draw.blank(f"cut at {cut}"), cut=(0.0, 1.0, 0.1, 0.5))
    >>> box.children[0].value
    0.5
    """
    import ipywidgets

    from almining.draw import png

    controls = {name: _control(ipywidgets, name, choice) for name, choice in choices.items()}
    natural = {"max_width": "100%", "align_self": "flex-start"}  # a box would stretch it
    picture = ipywidgets.Image(format="png", layout=natural)

    def redraw(_: object = None) -> None:
        picture.value = png(render(**{name: control.value for name, control in controls.items()}))

    for control in controls.values():
        control.observe(redraw, names=["value"])
    redraw()
    return ipywidgets.VBox([*controls.values(), picture])


def _control(ipywidgets: Any, name: str, choice: Any) -> Any:
    label = name.replace("_", " ")
    if isinstance(choice, list):
        return ipywidgets.Dropdown(options=choice, description=label)
    low, high, step, start = choice
    slider = ipywidgets.IntSlider if isinstance(step, int) else ipywidgets.FloatSlider
    return slider(
        value=start, min=low, max=high, step=step, description=label, continuous_update=False
    )
