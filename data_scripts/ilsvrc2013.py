"""Fetch and prepare ILSVRC 2013 detection.

python data_scripts/ilsvrc2013.py --protocol first-100 --sheet
"""

from __future__ import annotations

from almining.data.fetch.download import Rules
from almining.data.fetch.ilsvrc2013 import SETS
from data_scripts.fetching import Sets, run


def main(sets: Sets = SETS, rules: Rules | None = None) -> None:
    """Do what the command line asks."""
    run(sets, "Fetch and prepare ILSVRC 2013 detection.", "ilsvrc2013", rules=rules)


if __name__ == "__main__":
    main()
