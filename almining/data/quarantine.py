"""Broken images met on the way: set aside by id, counted, and too many of them stop the work.

A pool lists images long before they are decoded, so a damaged file is found late. One in a hundred
may be; a larger share says that something is wrong with the data set as a whole. Whatever is set
aside stands in a finding: nothing is replaced, nothing is lost in silence. What one of several
ranks finds broken is set aside on all.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Container, Iterable
from contextvars import ContextVar, Token
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from torch import Tensor

from almining import ranks
from almining.data.formats.files import BrokenImageError
from almining.data.pool import DataError, Finding, Pool
from almining.progress import bar

Result = TypeVar("Result")
LIMIT = 0.01
LOOKED = 16  # images a rank looks at before the others hear of it


class Quarantine:
    """The broken images of a pool, as they are met.

    Used as `with quarantine:`, every `predict.stream` inside that was given none fills this one.

    Args:
        limit: the share of the images asked for that may be broken; one more raises.
        of: how many images the share is of; by default those that were asked for so far.

    Raises:
        ValueError: for a limit outside [0, 1].
    """

    def __init__(self, *, limit: float = LIMIT, of: int | None = None) -> None:
        """Start with nothing set aside."""
        if not (0 <= limit <= 1 and math.isfinite(limit)):
            raise ValueError(f"limit = {limit!r}: a share of the images, 0 to 1, is needed")
        self.limit, self.of = limit, of
        self._found: dict[str, Finding] = {}
        self._asked: set[str] = set()
        self._sound: set[str] = set()
        self._tokens: list[Token[Quarantine | None]] = []

    @property
    def ids(self) -> tuple[str, ...]:
        """The images set aside, in the order they were met."""
        return tuple(self._found)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Why, in the same order."""
        return tuple(self._found.values())

    def __len__(self) -> int:
        """Return how many images are set aside."""
        return len(self._found)

    def __contains__(self, image_id: object) -> bool:
        """Tell whether an image is set aside."""
        return image_id in self._found

    def __repr__(self) -> str:
        """Say in one line how many of how many."""
        return f"Quarantine({len(self)} of {self._whole()}, limit {self.limit:g})"

    def __enter__(self) -> Quarantine:
        """Become the one that is filled where none is given."""
        self._tokens.append(CURRENT.set(self))
        return self

    def __exit__(self, *_: object) -> None:
        """Hand over to the one before."""
        CURRENT.reset(self._tokens.pop())

    def ask(self, ids: Iterable[str]) -> None:
        """Note which images are wanted: the limit is a share of them.

        Raises:
            DataError: when so many of them are known to be broken that it is passed.
        """
        self._asked.update(ids)
        self._judge()

    def load(self, pool: Pool, image_id: str) -> Tensor | None:
        """Return an image, or None where it is broken: it is then set aside.

        Raises:
            DataError: with all findings so far, when more than `limit` are broken.
        """
        loaded = self.loader(pool)(image_id)
        error = loaded if isinstance(loaded, BrokenImageError) else None
        sound = loaded is not None and self.meet(image_id, error)
        return loaded if sound and isinstance(loaded, Tensor) else None

    def loader(self, pool: Pool) -> Callable[[str], Tensor | BrokenImageError | None]:
        """Return what loads an image, or says why it is broken; None for one set aside before.

        It may run in another process; `meet` takes note of what comes of it.
        """
        return partial(_load, pool, self._found)

    def meet(self, image_id: str, error: BrokenImageError | None) -> bool:
        """Note what came of loading an image; tell whether it is sound.

        Raises:
            DataError: with all findings so far, when more than `limit` are broken.
        """
        if image_id in self._found:
            return False
        if error is None:
            self._sound.add(image_id)
        else:
            self._add(image_id, error)
        return error is None

    def _add(self, image_id: str, error: BrokenImageError) -> None:
        # a joined pool knows the image by another id than its source
        self._found[image_id] = replace(
            error.finding, record=f"image {image_id}", image_id=image_id
        )
        self._sound.discard(image_id)
        self._judge()

    def admit(self, findings: Iterable[Finding]) -> None:
        """Set images aside that were found broken before, as a run does that goes on.

        Args:
            findings: why, each with its `image_id`.
        """
        for finding in findings:
            self._found[str(finding.image_id)] = finding
            self._sound.discard(str(finding.image_id))

    def look(self, pool: Pool, ids: Iterable[str], *, progress: bool | str = False) -> bool:
        """Load images that were not loaded before; tell whether any was set aside.

        Raises:
            DataError: when more than `limit` are broken.
        """
        before, me = len(self), ranks.current()
        new = [image_id for image_id in dict.fromkeys(ids) if image_id not in self._sound]
        new = ranks.share(new)  # another rank may have come further
        size = 1 if me.world == 1 else LOOKED * me.world
        with bar(total=len(new), progress=progress, name="look", unit="image") as shown:
            for start in range(0, len(new), size):
                part = new[start : start + size]
                mine = self._looked(pool, part[me.rank :: me.world])
                for found in ranks.gather(*mine, place="look"):
                    for image_id, args in found:
                        self.meet(image_id, BrokenImageError(*args) if args else None)
                shown.update(len(part))
        return len(self) > before

    def _looked(self, pool: Pool, ids: Iterable[str]) -> tuple[list[Any], Exception | None]:
        """Return, for each image, why it is broken, or None; and what else went wrong."""
        load = self.loader(pool)
        found: list[Any] = []
        try:
            for image_id in ids:
                loaded = load(image_id)
                args = loaded.args if isinstance(loaded, BrokenImageError) else None
                found.append((image_id, args))
        except Exception as error:
            return found, error
        return found, None

    def without(self, pool: Pool) -> Pool:
        """Return the pool without what is set aside, which stands in its findings."""
        gone = {image_id: why for image_id, why in self._found.items() if image_id in pool}
        return pool.set_aside(gone) if gone else pool

    def survive(
        self, call: Callable[[Pool], Result], pool: Pool, *, progress: bool | str = False
    ) -> Result:
        """Return what `call` makes of a pool without its broken images.

        Where `call` raises because it loads a broken image itself, that one is set aside, every
        image of the pool that was not loaded so far is looked at, and `call` is called again with
        those that are sound.

        Raises:
            BrokenImageError: from `call`, when it is about no image of the pool.
            DataError: when more than `limit` are broken.
        """
        while True:
            pool = self.without(pool)
            try:
                with self:
                    return ranks.together(call, pool)
            except BrokenImageError as error:
                known = error.image_id in pool
                if known:  # though it may be sound the next time
                    self._add(error.image_id, error)
                else:  # it may have another id here: whatever was sound is looked at again
                    self._sound.clear()
                if not self.look(pool, pool.ids, progress=progress) and not known:
                    raise

    def warn(self, what: str, *, stacklevel: int = 2) -> None:
        """Warn once, with the number and the first ids, when anything is set aside."""
        if self._found:
            more = ", ..." if len(self) > 3 else ""
            many = "image was" if len(self) == 1 else "images were"
            warnings.warn(
                f"{len(self)} broken {many} set aside while {what}: "
                f"{', '.join(self.ids[:3])}{more}; {self.findings[0]}",
                stacklevel=stacklevel + 1,
            )

    def _whole(self) -> int:
        return len(self._asked) if self.of is None else self.of

    def _judge(self) -> None:
        # divided, not multiplied: 29 / 2900 is exactly the float 0.01
        if len(self) and len(self) / max(1, self._whole()) > self.limit:
            error = DataError(self.findings)
            error.add_note(
                f"stopped: {len(self)} of {self._whole()} images are broken, more than "
                f"{self.limit:.4g} of them; mend the files, or leave them out of the pool"
            )
            raise error


def _load(pool: Pool, known: Container[str], image_id: str) -> Tensor | BrokenImageError | None:
    if image_id in known:
        return None
    try:
        return pool.image(image_id)
    except BrokenImageError as error:
        return error


CURRENT: ContextVar[Quarantine | None] = ContextVar("almining.data.quarantine", default=None)
