"""The papers: each module is one mechanism in equation order, a frozen config and `recipe()`."""

from typing import TYPE_CHECKING

from almining.lazy import attach

if TYPE_CHECKING:
    from almining.papers import baselines as baselines
    from almining.papers import bib as bib
    from almining.papers import comining as comining
    from almining.papers import divergence as divergence
    from almining.papers import note_rcnn as note_rcnn
    from almining.papers import ssm as ssm

__getattr__, __dir__ = attach(
    __name__, modules=["baselines", "bib", "comining", "divergence", "note_rcnn", "ssm"]
)
