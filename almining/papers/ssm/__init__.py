"""SSM: a region is trusted when a detector finds it again in images that lack its class."""

from typing import TYPE_CHECKING

from almining.lazy import attach

if TYPE_CHECKING:
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
    from almining.papers.ssm.pasting import cut as cut
    from almining.papers.ssm.pasting import paste as paste
    from almining.papers.ssm.pasting import paste_all as paste_all
    from almining.papers.ssm.validating import WAYS as WAYS
    from almining.papers.ssm.validating import Region as Region
    from almining.papers.ssm.validating import Validation as Validation
    from almining.papers.ssm.validating import Way as Way
    from almining.papers.ssm.validating import validate as validate

_PLACES = {
    "contexts": ("draw_contexts", "lacking", "positives", "verdicts"),
    "equations": (
        "class_losses",
        "consistency",
        "image_terms",
        "pseudo_labels",
        "rank_consistent",
        "self_paced_weights",
    ),
    "pasting": ("cut", "paste", "paste_all"),
    "validating": ("WAYS", "Region", "Validation", "Way", "validate"),
}

__getattr__, __dir__ = attach(
    __name__,
    modules=[],
    names={name: f"{__name__}.{place}" for place, names in _PLACES.items() for name in names},
)
