"""Detectors that learn from `Target` and answer with `Detections`."""

from typing import TYPE_CHECKING

from almining.lazy import attach

if TYPE_CHECKING:
    from almining.detectors import backbones as backbones
    from almining.detectors import base as base
    from almining.detectors import dense as dense
    from almining.detectors import note as note
    from almining.detectors import onestage as onestage
    from almining.detectors import rcnn as rcnn
    from almining.detectors import sigmoid as sigmoid
    from almining.detectors import weak as weak
    from almining.detectors import wrapped as wrapped
    from almining.detectors.base import Detector as Detector
    from almining.detectors.note import note_rcnn as note_rcnn
    from almining.detectors.onestage import fcos as fcos
    from almining.detectors.onestage import retinanet as retinanet
    from almining.detectors.rcnn import faster_rcnn as faster_rcnn
    from almining.detectors.sigmoid import fast_rcnn as fast_rcnn
    from almining.detectors.sigmoid import rfcn as rfcn
    from almining.detectors.weak import mist as mist
    from almining.detectors.wrapped import wrap as wrap

__getattr__, __dir__ = attach(
    __name__,
    modules=[
        "backbones",
        "base",
        "dense",
        "note",
        "onestage",
        "rcnn",
        "sigmoid",
        "weak",
        "wrapped",
    ],
    names={
        "Detector": "almining.detectors.base",
        "fast_rcnn": "almining.detectors.sigmoid",
        "faster_rcnn": "almining.detectors.rcnn",
        "fcos": "almining.detectors.onestage",
        "mist": "almining.detectors.weak",
        "note_rcnn": "almining.detectors.note",
        "retinanet": "almining.detectors.onestage",
        "rfcn": "almining.detectors.sigmoid",
        "wrap": "almining.detectors.wrapped",
    },
)
