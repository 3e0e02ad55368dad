"""Pools of images: the toy world, readers, regimes that hide labels, and region proposals."""

from typing import TYPE_CHECKING

from almining.lazy import attach

if TYPE_CHECKING:
    from almining.data import pool as pool
    from almining.data import proposals as proposals
    from almining.data import readers as readers
    from almining.data import regimes as regimes
    from almining.data import scenes as scenes
    from almining.data.pool import DataError as DataError
    from almining.data.pool import Finding as Finding
    from almining.data.pool import Pool as Pool
    from almining.data.readers import read_coco as read_coco
    from almining.data.readers import read_voc as read_voc
    from almining.data.scenes import make_scenes as make_scenes

__getattr__, __dir__ = attach(
    __name__,
    modules=["pool", "proposals", "readers", "regimes", "scenes"],
    names={
        "DataError": "almining.data.pool",
        "Finding": "almining.data.pool",
        "Pool": "almining.data.pool",
        "make_scenes": "almining.data.scenes",
        "read_coco": "almining.data.readers",
        "read_voc": "almining.data.readers",
    },
)
