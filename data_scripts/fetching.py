"""The command line of the scripts that fetch a data set: `voc.py`, `coco.py` and the others."""

from __future__ import annotations

import argparse
import webbrowser
from collections.abc import Mapping, Sequence
from pathlib import Path

from almining.data.fetch.download import FetchError, Rules
from almining.data.fetch.prepare import Split, pool_of, prepare
from almining.data.fetch.protocols import PROTOCOLS, cut
from almining.data.fetch.sets import DataSet
from almining.data.pool import DataError
from almining.sheets import sheet

DATA = Path(__file__).parent.parent / "data"
Sets = Mapping[str, tuple[DataSet, Sequence[Split]]]


def run(sets: Sets, title: str, folder: str, *, rules: Rules | None = None) -> None:
    """Do what the command line asks: fetch and prepare a set, cut it to a protocol, show it.

    Args:
        sets: the sets to choose from, by name, each with its splits.
        title: what the script does, in a line.
        folder: under the root, for all of them.
        rules: where files may come from. Default: the set's hosts, over https.
    """
    names = "\n".join(f"  {name:15} {words}" for name, (words, _) in PROTOCOLS.items())
    parser = argparse.ArgumentParser(
        description=title,
        epilog=f"protocols:\n{names}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if len(sets) > 1:
        parser.add_argument("sets", nargs="+", choices=sets, help="which to prepare")
    parser.add_argument("--root", type=Path, default=DATA / folder, help="where everything goes")
    parser.add_argument("--protocol", metavar="NAME", choices=PROTOCOLS, help="one of those below")
    parser.add_argument("--split", help="of the protocol and the sheet. Default: the first")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sheet", action="store_true", help="write a contact sheet, and open it")
    asked = parser.parse_args()
    try:
        for name in asked.sets if len(sets) > 1 else sets:
            _one(*sets[name], asked, rules)
    except (FetchError, DataError) as error:
        raise SystemExit(f"{error}") from error


def _one(
    data_set: DataSet, splits: Sequence[Split], asked: argparse.Namespace, rules: Rules | None
) -> None:
    made = prepare(data_set, splits, asked.root, rules=rules)
    for split in made:
        print((asked.root / f"{split}.md").read_text(encoding="utf-8"))
    chosen = asked.split or next(iter(made))
    if asked.protocol:
        path = cut(asked.root, chosen, asked.protocol, seed=asked.seed)
        chosen = path.stem
        print(f"{asked.protocol}: {path}")
    if asked.sheet:
        picture = (asked.root / f"{chosen}.png").resolve()
        sheet(pool_of(asked.root, chosen), title=chosen).savefig(picture)
        print(f"contact sheet: {picture}")
        webbrowser.open(picture.as_uri())
