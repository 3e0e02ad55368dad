"""SSM: a region is trusted when a detector finds it again in images that lack its class."""

from typing import TYPE_CHECKING

from almining.lazy import attach

if TYPE_CHECKING:
    from almining.papers.ssm import rivals as rivals
    from almining.papers.ssm.config import VALIDATIONS as VALIDATIONS
    from almining.papers.ssm.config import Config as Config
    from almining.papers.ssm.config import informed as informed
    from almining.papers.ssm.contexts import draw_contexts as draw_contexts
    from almining.papers.ssm.contexts import lacking as lacking
    from almining.papers.ssm.contexts import positives as positives
    from almining.papers.ssm.contexts import verdicts as verdicts
    from almining.papers.ssm.equations import class_losses as class_losses
    from almining.papers.ssm.equations import consistency as consistency
    from almining.papers.ssm.equations import image_terms as image_terms
    from almining.papers.ssm.equations import pseudo_labels as pseudo_labels
    from almining.papers.ssm.equations import rank_consistent as rank_consistent
    from almining.papers.ssm.equations import self_paced_weights as self_paced_weights
    from almining.papers.ssm.finding import candidates as candidates
    from almining.papers.ssm.finding import take as take
    from almining.papers.ssm.looking import look as look
    from almining.papers.ssm.looking import pseudo_labelled as pseudo_labelled
    from almining.papers.ssm.pasting import cut as cut
    from almining.papers.ssm.pasting import paste as paste
    from almining.papers.ssm.pasting import paste_all as paste_all
    from almining.papers.ssm.recipes import Step as Step
    from almining.papers.ssm.recipes import books as books
    from almining.papers.ssm.recipes import recipe as recipe
    from almining.papers.ssm.revisiting import revisit as revisit
    from almining.papers.ssm.validating import WAYS as WAYS
    from almining.papers.ssm.validating import Region as Region
    from almining.papers.ssm.validating import Validation as Validation
    from almining.papers.ssm.validating import Way as Way
    from almining.papers.ssm.validating import validate as validate

__getattr__, __dir__ = attach(
    __name__,
    modules=["rivals"],
    names={
        "Config": "almining.papers.ssm.config",
        "Region": "almining.papers.ssm.validating",
        "Step": "almining.papers.ssm.recipes",
        "VALIDATIONS": "almining.papers.ssm.config",
        "Validation": "almining.papers.ssm.validating",
        "WAYS": "almining.papers.ssm.validating",
        "Way": "almining.papers.ssm.validating",
        "books": "almining.papers.ssm.recipes",
        "candidates": "almining.papers.ssm.finding",
        "class_losses": "almining.papers.ssm.equations",
        "consistency": "almining.papers.ssm.equations",
        "cut": "almining.papers.ssm.pasting",
        "draw_contexts": "almining.papers.ssm.contexts",
        "image_terms": "almining.papers.ssm.equations",
        "informed": "almining.papers.ssm.config",
        "lacking": "almining.papers.ssm.contexts",
        "look": "almining.papers.ssm.looking",
        "paste": "almining.papers.ssm.pasting",
        "paste_all": "almining.papers.ssm.pasting",
        "positives": "almining.papers.ssm.contexts",
        "pseudo_labelled": "almining.papers.ssm.looking",
        "pseudo_labels": "almining.papers.ssm.equations",
        "rank_consistent": "almining.papers.ssm.equations",
        "recipe": "almining.papers.ssm.recipes",
        "revisit": "almining.papers.ssm.revisiting",
        "self_paced_weights": "almining.papers.ssm.equations",
        "take": "almining.papers.ssm.finding",
        "validate": "almining.papers.ssm.validating",
        "verdicts": "almining.papers.ssm.contexts",
    },
)
