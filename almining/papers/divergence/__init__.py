"""Divergence: frames are asked for by how far a pixel's prediction differs from its neighbours'."""

from typing import TYPE_CHECKING

from almining.lazy import attach

if TYPE_CHECKING:
    from almining.papers.divergence import pixels as pixels
    from almining.papers.divergence import rivals as rivals
    from almining.papers.divergence.config import Config as Config
    from almining.papers.divergence.cost import time_to_completion as time_to_completion
    from almining.papers.divergence.pixels import binary_entropy as binary_entropy
    from almining.papers.divergence.pixels import block_maxima as block_maxima
    from almining.papers.divergence.pixels import disagreement as disagreement
    from almining.papers.divergence.pixels import image_score as image_score
    from almining.papers.divergence.pixels import score_map as score_map
    from almining.papers.divergence.recipes import ranked as ranked
    from almining.papers.divergence.recipes import recipe as recipe
    from almining.select import pick_frames as pick_frames
    from almining.select import smooth as smooth

__getattr__, __dir__ = attach(
    __name__,
    modules=["pixels", "rivals"],
    names={
        "Config": "almining.papers.divergence.config",
        "binary_entropy": "almining.papers.divergence.pixels",
        "block_maxima": "almining.papers.divergence.pixels",
        "disagreement": "almining.papers.divergence.pixels",
        "image_score": "almining.papers.divergence.pixels",
        "pick_frames": "almining.select",
        "ranked": "almining.papers.divergence.recipes",
        "recipe": "almining.papers.divergence.recipes",
        "score_map": "almining.papers.divergence.pixels",
        "smooth": "almining.select",
        "time_to_completion": "almining.papers.divergence.cost",
    },
)
