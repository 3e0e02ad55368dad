"""Fetch and prepare BDD100K.

python data_scripts/bdd100k.py --split bdd100k_divergence --sheet
"""

from __future__ import annotations

from almining.data.fetch.bdd100k import SETS
from almining.data.fetch.download import Rules
from data_scripts.fetching import Sets, run


def main(sets: Sets = SETS, rules: Rules | None = None) -> None:
    """Do what the command line asks."""
    run(sets, "Fetch and prepare BDD100K.", "bdd100k", rules=rules)


if __name__ == "__main__":
    main()
