"""The person: who answers requests, what an answer costs, and what is known after it."""

from typing import TYPE_CHECKING

from almining.lazy import attach

if TYPE_CHECKING:
    from almining.label import desk as desk
    from almining.label import from_file as from_file
    from almining.label import merging as merging
    from almining.label import noise as noise
    from almining.label import oracles as oracles
    from almining.label import prices as prices
    from almining.label.desk import hand_in as hand_in
    from almining.label.desk import waiting as waiting
    from almining.label.from_file import FromFile as FromFile
    from almining.label.merging import check_answer as check_answer
    from almining.label.merging import merge as merge
    from almining.label.noise import Noise as Noise
    from almining.label.oracles import Oracle as Oracle
    from almining.label.oracles import Simulated as Simulated
    from almining.label.prices import Prices as Prices
    from almining.label.prices import time_to_completion as time_to_completion

__getattr__, __dir__ = attach(
    __name__,
    modules=["desk", "from_file", "merging", "noise", "oracles", "prices"],
    names={
        "FromFile": "almining.label.from_file",
        "Noise": "almining.label.noise",
        "Oracle": "almining.label.oracles",
        "Prices": "almining.label.prices",
        "Simulated": "almining.label.oracles",
        "check_answer": "almining.label.merging",
        "hand_in": "almining.label.desk",
        "merge": "almining.label.merging",
        "time_to_completion": "almining.label.prices",
        "waiting": "almining.label.desk",
    },
)
