"""A split of a data set in the library's own form: a COCO file, findings, counts that are compared.

What a split's makers publish of its numbers stands beside it in `Expected`, with the source; where
another number comes out, the report says so and by how much.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from almining.data.fetch.download import FetchError, Rules, full_disk_said
from almining.data.fetch.extract import Limits
from almining.data.fetch.sets import IMAGES, DataSet, obtain
from almining.data.pool import Pool
from almining.data.readers import read_coco
from almining.data.writers import write_coco


@dataclass(frozen=True, slots=True)
class Expected:
    """What is published of a split's numbers; None and classes left out are not compared.

    Args:
        source: who says so.
        images: all of them.
        labelled: images with at least one object that counts.
        objects: boxes, ignored ones (difficult, crowd, ...) among them.
        counted: boxes that are not ignored.
        classes: of `counted`, by class.
        all_classes: of `objects`, by class.
    """

    source: str
    images: int | None = None
    labelled: int | None = None
    objects: int | None = None
    counted: int | None = None
    classes: Mapping[str, int] = field(default_factory=dict)
    all_classes: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Split:
    """One split of a set.

    Args:
        name: of its COCO file.
        read: returns it as a pool, from the folders of the archives by stem.
        expected: what is published of it.
        needs: stems of archives, not all of which everyone has; without one the split is left out.
    """

    name: str
    read: Callable[[Mapping[str, Path]], Pool]
    expected: Expected | None = None
    needs: tuple[str, ...] = ()


def prepare(
    data_set: DataSet,
    splits: Sequence[Split],
    root: str | os.PathLike[str],
    *,
    rules: Rules | None = None,
    limits: Limits | None = None,
    progress: bool = True,
) -> dict[str, Path]:
    """Return the COCO file of every split; fetch, extract, read and write what is not there.

    File names are relative to `images` in the root. Beside `<split>.json` lies `<split>.md`, the
    report, written last: a split that has one is left as it is.

    Args:
        data_set: what to fetch.
        splits: what to make of it.
        root: the folder for all of it.
        rules: where files may come from. Default: the set's hosts, over https.
        limits: of extraction.
        progress: whether to show bars.

    Raises:
        FetchError: saying what to do.
        DataError: when nothing of a split can be used.
    """
    root = Path(root).resolve()
    if all((root / f"{split.name}.md").exists() for split in splits):
        return {split.name: root / f"{split.name}.json" for split in splits}
    with full_disk_said(str(root)):
        root.mkdir(parents=True, exist_ok=True)
    folders = obtain(data_set, root, rules=rules, limits=limits, progress=progress)
    made = {}
    for split in splits:
        path, page = root / f"{split.name}.json", root / f"{split.name}.md"
        if not set(split.needs) <= set(folders):
            continue
        if not page.exists():
            pool = split.read(folders)
            with full_disk_said(str(path)):
                write_coco(pool, path, images=root / IMAGES, overwrite=True, progress=progress)
                part = page.with_name(f"{page.name}.part")
                part.write_text(report(data_set, split, pool), encoding="utf-8")
                part.replace(page)
        made[split.name] = path
    return made


def report(data_set: DataSet, split: Split, pool: Pool) -> str:
    """Return the page on a split: what it is, its counts against the published, the findings."""
    lines = [f"# {split.name}", "", f"{data_set.name}, {data_set.page}; {data_set.licence}."]
    lines += ["", repr(pool), ""]
    if split.expected is not None:
        rows = compare(pool, split.expected)
        apart = sum(found != published for _, found, published in rows)
        verdict = f"{apart} of {len(rows)} counts DIFFER from" if apart else "All counts are as"
        lines += [f"{verdict} published ({split.expected.source}).", ""]
        lines += ["| count | here | published | |", "| --- | --- | --- | --- |"]
        lines += [
            f"| {name} | {found:,} | {published:,} | {_word(found, published)} |"
            for name, found, published in rows
        ]
        lines.append("")
    kinds = Counter((one.action, one.field, one.remedy) for one in pool.findings)
    firsts = {(one.action, one.field, one.remedy): one for one in reversed(pool.findings)}
    number = len(pool.findings)
    said = (
        f"{number} finding{'s' * (number > 1)}:" if number else "No findings: the data are clean."
    )
    lines += [said, *([""] * bool(number))]
    lines += [f"- {times} like this: {firsts[kind]}" for kind, times in kinds.most_common()]
    return "\n".join(lines) + "\n"


def compare(pool: Pool, expected: Expected) -> list[tuple[str, int, int]]:
    """Return (count, as it is here, as published) for everything that is published.

    >>> from almining.data.scenes import make_scenes
    >>> compare(make_scenes(3, seed=0), Expected("us", images=4))
    [('images', 3, 4)]
    """
    counted: Counter[str] = Counter()
    ignored: Counter[str] = Counter()
    labelled = 0
    for image_id in pool.ids:
        target = pool.target(image_id)
        labelled += bool((~target.ignore).any())
        rows = zip(target.labels.tolist(), target.ignore.tolist(), strict=True)
        for label, ignore in rows:
            (ignored if ignore else counted)[pool.classes[label - 1]] += 1
    everything = counted + ignored
    rows_ = [
        ("images", len(pool), expected.images),
        ("images with an object", labelled, expected.labelled),
        ("objects, ignored ones among them", everything.total(), expected.objects),
        ("objects, ignored ones left out", counted.total(), expected.counted),
    ]
    rows_ += [(name, counted[name], number) for name, number in expected.classes.items()]
    rows_ += [
        (f"{name}, ignored ones among them", everything[name], number)
        for name, number in expected.all_classes.items()
    ]
    return [(name, found, number) for name, found, number in rows_ if number is not None]


def _word(found: int, published: int) -> str:
    if found == published:
        return "as published"
    return f"{abs(found - published):,} {'fewer' if found < published else 'more'}"


def pool_of(root: str | os.PathLike[str], split: str) -> Pool:
    """Return a split that was prepared.

    Raises:
        FetchError: naming the splits there are.
    """
    root = Path(root)
    path = root / f"{split}.json"
    if not path.is_file():
        names = sorted(one.stem for one in root.glob("*.json") if "." not in one.stem)
        there = ", ".join(names) or "none"
        raise FetchError(f"{path} is not there; there are: {there}")
    return read_coco(path, root / IMAGES, strict=False)
