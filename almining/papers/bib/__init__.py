"""BiB: images are asked for by pairs of boxes, one in the other, that betray a weak detector."""

from typing import TYPE_CHECKING

from almining.lazy import attach

if TYPE_CHECKING:
    from almining.papers.bib import pairs as pairs
    from almining.papers.bib.pairs import find_pairs as find_pairs
    from almining.papers.bib.pairs import find_pairs_many as find_pairs_many
    from almining.papers.bib.pairs import pair_features as pair_features

__getattr__, __dir__ = attach(
    __name__,
    modules=["pairs"],
    names={
        "find_pairs": "almining.papers.bib.pairs",
        "find_pairs_many": "almining.papers.bib.pairs",
        "pair_features": "almining.papers.bib.pairs",
    },
)
