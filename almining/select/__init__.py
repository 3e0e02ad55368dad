"""Which images to ask for, given a score or features: the best, the farthest, spread, uniform."""

from typing import TYPE_CHECKING

from almining.lazy import attach

if TYPE_CHECKING:
    from almining.select import farthest as farthest
    from almining.select import groups as groups
    from almining.select import nearest as nearest
    from almining.select import ranking as ranking
    from almining.select import temporal as temporal
    from almining.select.farthest import core_set as core_set
    from almining.select.groups import kmeans_pp_groups as kmeans_pp_groups
    from almining.select.ranking import sample as sample
    from almining.select.ranking import top_k as top_k
    from almining.select.temporal import pick_frames as pick_frames
    from almining.select.temporal import smooth as smooth

__getattr__, __dir__ = attach(
    __name__,
    modules=["farthest", "groups", "nearest", "ranking", "temporal"],
    names={
        "core_set": "almining.select.farthest",
        "kmeans_pp_groups": "almining.select.groups",
        "pick_frames": "almining.select.temporal",
        "sample": "almining.select.ranking",
        "smooth": "almining.select.temporal",
        "top_k": "almining.select.ranking",
    },
)
