"""NOTE-RCNN: train on a few seed images, mine boxes where tags are known, train again."""

from typing import TYPE_CHECKING

from almining.lazy import attach

if TYPE_CHECKING:
    from almining.detectors.note_parts import mixed_head_loss as mixed_head_loss
    from almining.papers.note_rcnn.asking import doubts as doubts
    from almining.papers.note_rcnn.auditing import audit as audit
    from almining.papers.note_rcnn.auditing import precision_curve as precision_curve
    from almining.papers.note_rcnn.config import Config as Config
    from almining.papers.note_rcnn.mining import mine_boxes as mine_boxes
    from almining.papers.note_rcnn.recipes import initialise as initialise
    from almining.papers.note_rcnn.recipes import recipe as recipe
    from almining.papers.note_rcnn.recipes import step as step

__getattr__, __dir__ = attach(
    __name__,
    modules=[],
    names={
        "Config": "almining.papers.note_rcnn.config",
        "audit": "almining.papers.note_rcnn.auditing",
        "doubts": "almining.papers.note_rcnn.asking",
        "initialise": "almining.papers.note_rcnn.recipes",
        "mine_boxes": "almining.papers.note_rcnn.mining",
        "mixed_head_loss": "almining.detectors.note_parts",
        "precision_curve": "almining.papers.note_rcnn.auditing",
        "recipe": "almining.papers.note_rcnn.recipes",
        "step": "almining.papers.note_rcnn.recipes",
    },
)
