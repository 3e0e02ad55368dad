"""Pools of images: the toy world, readers, writers, regimes that hide labels, region proposals."""

from typing import TYPE_CHECKING

from almining.lazy import attach

if TYPE_CHECKING:
    from almining.data import pool as pool
    from almining.data import proposals as proposals
    from almining.data import quarantine as quarantine
    from almining.data import readers as readers
    from almining.data import regimes as regimes
    from almining.data import scenes as scenes
    from almining.data import street as street
    from almining.data import writers as writers
    from almining.data.pool import DataError as DataError
    from almining.data.pool import Finding as Finding
    from almining.data.pool import Pool as Pool
    from almining.data.quarantine import Quarantine as Quarantine
    from almining.data.readers import read_coco as read_coco
    from almining.data.readers import read_folder as read_folder
    from almining.data.readers import read_frames as read_frames
    from almining.data.readers import read_label_studio as read_label_studio
    from almining.data.readers import read_voc as read_voc
    from almining.data.readers import read_yolo as read_yolo
    from almining.data.scenes import make_scenes as make_scenes
    from almining.data.street import make_street as make_street
    from almining.data.writers import write_coco as write_coco
    from almining.data.writers import write_label_studio as write_label_studio
    from almining.data.writers import write_voc as write_voc
    from almining.data.writers import write_yolo as write_yolo

__getattr__, __dir__ = attach(
    __name__,
    modules=[
        "pool",
        "proposals",
        "quarantine",
        "readers",
        "regimes",
        "scenes",
        "street",
        "writers",
    ],
    names={
        "DataError": "almining.data.pool",
        "Finding": "almining.data.pool",
        "Pool": "almining.data.pool",
        "Quarantine": "almining.data.quarantine",
        "make_scenes": "almining.data.scenes",
        "make_street": "almining.data.street",
        "read_coco": "almining.data.readers",
        "read_folder": "almining.data.readers",
        "read_frames": "almining.data.readers",
        "read_label_studio": "almining.data.readers",
        "read_voc": "almining.data.readers",
        "read_yolo": "almining.data.readers",
        "write_coco": "almining.data.writers",
        "write_label_studio": "almining.data.writers",
        "write_voc": "almining.data.writers",
        "write_yolo": "almining.data.writers",
    },
)
