"""Fetch and prepare Caltech Pedestrian.

python data_scripts/caltech.py --split caltech_divergence --sheet
"""

from __future__ import annotations

from almining.data.fetch.caltech import SETS
from almining.data.fetch.download import Rules
from data_scripts.fetching import Sets, run


def main(sets: Sets = SETS, rules: Rules | None = None) -> None:
    """Do what the command line asks."""
    run(sets, "Fetch and prepare Caltech Pedestrian.", "caltech", rules=rules)


if __name__ == "__main__":
    main()
