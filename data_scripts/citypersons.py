"""Fetch and prepare CityPersons.

python data_scripts/citypersons.py --split citypersons_divergence --sheet
"""

from __future__ import annotations

from almining.data.fetch.citypersons import SETS
from almining.data.fetch.download import Rules
from data_scripts.fetching import Sets, run


def main(sets: Sets = SETS, rules: Rules | None = None) -> None:
    """Do what the command line asks."""
    run(sets, "Fetch and prepare CityPersons.", "citypersons", rules=rules)


if __name__ == "__main__":
    main()
