"""Active learning for object detectors: which labels to ask for, told in notebooks.

Sub-packages load on first use: `import almining as al`, then `al.boxes.iou(a, b)`.
"""

from typing import TYPE_CHECKING

from almining.lazy import attach

if TYPE_CHECKING:
    from almining import boxes as boxes
    from almining import claims as claims
    from almining import cycle as cycle
    from almining import data as data
    from almining import demo as demo
    from almining import detectors as detectors
    from almining import draw as draw
    from almining import evaluate as evaluate
    from almining import lab as lab
    from almining import label as label
    from almining import ledger as ledger
    from almining import papers as papers
    from almining import predict as predict
    from almining import ranks as ranks
    from almining import records as records
    from almining import review as review
    from almining import rng as rng
    from almining import score as score
    from almining import select as select
    from almining import train as train
    from almining.demo import load_demo as load_demo

__version__ = "0.1.0"

__getattr__, __dir__ = attach(
    __name__,
    modules=[
        "boxes",
        "claims",
        "cycle",
        "data",
        "demo",
        "detectors",
        "draw",
        "evaluate",
        "lab",
        "label",
        "ledger",
        "papers",
        "predict",
        "ranks",
        "records",
        "review",
        "rng",
        "score",
        "select",
        "train",
    ],
    names={"load_demo": "almining.demo"},
)
