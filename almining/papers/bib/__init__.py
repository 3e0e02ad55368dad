"""BiB: images are asked for by pairs of boxes, one in the other, that betray a weak detector."""

from typing import TYPE_CHECKING

from almining.lazy import attach

if TYPE_CHECKING:
    from almining.papers.bib import pairs as pairs
    from almining.papers.bib import rivals as rivals
    from almining.papers.bib.config import Config as Config
    from almining.papers.bib.config import weak_and_strong as weak_and_strong
    from almining.papers.bib.looking import find as find
    from almining.papers.bib.pairs import find_pairs as find_pairs
    from almining.papers.bib.pairs import find_pairs_many as find_pairs_many
    from almining.papers.bib.pairs import pair_features as pair_features
    from almining.papers.bib.recipes import recipe as recipe
    from almining.papers.bib.recipes import u_bib as u_bib
    from almining.papers.bib.recipes import u_plus_bib as u_plus_bib

__getattr__, __dir__ = attach(
    __name__,
    modules=["pairs", "rivals"],
    names={
        "Config": "almining.papers.bib.config",
        "find": "almining.papers.bib.looking",
        "find_pairs": "almining.papers.bib.pairs",
        "find_pairs_many": "almining.papers.bib.pairs",
        "pair_features": "almining.papers.bib.pairs",
        "recipe": "almining.papers.bib.recipes",
        "u_bib": "almining.papers.bib.recipes",
        "u_plus_bib": "almining.papers.bib.recipes",
        "weak_and_strong": "almining.papers.bib.config",
    },
)
