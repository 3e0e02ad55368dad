"""How good detections and mined boxes are: COCO's figures, VOC's, miss rate, precision, recall."""

from typing import TYPE_CHECKING

from almining.lazy import attach

if TYPE_CHECKING:
    from almining.evaluate import coco_figures as coco_figures
    from almining.evaluate import mining as mining
    from almining.evaluate import misses as misses
    from almining.evaluate import pairing as pairing
    from almining.evaluate import voc_precision as voc_precision
    from almining.evaluate.coco_figures import COCO_STATS as COCO_STATS
    from almining.evaluate.coco_figures import coco as coco
    from almining.evaluate.mining import mined as mined
    from almining.evaluate.misses import MissCurve as MissCurve
    from almining.evaluate.misses import miss_curve as miss_curve
    from almining.evaluate.misses import miss_rate as miss_rate
    from almining.evaluate.voc_precision import voc as voc

__getattr__, __dir__ = attach(
    __name__,
    modules=["coco_figures", "mining", "misses", "pairing", "voc_precision"],
    names={
        "COCO_STATS": "almining.evaluate.coco_figures",
        "MissCurve": "almining.evaluate.misses",
        "coco": "almining.evaluate.coco_figures",
        "mined": "almining.evaluate.mining",
        "miss_curve": "almining.evaluate.misses",
        "miss_rate": "almining.evaluate.misses",
        "voc": "almining.evaluate.voc_precision",
    },
)
