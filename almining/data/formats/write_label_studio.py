"""A pool as tasks of Label Studio; `write_label_studio` is called through `data.writers`.

Label Studio's percentages are met here and in `data.formats.label_studio`, which reads them, and go
no further. Images are not sent anywhere: a task names where Label Studio finds its own.
"""

from __future__ import annotations

import json as jsons
import os
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from almining.checks import HUMAN, MINED
from almining.data.formats.export import Folder, number, size_of
from almining.data.formats.label_studio import FROM, IGNORE, KNOWN, ORIGIN, TO
from almining.data.formats.losses import Box, Losses, plain_boxes
from almining.data.formats.names import check_names, check_pool, file_names
from almining.data.pool import Finding, Pool
from almining.progress import bar
from almining.records import Detections, Target

NAME = "{name}"


def label_studio_config(classes: Sequence[str]) -> str:
    """Return the labelling interface that tasks of these classes need, as Label Studio's XML.

    Args:
        classes: the names of classes 1...C.

    Raises:
        ValueError: for a class XML cannot hold.

    >>> print(label_studio_config(["cat"]))
    <View>
      <Image name="image" value="$image" zoom="true"/>
      <RectangleLabels name="label" toName="image" canRotate="false">
        <Label value="cat"/>
      </RectangleLabels>
    </View>
    """
    check_names(classes, xml=True)
    labels = [f'    <Label value="{escape(name)}"/>' for name in classes]
    lines = [
        "<View>",
        f'  <Image name="{TO}" value="$image" zoom="true"/>',
        f'  <RectangleLabels name="{FROM}" toName="{TO}" canRotate="false">',
        *labels,
        "  </RectangleLabels>",
        "</View>",
    ]
    return "\n".join(lines)


def write_label_studio(
    pool: Pool,
    json: str | os.PathLike[str],
    *,
    images: str | os.PathLike[str] | None = None,
    image_url: str = "/data/local-files/?d={name}",
    predictions: Mapping[str, Detections] | None = None,
    model_version: str = "almining",
    overwrite: bool = False,
    progress: bool | str = True,
) -> tuple[Finding, ...]:
    """Write a pool as a file of tasks to import into Label Studio.

    A complete image has one annotation with its boxes, perhaps none. The boxes of a sparse image
    are a prediction (`model_version` "almining-known"): a person starts from them and completes
    them. An image of which no box is known has neither. `label_studio_config(pool.classes)` is the
    labelling interface to set up.

    Args:
        pool: what to write.
        json: the file of tasks.
        images: the folder the names of files are relative to; the one they have in common by
            default. An image without a file is called `<id>.png`.
        image_url: where Label Studio finds an image, with `{name}` for its file's name, quoted.
        predictions: what a detector says, by image id, as pre-annotations with scores.
        model_version: what these predictions are called.
        overwrite: replace the file when it is there.
        progress: whether to show a progress bar, or what to call it.

    Returns:
        What Label Studio cannot hold, one finding (action `"warning"`) for each kind, with how many
        images or boxes it concerns; empty when `read_label_studio` gives back all of the pool.
        It holds ids, sizes, boxes with `ignore` (the text "ignore" beside a box), origin and
        score, and whether an image is complete. It does not hold tags, absent classes, negatives,
        video, frame and cycle, and the order of classes.

    Raises:
        FileExistsError: when the file is there, unless `overwrite`.
        ValueError: for predictions of an unknown image or class, an id that makes no file name.

    Source: Label Studio's task format: `rectanglelabels` in per cent of the image.
    Differs: numbers are written in full, so corners read back to 1e-9 pixel, most bit-equal.
    """
    check_pool(pool)
    path = Path(json)
    if NAME not in image_url:
        raise ValueError(f"image_url = {image_url!r}: {NAME} is missing, the name of the file")
    if model_version == KNOWN:
        raise ValueError(f"model_version = {KNOWN!r} stands for the pool's boxes; use another")
    found = dict(predictions or {})
    for image_id, detections in found.items():
        pool.target(image_id)
        if len(detections) and int(detections.labels.max()) > len(pool.classes):
            raise ValueError(
                f"predictions of {image_id!r} hold class {int(detections.labels.max())}, but the "
                f"pool has {len(pool.classes)} classes; map them first"
            )
    losses = Losses(path, "Label Studio", held=("ignore", "origin", "scores"))
    names = file_names(pool, images)
    folder = Folder(path.parent, overwrite)
    folder.plan([], [path.name])
    used = {pool.classes[label - 1] for i in pool.ids for label in pool.target(i).labels.tolist()}
    if list(pool.classes) != sorted(used):
        outcome = "pass classes= to read_label_studio to keep them"
        losses.note("classes", "classes", list(pool.classes), outcome)
    with folder.open(path.name) as file:
        ids = bar(pool.ids, progress=progress, name="writing tasks", unit="image")
        for place, image_id in enumerate(ids, start=1):
            task = _task(place, pool, image_id, losses, found.get(image_id), model_version)
            task["data"]["image"] = image_url.replace(NAME, quote(names[image_id]))
            text = jsons.dumps(task, allow_nan=False)
            file.write((("[\n" if place == 1 else ",\n") + text).encode())
        file.write(b"\n]\n")
    return losses.close()


def _task(
    place: int,
    pool: Pool,
    image_id: str,
    losses: Losses,
    detections: Detections | None,
    model_version: str,
) -> dict[str, Any]:
    target, size = pool.target(image_id), size_of(pool, image_id)
    losses.image(pool, image_id, target)
    rows = plain_boxes(losses, image_id, target, size)
    known = [
        _region(f"{place}-{row + 1}", pool.classes, target, row, box, size) | _notes(target, row)
        for row, box in rows
    ]
    predictions: list[dict[str, Any]] = []
    if known and not target.complete:
        predictions.append({"model_version": KNOWN, "result": known})
    if detections is not None:
        found = Target(
            detections.boxes,
            detections.labels,
            origin=(MINED,) * len(detections),
            scores=detections.scores,
            complete=False,
        )
        regions = [
            _region(f"{place}-p{row + 1}", pool.classes, found, row, box, size)
            for row, box in plain_boxes(losses, f"{image_id} prediction", found, size)
        ]
        score = max((region["score"] for region in regions), default=0.0)
        predictions.append({"model_version": model_version, "result": regions, "score": score})
    annotations = [{"result": known, "was_cancelled": False, "ground_truth": False}]
    return {
        "id": place,
        "data": {"image": "", "image_id": image_id, "width": size[1], "height": size[0]},
        "annotations": annotations if target.complete else [],
        "predictions": predictions,
    }


def _notes(target: Target, row: int) -> dict[str, Any]:
    """Return what stands beside a box as text: that it is ignored, and its origin."""
    text = [IGNORE] if bool(target.ignore[row]) else []
    if target.origin[row] != HUMAN:
        text.append(f"{ORIGIN}{target.origin[row]}")
    return {"meta": {"text": text}} if text else {}


def _region(
    key: str, classes: Sequence[str], target: Target, row: int, box: Box, size: tuple[int, int]
) -> dict[str, Any]:
    (x1, y1, x2, y2), (height, width) = box, size
    value = {
        "x": x1 / width * 100,
        "y": y1 / height * 100,
        "width": (x2 - x1) / width * 100,
        "height": (y2 - y1) / height * 100,
        "rotation": 0,
        "rectanglelabels": [classes[int(target.labels[row]) - 1]],
    }
    region = {
        "id": key,
        "from_name": FROM,
        "to_name": TO,
        "type": "rectanglelabels",
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "value": value,
    }
    score = float(target.scores[row])
    return region | ({"score": number(score)} if score == score else {})
