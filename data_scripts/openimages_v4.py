"""Fetch and prepare Open Images V4.

python data_scripts/openimages_v4.py validation --sheet
"""

from __future__ import annotations

from almining.data.fetch.download import Rules
from almining.data.fetch.openimages import SETS
from data_scripts.fetching import Sets, run


def main(sets: Sets = SETS, rules: Rules | None = None) -> None:
    """Do what the command line asks."""
    run(sets, "Fetch and prepare Open Images V4.", "openimages_v4", rules=rules)


if __name__ == "__main__":
    main()
