"""Fetch and prepare MS COCO.

python data_scripts/coco.py 2017 --protocol sparse-hard --split coco_train2017 --sheet
"""

from __future__ import annotations

from almining.data.fetch.coco import SETS
from almining.data.fetch.download import Rules
from data_scripts.fetching import Sets, run


def main(sets: Sets = SETS, rules: Rules | None = None) -> None:
    """Do what the command line asks."""
    run(sets, "Fetch and prepare MS COCO.", "coco", rules=rules)


if __name__ == "__main__":
    main()
