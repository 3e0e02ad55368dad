"""The pool: what is known of each image, and since which cycle.

A `Pool` never changes; `updated` returns another one that shares the images. Images are loaded one
at a time when asked for, so a pool of any size is only as large as what is known of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from almining.checks import check_image, check_text
from almining.records import Target


class Images(Protocol):
    """Where a pool's images come from; must survive being copied to a loader worker."""

    def load(self, image_id: str) -> Tensor:
        """Return the image (3, h, w), float32 in [0, 1]."""
        ...


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """What is known of an image beside its content.

    Args:
        size: (height, width) in pixels, or None while no one has looked.
        video: the name of the video a frame belongs to.
        frame: the number of the frame in it.
        path: the file it is read from.
    """

    size: tuple[int, int] | None = None
    video: str | None = None
    frame: int | None = None
    path: Path | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing a reader found wrong.

    Args:
        file: the file it is in.
        record: which image, object or annotation.
        field: which of its fields.
        value: what stands there.
        action: `"error"`, `"repaired"`, `"quarantined"` or `"warning"`.
        remedy: what to do, or what was done.
        image_id: the image of the pool it is about, where it is about one.
    """

    file: str
    record: str
    field: str
    value: str
    action: str
    remedy: str
    image_id: str | None = None

    def __str__(self) -> str:
        """Say it in one line."""
        return (
            f"{self.file}: {self.record}: {self.field} = {self.value}: {self.action}; {self.remedy}"
        )


class Findings(tuple[Finding, ...]):
    """Findings that show themselves line by line.

    >>> Findings([Finding("a.json", "image 3", "width", "0", "repaired", "read from the file")])
    1 finding:
    a.json: image 3: width = 0: repaired; read from the file
    """

    __slots__ = ()

    def __repr__(self) -> str:
        """Count them and show the first twenty."""
        lines = [f"{len(self)} finding{'s' * (len(self) != 1)}{':' * bool(self)}"]
        lines += [str(finding) for finding in self[:20]]
        if len(self) > 20:
            lines.append(f"... and {len(self) - 20} more")
        return "\n".join(lines)


class DataError(ValueError):
    """Raised once, with everything that is wrong in a data set."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        """Keep the findings and show the first twenty."""
        self.findings = Findings(findings)
        super().__init__(f"the data cannot be used as they are; {self.findings!r}")


class Pool:
    """Images, each with what is known of it. Never changes.

    Args:
        classes: the names of classes 1...C, in order.
        targets: image ids, in order, and what is known of each.
        images: where images come from.
        infos: size, video, frame and path by id; ids may be missing.
        since: the cycle in which each image's target was last updated; 0, what was known at the
            start, by default.
        findings: what a reader repaired or set aside.

    Raises:
        ValueError: naming the image, the field, the value and what to do.
    """

    __slots__ = ("_images", "_infos", "_since", "_targets", "classes", "findings", "ids")

    def __init__(
        self,
        classes: Sequence[str],
        targets: Mapping[str, Target] | Iterable[tuple[str, Target]],
        images: Images,
        *,
        infos: Mapping[str, ImageInfo] | None = None,
        since: Mapping[str, int] | None = None,
        findings: Sequence[Finding] = (),
    ) -> None:
        """Validate; nothing is loaded."""
        if isinstance(classes, str):
            raise ValueError(f"Pool.classes = {classes!r}: a list of names is needed, not a string")
        self.classes = tuple(classes)
        for name in self.classes:
            check_text(name, "a name in Pool.classes")
        repeated = [name for name, times in Counter(self.classes).items() if times > 1]
        if repeated:
            raise ValueError(
                f"Pool.classes names {repeated} more than once; merge or rename these classes"
            )
        pairs = list(targets.items() if isinstance(targets, Mapping) else targets)
        self.ids = tuple(image_id for image_id, _ in pairs)
        self._targets = dict(pairs)
        if len(self._targets) != len(pairs):
            twice = [image_id for image_id, times in Counter(self.ids).items() if times > 1]
            raise ValueError(
                f"Pool: duplicate image id {twice[0]!r} ({len(twice)} in all); make ids unique"
            )
        for image_id, target in pairs:
            self._check(image_id, target)
        self._images = images
        self._infos = dict(infos or {})
        self._since = dict(since or {})
        for image_id in (*self._infos, *self._since):
            self._known(image_id)
        self.findings = Findings(findings)

    def _check(self, image_id: str, target: Target) -> None:
        if not isinstance(image_id, str) or not image_id:
            raise ValueError(f"Pool: image id {image_id!r} must be a non-empty string; use str(id)")
        if not isinstance(target, Target):
            raise ValueError(
                f"Pool: target of {image_id!r} must be a Target, got {type(target).__name__}"
            )
        named = [
            ("labels", target.labels.tolist()),
            ("tags", target.tags or ()),
            ("absent", target.absent or ()),
        ]
        for field, values in named:
            high = max(values, default=0)
            if high > len(self.classes):
                raise ValueError(
                    f"Pool: {field} of {image_id!r} hold {high}, but there are "
                    f"{len(self.classes)} classes ({', '.join(self.classes[:5])}...); "
                    f"labels are 1...{len(self.classes)}"
                )

    def _known(self, image_id: str) -> str:
        if image_id not in self._targets:
            near = ", ".join(repr(known) for known in self.ids[:3])
            raise ValueError(
                f"no image {image_id!r} in this pool of {len(self)}; "
                f"its ids look like {near or 'nothing'}"
            )
        return image_id

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.ids)

    def __bool__(self) -> bool:
        """Refuse: whether a pool without images counts is for the caller to say."""
        raise TypeError("a Pool has no truth value; ask len(pool)")

    def __contains__(self, image_id: object) -> bool:
        """Tell whether an image of this id is in the pool."""
        return image_id in self._targets

    def __repr__(self) -> str:
        """Say in one line how many images are in which state, and how much a reader found wrong."""
        counts = Counter(self._targets[image_id].state for image_id in self.ids)
        said = [
            f"{counts[state]} {state}"
            for state in ("complete", "sparse", "tagged", "unlabelled")
            if counts[state]
        ]
        empty = sum(target.complete and not len(target) for target in self._targets.values())
        if empty:
            said[0] += f" ({empty} empty)"
        if self.cycle:
            said.append(f"cycle {self.cycle}")
        if self.findings:
            said.append(f"{len(self.findings)} finding{'s' * (len(self.findings) > 1)}")
        return f"Pool({len(self)}: {', '.join(said)})" if said else f"Pool({len(self)})"

    @property
    def cycle(self) -> int:
        """The latest cycle in which anything was learned; 0 at the start."""
        return max((self._since.get(image_id, 0) for image_id in self.ids), default=0)

    def image(self, image_id: str) -> Tensor:
        """Load one image.

        Returns:
            (3, h, w) float32 in [0, 1], RGB, on the CPU.

        Raises:
            ValueError: when the id is unknown or the source returns something else.
        """
        image = self._images.load(self._known(image_id))
        check_image(image, f"image {image_id!r}")
        return image

    def target(self, image_id: str) -> Target:
        """Return what is known of one image."""
        return self._targets[self._known(image_id)]

    def info(self, image_id: str) -> ImageInfo:
        """Return size, video, frame and path of one image."""
        return self._infos.get(self._known(image_id), ImageInfo())

    def since(self, image_id: str) -> int:
        """Return the cycle in which the image's target was last updated; 0 is the start."""
        return self._since.get(self._known(image_id), 0)

    def subset(self, ids: Iterable[str]) -> Pool:
        """Return the pool of these images, in this order."""
        return self._with([(image_id, self.target(image_id)) for image_id in ids])

    def set_aside(self, why: Mapping[str, Finding]) -> Pool:
        """Return the pool without these images; why each is out is added to the findings."""
        for image_id in why:
            self._known(image_id)
        rest = self.subset(image_id for image_id in self.ids if image_id not in why)
        rest.findings = Findings((*self.findings, *why.values()))
        return rest

    def updated(self, targets: Mapping[str, Target], *, cycle: int) -> Pool:
        """Return a pool that knows these targets since `cycle`; everything else stays.

        Raises:
            ValueError: for an unknown id, or a cycle before one already recorded for the image.
        """
        if not isinstance(cycle, int):
            raise ValueError(f"cycle = {cycle!r}: cycles are whole numbers")
        for image_id in targets:
            if cycle < self.since(image_id):
                raise ValueError(
                    f"image {image_id!r} was last updated in cycle {self.since(image_id)}, "
                    f"later than cycle = {cycle}"
                )
        pairs = [
            (image_id, targets.get(image_id, self._targets[image_id])) for image_id in self.ids
        ]
        return self._with(pairs, since={**self._since, **dict.fromkeys(targets, cycle)})

    def relabelled(self, classes: Sequence[str], targets: Mapping[str, Target]) -> Pool:
        """Return the pool of the images that `targets` names, in its order, under other classes.

        Args:
            classes: the names of classes 1...C that the targets use.
            targets: what is known of each image, by id.
        """
        for image_id in targets:
            self._known(image_id)
        return self._with(list(targets.items()), classes=classes)

    def _with(
        self,
        pairs: list[tuple[str, Target]],
        *,
        since: Mapping[str, int] | None = None,
        classes: Sequence[str] | None = None,
    ) -> Pool:
        kept = {image_id for image_id, _ in pairs}
        learned = self._since if since is None else since
        return Pool(
            self.classes if classes is None else classes,
            pairs,
            self._images,
            infos={image_id: info for image_id, info in self._infos.items() if image_id in kept},
            since={image_id: cycle for image_id, cycle in learned.items() if image_id in kept},
            findings=self.findings,
        )

    def concat(self, other: Pool, *, names: tuple[str, str] = ("a", "b")) -> Pool:
        """Return one pool of both: ids become `<name>/<id>`, classes are joined by name.

        An image that is complete for its own classes says nothing of the other pool's. Where the
        class lists differ it is therefore no longer complete: it keeps its boxes, its classes
        become tags, and its own untagged classes `absent`.

        Args:
            other: the second pool.
            names: the namespaces of this pool and of the other.

        Raises:
            ValueError: when both names are the same.
        """
        if any(not name or "/" in name for name in names):
            raise ValueError(f"names = {names!r}: a namespace is not empty and holds no /")
        if names[0] == names[1]:
            raise ValueError(
                f"names = {names!r}: the two namespaces must differ, or ids could collide"
            )
        classes = (*self.classes, *(name for name in other.classes if name not in self.classes))
        pairs: list[tuple[str, Target]] = []
        infos: dict[str, ImageInfo] = {}
        since: dict[str, int] = {}
        for name, pool in zip(names, (self, other), strict=True):
            for image_id in pool.ids:
                joined = f"{name}/{image_id}"
                pairs.append((joined, _renumber(pool.target(image_id), pool.classes, classes)))
                infos[joined] = pool.info(image_id)
                since[joined] = pool.since(image_id)
        images = JoinedImages({names[0]: self._images, names[1]: other._images})
        return Pool(
            classes,
            pairs,
            images,
            infos=infos,
            since=since,
            findings=[
                finding
                if finding.image_id is None
                else replace(finding, image_id=f"{name}/{finding.image_id}")
                for name, pool in zip(names, (self, other), strict=True)
                for finding in pool.findings
            ],
        )


class JoinedImages:
    """The images of several sources, each under its own namespace."""

    def __init__(self, sources: Mapping[str, Images]) -> None:
        """Keep the sources by namespace."""
        self._sources = dict(sources)

    def load(self, image_id: str) -> Tensor:
        """Load `<namespace>/<id>`."""
        name, _, inner = image_id.partition("/")
        return self._sources[name].load(inner)


def _renumber(target: Target, old: tuple[str, ...], new: tuple[str, ...]) -> Target:
    numbers = [0, *(new.index(name) + 1 for name in old)]

    def renumbered(values: frozenset[int] | None) -> frozenset[int] | None:
        return None if values is None else frozenset(numbers[value] for value in values)

    labels = torch.tensor(numbers, device=target.labels.device)[target.labels]
    if set(old) == set(new):
        return replace(
            target, labels=labels, tags=renumbered(target.tags), absent=renumbered(target.absent)
        )
    present = target.present
    absent = target.absent
    if absent is None and present is not None:
        absent = frozenset(range(1, len(old) + 1)) - present
    return replace(
        target, labels=labels, tags=renumbered(present), absent=renumbered(absent), complete=False
    )
