"""What a notebook's first cell needs: `lab.setup(...)`, and sliders that redraw a figure.

`ALMINING_DATA` (`voc:<root>`, `coco:<json>`, default the toy world) chooses the images,
`ALMINING_DEVICE` where to compute (default: cuda when there is one), `ALMINING_SCALE` how much
(`small`, `full`; default small on a CPU).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from almining import demo
from almining.cycle import labelled as complete_ids
from almining.data import regimes
from almining.data.pool import Pool
from almining.data.proposals import cached
from almining.data.readers import read_coco, read_voc
from almining.data.scenes import make_scenes
from almining.data.street import make_street
from almining.detectors.dense import dense
from almining.detectors.dense_boxes import HEIGHT
from almining.detectors.onestage import retinanet
from almining.detectors.rcnn import faster_rcnn, reuse
from almining.detectors.sigmoid import fast_rcnn
from almining.detectors.weak import mist
from almining.papers.note_rcnn import Config, initialise
from almining.rng import derive, generator
from almining.train import TrainConfig, fit

# the detector a cycle starts from, where the demo itself knows too much
START = {
    "fast_rcnn": "fast_rcnn",
    "faster_rcnn": "faster_rcnn_start",
    "mist": "mist",
    "dense": "dense",
    "retinanet": "retinanet_start",
    "note_rcnn": "source",
}
# images that start out complete: a weakly supervised detector starts from tags alone, a per-pixel
# one from what it knows of streets by day; of one's own images it has to see some
LABELLED = {
    "fast_rcnn": 80,
    "faster_rcnn": 20,
    "mist": 0,
    "dense": 0,
    "retinanet": 0,
    "note_rcnn": 12,
}
UNTAGGED = ("fast_rcnn", "dense")  # nothing is known of the images that are not labelled
OWN_LABELLED = LABELLED | {"dense": 20}
TAUGHT = {"mist": "new heads were trained on tags", "retinanet": "new heads know nothing yet"}
FILM, TEST_FILM = 40, 10  # frames of a film of the toy street
CACHE = Path("_runs", "proposals")  # what is found there is not proposed again
TEST_SEED = 900_000
START_STEPS = {"cpu": 150, "cuda": 600}  # to train new heads on the reader's own labelled images
SCALES = {"small": {"images": 240, "test": 100}, "full": {"images": 2400, "test": 500}}


@dataclass(frozen=True, slots=True, eq=False)
class Lab:
    """What a notebook works with.

    Args:
        pool: what is known at the start: some images complete, the others tagged; or all sparse.
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
    labelled: int | None = None,
    level: regimes.Level = "hard",
    test: int | None = None,
    data: str | None = None,
    device: str | None = None,
) -> Lab:
    """Return pool, hidden truth, test pool, starting detector and device.

    Args:
        name: the kind of detector: `"faster_rcnn"`; `"mist"`, which learned from tags alone and
            keeps region proposals in `_runs/proposals`; `"dense"`, which knows the toy street by
            day, where the pool is films at dusk, 40 frames each; `"retinanet"`, whose backbone
            knows single objects and whose heads know nothing, with a sparse pool; `"note_rcnn"`,
            made from a source detector of some classes, where the pool is of the others; or
            `"fast_rcnn"`, of one-vs-rest heads, which learned from 60 labelled scenes and keeps
            region proposals, too.
        seed: which scenes are drawn, and which images start out labelled.
        images: size of the pool; by default 240, or 2400 at full scale, or all of the reader's own.
        labelled: how many of them start out complete, the others are tagged, or for `"dense"` and
            `"fast_rcnn"` unlabelled; by default 20, 80 for `"fast_rcnn"`, none for `"mist"` and, in
            the toy world, for `"dense"`. For `"note_rcnn"` so many hold a class, on average: 12.
        level: how many boxes `"retinanet"`'s pool has lost, as in `regimes.sparse`.
        test: number of test images, likewise.
        data: overrides `ALMINING_DATA`.
        device: overrides `ALMINING_DEVICE`.

    Raises:
        ValueError: when the environment or an argument names something that does not exist.
    """
    if name not in START:
        raise ValueError(f"name = {name!r}: there is a lab for {', '.join(START)}")
    if name == "retinanet" and labelled is not None:
        raise ValueError(f"labelled = {labelled}: every image of 'retinanet' is sparse; give level")
    where = _device(device)
    scale = SCALES[_scale(where)]
    source = data or os.environ.get("ALMINING_DATA") or "toy"
    if labelled is None:
        labelled = (LABELLED if source == "toy" else OWN_LABELLED)[name]
    if source == "toy":
        if seed >= TEST_SEED:
            raise ValueError(
                f"seed = {seed}: scenes of {TEST_SEED} and up are test scenes and the demos' own; "
                "choose a lower seed"
            )
        makers: dict[str, Callable[..., Pool]] = {"dense": _films, "note_rcnn": target_scenes}
        make = makers.get(name, make_scenes)
        hidden = make(scale["images"] if images is None else images, seed=seed)
        held_out = make(scale["test"] if test is None else test, seed=TEST_SEED)
        pool = _start(name, hidden, labelled, level, seed)
        detector = _remembering(demo.load_demo(START[name], device=where))
        if name == "note_rcnn":
            detector = initialise(pool, detector, seed=derive(seed, "start"), progress="start")
        return Lab(
            pool, hidden, held_out, detector, where, True, f"toy world, {pool!r}, on {where}"
        )
    hidden, held_out = _read(source, seed, images, test)
    pool = _start(name, hidden, labelled, level, seed)
    detector = _own_start(name, pool, seed, where)
    found = len({*hidden.findings, *held_out.findings})
    note = (
        f"{source.partition(':')[0]} data, {pool!r}, on {where}; "
        f"{TAUGHT.get(name, 'new heads were trained on the labelled images')}; "
        f"{found} findings, "
        "see .hidden.findings and .test.findings"
    )
    return Lab(pool, hidden, held_out, detector, where, False, note)


def _start(name: str, hidden: Pool, labelled: int, level: regimes.Level, seed: int) -> Pool:
    if name == "retinanet":
        return regimes.sparse(hidden, level, seed=seed)
    if name == "note_rcnn":
        return regimes.seeds_and_tags(hidden, labelled, seed=seed)
    keep = min(labelled, len(hidden))
    return regimes.unlabelled(hidden, keep=keep, seed=seed, tags=name not in UNTAGGED)


def _films(frames: int, *, seed: int) -> Pool:
    """Return so many frames of films at dusk; the last film may be shorter."""
    length = TEST_FILM if seed == TEST_SEED else FILM
    pool = make_street(-(-frames // length), length, seed=seed, domain="dusk")
    return pool.subset(pool.ids[:frames])


def target_scenes(images: int, *, seed: int, density: str = "voc") -> Pool:
    """Return so many scenes with objects that NOTE-RCNN's source detector does not know.

    Args:
        images: how many.
        seed: which ones, as in `make_scenes`.
        density: likewise.
    """
    scenes = make_scenes(2 * images + 8, seed=seed, density=density)  # the others hold none
    _, pool = regimes.source_target(scenes, demo.describe(START["note_rcnn"])["classes"])
    return pool.subset(pool.ids[:images])


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


def _own_start(name: str, pool: Pool, seed: int, device: torch.device) -> Any:
    """Train new heads on what is known of the reader's own images, over the demo's backbone."""
    if name == "retinanet":  # all of its training is the paper's
        fresh = retinanet(pool.classes, min_size=240, max_size=400, seed=seed)
        start = demo.load_demo(START[name]).model.backbone.state_dict()
        fresh.model.backbone.load_state_dict(start)
        return fresh.to(device).eval()
    if name == "note_rcnn":
        source = faster_rcnn(demo.describe(START[name])["classes"], min_size=240, max_size=400)
        source.load_state_dict(demo.load_demo(START[name]).state_dict())
        toy, seeds = Config.toy(), max(1, len(complete_ids(pool)))
        config = replace(toy, first_epochs=START_STEPS.get(device.type, 150) * toy.batch / seeds)
        source = source.to(device)
        return initialise(pool, source, config, seed=derive(seed, "start"), progress="start")
    known, steps = demo.load_demo(name), START_STEPS.get(device.type, 150)
    detector: Any
    if name == "mist":
        options = demo.describe(name)["options"]
        detector = mist(pool.classes, seed=seed, size=240, max_size=400, **options)
        for part in ("backbone", "head"):
            getattr(detector, part).load_state_dict(getattr(known, part).state_dict())
        detector = _remembering(detector.to(device))
        detector.standardise(pool.image(image_id) for image_id in pool.ids[:100])
        ids, schedule = list(pool.ids), TrainConfig(steps, batch=4, lr=3e-4, weight_decay=1e-2)
    elif name == "fast_rcnn":
        options = demo.describe(name)["options"]
        detector = fast_rcnn(pool.classes, seed=seed, size=240, max_size=400, **options)
        detector.backbone.load_state_dict(known.backbone.state_dict())
        detector.head.layers.load_state_dict(known.head.layers.state_dict())
        detector = _remembering(detector.to(device))
        ids = complete_ids(pool)
        schedule = TrainConfig(steps, batch=4, lr=1e-3, weight_decay=1e-2)
    elif name == "dense":
        detector = _own_dense(pool, known, seed).to(device)
        ids, schedule = complete_ids(pool), TrainConfig(steps, batch=4, lr=2e-3)
    else:
        untrained = faster_rcnn(pool.classes, min_size=240, max_size=400, seed=seed)
        detector = reuse(untrained, known).to(device)
        ids, schedule = complete_ids(pool), TrainConfig(steps, batch=4, lr=2e-3)
    fit(detector, pool, schedule, ids=ids, seed=derive(seed, "start"), progress="start")
    return detector.eval()


def _own_dense(pool: Pool, known: Any, seed: int) -> Any:
    """Return the demo with new logits, and default boxes like those that are known."""
    found = [torch.empty(0, 2)]
    for image_id in complete_ids(pool):
        boxes, height = pool.target(image_id).boxes, pool.image(image_id).shape[1]
        found.append((boxes[:, 2:] - boxes[:, :2]).flip(1).clamp(min=1) * HEIGHT / height)
    sides = torch.cat(found)
    if not len(sides):
        raise ValueError(
            f"{len(found) - 1} images are labelled and hold no box: a per-pixel detector has "
            "nothing to learn from; give a larger labelled=, or another seed"
        )
    order = sides.prod(dim=1).argsort(descending=True)
    groups = [sides[part] if len(part) else sides[order[-1:]] for part in order.tensor_split(5)]
    middles = [group.median(dim=0).values.tolist() for group in groups]
    detector = dense(pool.classes, seed=seed, boxes=middles)
    state = {k: v for k, v in known.state_dict().items() if not k.startswith("network.logits")}
    detector.load_state_dict(state, strict=False)
    return detector


def _remembering(detector: Any) -> Any:
    if hasattr(detector, "proposer"):
        detector.proposer = cached(detector.proposer, CACHE)
    return detector


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
