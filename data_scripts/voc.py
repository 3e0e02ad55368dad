"""Fetch and prepare PASCAL VOC.

python data_scripts/voc.py 2007 --protocol tags --sheet
"""

from __future__ import annotations

from almining.data.fetch.download import Rules
from almining.data.fetch.voc import SETS
from data_scripts.fetching import Sets, run


def main(sets: Sets = SETS, rules: Rules | None = None) -> None:
    """Do what the command line asks."""
    run(sets, "Fetch and prepare PASCAL VOC.", "voc", rules=rules)


if __name__ == "__main__":
    main()
