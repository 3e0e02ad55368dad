"""Score real street frames: how they score, which are picked, how fast.

    python data_scripts/divergence_real.py <root of MOT17 frames with instances.json>

The detector that ships knows drawn streets only, so one like it first learns from the labelled
frames of one video and the first of another, and then looks at the rest of that one, which is more
of the same street: what it finds there says nothing of its quality. Frames are made smaller,
`--height` pixels high. Writes `notebooks/results/divergence_real.json` and a table beside it;
photographs are drawn only where `--pictures` says, never into the project.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

import almining as al
from almining.data.pool import ImageInfo, Pool
from almining.data.readers import read_coco
from almining.papers import divergence
from almining.records import Target

FILE = Path(__file__).parent.parent / "notebooks" / "results" / "divergence_real.json"
REGION, RADIUS = 30 / 480, 9 / 480  # of the paper's images 480 pixels high
NOW = 15  # Δt1, at the paper's frame rate of 30 in a second


class Smaller:
    """The images of a pool, so many pixels high.

    Args:
        pool: whose images.
        height: theirs, in the end.
    """

    def __init__(self, pool: Pool, height: int) -> None:
        """Keep the pool; nothing is read."""
        self.pool, self.height = pool, height

    def load(self, image_id: str) -> Tensor:
        """Return one image, resized."""
        image = self.pool.image(image_id)
        size = (self.height, round(image.shape[2] * self.height / image.shape[1]))
        return interpolate(image[None], size, mode="area")[0]


def shrink(pool: Pool, source: Path, height: int) -> Pool:
    """Return the pool with smaller images and boxes, each frame with its video and number.

    Args:
        pool: of frames in their own size.
        source: the COCO file, whose images name `sequence` and `frame`.
        height: in pixels.
    """
    images = json.loads(source.read_text(encoding="utf-8"))["images"]
    places = {str(one["id"]): (one["sequence"], int(one["frame"])) for one in images}
    targets, infos = {}, {}
    for image_id in pool.ids:
        known, info = pool.target(image_id), pool.info(image_id)
        assert info.size is not None
        scale = height / info.size[0]
        targets[image_id] = Target(known.boxes * scale, known.labels, ignore=known.ignore)
        video, frame = places[image_id]
        infos[image_id] = ImageInfo(video=video, frame=frame)
    return Pool(pool.classes, targets, Smaller(pool, height), infos=infos)


def learn(pool: Pool, steps: int) -> Any:
    """Return the shipped network with the paper's default boxes, trained on the frames of a pool.

    Args:
        pool: complete frames.
        steps: of 2 frames.
    """
    detector = al.detectors.dense.dense(pool.classes, seed=0)
    known = al.demo.load_demo("dense").state_dict()
    detector.load_state_dict({k: v for k, v in known.items() if "logits" not in k}, strict=False)
    schedule = al.train.TrainConfig(steps=steps, batch=2, lr=2e-3)
    al.train.fit(detector, pool, schedule, seed=0, progress="learn")
    return detector.eval()


def look(detector: Any, pool: Pool, radius: int, region: int) -> tuple[list[Any], list[float]]:
    """Return image id, maps, pixel scores and score of each frame, and how many in a second.

    A frame is read from its JPEG, made smaller, seen and scored. Seconds are those of the clock,
    and those of the processor.
    """
    detector.dense([pool.image(pool.ids[0])])  # the first call makes ready
    begun, rows = (time.perf_counter(), time.process_time()), []
    for image_id in pool.ids:
        (maps,) = detector.dense([pool.image(image_id)])
        pixels = divergence.score_map(maps, radius=radius)
        rows.append((image_id, maps, pixels, divergence.image_score(pixels, region=region)))
    taken = (time.perf_counter() - begun[0], time.process_time() - begun[1])
    return rows, [len(rows) / seconds for seconds in taken]


def draw(
    folder: Path, pool: Pool, rows: list[Any], picks: list[str], region: int, sizes: list[str]
) -> None:
    """Draw the maps of the best frame, and the film."""
    folder.mkdir(parents=True, exist_ok=True)
    best, maps, pixels, _ = max(rows, key=lambda row: row[3])
    blocks = divergence.block_maxima(pixels, region=region)
    shown = {"probability": [*maps, maps.amax(dim=0)]}
    image, ids = pool.image(best), [row[0] for row in rows]
    pictures = {
        "maps": al.draw.scales(image, shown, [*sizes, "all"]),
        "score": al.draw.heat(image, pixels, title="pixel score", label="nats"),
        "blocks": al.draw.heat(image, blocks, region=region, title="block maxima", label="nats"),
        "film": al.draw.filmstrip(
            pool,
            ids,
            [row[3] for row in rows],
            divergence.smooth([row[3] for row in rows]),
            picks=picks,
            blocked=set(ids) - set(picks),
            label="divergence",
        ),
    }
    for name, figure in pictures.items():
        (folder / f"divergence_real_{name}.png").write_bytes(al.draw.png(figure))


def main() -> None:
    """Learn, look, write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("root", type=Path, help="a folder with images/ and instances.json")
    parser.add_argument("--learn", default="MOT17-02-FRCNN", help="the video to learn from")
    parser.add_argument("--look", default="MOT17-04-FRCNN", help="the video to look at")
    parser.add_argument("--first", type=int, default=1, help="frames of it to learn from, too")
    parser.add_argument("--height", type=int, default=216)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--file", type=Path, default=FILE)
    parser.add_argument("--pictures", type=Path, help="a folder; photographs may not be yours")
    asked = parser.parse_args()
    source = asked.root / "instances.json"
    pool = shrink(read_coco(source, asked.root / "images", strict=False), source, asked.height)
    learned, film = (_film(pool, name) for name in (asked.learn, asked.look))
    known = pool.subset([*learned.ids, *film.ids[: asked.first]])
    film = film.subset(film.ids[asked.first :])
    radius, region = round(RADIUS * asked.height), round(REGION * asked.height)
    begun = time.perf_counter()
    detector = learn(known, asked.steps)
    rows, speed = look(detector, film, radius, region)
    minutes = (time.perf_counter() - begun) / 60
    frames = [film.info(image_id).frame for image_id in film.ids]
    raw = [row[3] for row in rows]
    smoothed = divergence.smooth(raw, frame=frames)
    videos = [asked.look] * len(frames)
    best = divergence.pick_frames(smoothed, 4, video=videos, frame=frames, blocked_now=NOW)
    found = dict(al.predict.detect(detector, film, progress="look"))
    content: dict[str, Any] = {
        "learned from": f"{len(learned)} frames of {asked.learn}, {asked.first} of {asked.look}",
        "looked at": f"{len(film)} further frames of {asked.look}",
        "height": asked.height,
        "radius": radius,
        "region": region,
        "steps": asked.steps,
        "persons": [int((~film.target(image_id).ignore).sum()) for image_id in film.ids],
        "divergence": raw,
        "entropy": [
            divergence.image_score(divergence.binary_entropy(row[1]).sum(dim=0), region=region)
            for row in rows
        ],
        "picked of 4": [frames[i] for i in best],
        "AP50": al.evaluate.voc(found, film)["AP50"],
        "frames per second": speed[0],
        "frames per processor second": speed[1],
        "minutes": round(minutes, 1),
        "threads": torch.get_num_threads(),
    }
    asked.file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    asked.file.with_suffix(".md").write_text(table(content), encoding="utf-8")
    print(table(content))
    if asked.pictures is not None:
        sizes = [f"{height:.0f} x {width:.0f}" for height, width in detector.boxes]
        draw(asked.pictures, film, rows, [film.ids[i] for i in best], region, sizes)


def _film(pool: Pool, name: str) -> Pool:
    ids = [image_id for image_id in pool.ids if pool.info(image_id).video == name]
    if not ids:
        raise SystemExit(f"there is no frame of {name!r}; name another video")
    return pool.subset(ids)


def table(content: dict[str, Any]) -> str:
    """Return what was found as Markdown."""
    lines = ["# Divergence on street photographs", "", "| | |", "|---|---|"]
    for name, value in content.items():
        values = value if isinstance(value, list) else [value]
        shown = [f"{one:.3g}" if isinstance(one, float) else str(one) for one in values]
        lines.append(f"| {name} | {', '.join(shown)} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
