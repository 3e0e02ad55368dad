"""The small detectors that ship with the package, trained on the toy world.

The scripts that trained them can be run again by anyone. Weights are float16
safetensors; their header names the detector, its classes, its options and what was measured.
Nothing is downloaded and nothing is unpickled.
"""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

FOLDER = Path(__file__).parent
MAKERS = {
    "dense": ("almining.detectors.dense", "dense"),
    "fast_rcnn": ("almining.detectors.sigmoid", "fast_rcnn"),
    "faster_rcnn": ("almining.detectors.rcnn", "faster_rcnn"),
    "mist": ("almining.detectors.weak", "mist"),
    "retinanet": ("almining.detectors.onestage", "retinanet"),
}


def available() -> list[str]:
    """Return the names of the detectors that ship, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.safetensors"))


def load_demo(name: str, *, device: torch.device | str = "cpu") -> Any:
    """Load a detector that ships, in evaluation mode.

    Args:
        name: one of `available()`.
        device: where to put it.

    Raises:
        ValueError: for a name that does not ship.
    """
    return load(_path(name), device=device)


def describe(name: str) -> dict[str, Any]:
    """Return what is known of a detector that ships.

    That is its kind, classes and options, and how it was trained and measured.
    """
    with safe_open(_path(name), framework="pt") as file:
        return {key: json.loads(value) for key, value in (file.metadata() or {}).items()}


def _path(name: str) -> Path:
    if name not in available():
        raise ValueError(
            f"no demo detector is called {name!r}; there are {', '.join(available()) or 'none'}"
        )
    return FOLDER / f"{name}.safetensors"


def save(
    detector: Any,
    path: Path,
    *,
    kind: str,
    options: dict[str, Any] | None = None,
    notes: dict[str, Any] | None = None,
) -> None:
    """Write a detector's weights as float16 with what is needed to make it again.

    Args:
        detector: what was trained.
        path: the file to write.
        kind: which maker of `MAKERS` makes it.
        options: what that maker was given beside the classes.
        notes: how it was trained and what was measured, for whoever looks.
    """
    state = {
        name: (value.half() if value.is_floating_point() else value).cpu().contiguous()
        for name, value in detector.state_dict().items()
    }
    known = {
        "kind": kind,
        "classes": detector.classes,
        "options": options or {},
        "notes": notes or {},
    }
    save_file(state, path, metadata={key: json.dumps(value) for key, value in known.items()})


def load(path: Path, *, device: torch.device | str = "cpu") -> Any:
    """Make the detector that `save` wrote, in evaluation mode, with float32 weights.

    Raises:
        ValueError: when the file is not one of ours.
    """
    with safe_open(path, framework="pt", device=str(device)) as file:
        header = file.metadata() or {}
        if "kind" not in header or json.loads(header["kind"]) not in MAKERS:
            raise ValueError(
                f"{path} is not a detector of this library: "
                f"its header names no kind of {list(MAKERS)}"
            )
        module, maker = MAKERS[json.loads(header["kind"])]
        make = getattr(importlib.import_module(module), maker)
        detector = make(json.loads(header["classes"]), **json.loads(header["options"]))
        state = {name: file.get_tensor(name) for name in file.keys()}
    floats = {
        name: value.float() if value.is_floating_point() else value for name, value in state.items()
    }
    detector.load_state_dict(floats)
    return detector.to(device).eval()
