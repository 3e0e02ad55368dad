"""A person's answers in a file, which an oracle gives when they are asked for."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

import torch

from almining.data.formats.label_studio import read_timed
from almining.data.pool import Pool
from almining.label.oracles import answer_from
from almining.label.prices import Prices
from almining.records import Answer, Request, Target

PRICES = Prices()


@dataclass(frozen=True, slots=True)
class FromFile:
    """An oracle that answers from labels people gave elsewhere, once they are there.

    `FromFile(read_coco(json, images))` answers from COCO, where every image listed is taken to be
    finished. Images are matched by id, classes by name.

    Args:
        given: the labels; only complete images answer, all others are still waiting.
        prices: what an answer costs.
        seconds: what it took to complete an image, by id, in place of the price.
        by: who the answers say they are from.
    """

    given: Pool
    prices: Prices = field(default=PRICES, kw_only=True)
    seconds: Mapping[str, float] = field(default_factory=dict, kw_only=True)
    by: str = field(default="file", kw_only=True)

    @classmethod
    def from_label_studio(
        cls,
        json: str | os.PathLike[str],
        *,
        prices: Prices = PRICES,
        by: str = "label studio",
        strict: bool = True,
        repair: Collection[str] = (),
    ) -> Self:
        """Return the oracle of an export of the tasks that `write_label_studio` wrote.

        An answer that completes an image takes the seconds Label Studio measured (`lead_time`).

        Args:
            json: the file exported.
            prices: what an answer costs where no time was measured.
            by: who the answers say they are from.
            strict: see `read_label_studio`.
            repair: see `read_label_studio`.

        Raises:
            DataError: with every problem of the file.
        """
        given, seconds = read_timed(json, strict=strict, repair=repair)
        return cls(given, prices=prices, seconds=seconds, by=by)

    def ask(self, requests: Sequence[Request], pool: Pool) -> Iterator[Answer]:
        """Yield an answer to each request about an image that is complete in the file, in order.

        What is not asked for completely is answered from the boxes, as `Simulated` does.

        Raises:
            ValueError: at once, when no image of the pool is in the file, or the file has a box of
                a class the pool does not have.
        """
        shared = [image_id for image_id in self.given.ids if image_id in pool]
        if requests and not shared:
            theirs, ours = (", ".join(map(repr, one.ids[:3])) for one in (self.given, pool))
            raise ValueError(
                f"none of the file's {len(self.given)} images ({theirs or 'none'}, ...) is one of "
                f"the pool's {len(pool)} ({ours}, ...); images are matched by id, so give those of "
                "the file the pool's ids"
            )
        numbers = torch.tensor([0, *(_number(name, pool.classes) for name in self.given.classes)])
        for image_id in shared:
            target = self.given.target(image_id)
            unknown = target.labels[numbers[target.labels] == 0].tolist()
            if unknown:
                raise ValueError(
                    f"the file has a box of class {self.given.classes[unknown[0] - 1]!r} in image "
                    f"{image_id!r}, which is none of the pool's ({', '.join(pool.classes)}); "
                    "rename it in the file"
                )
        return self._answers(requests, numbers, len(pool.classes))

    def _answers(
        self, requests: Sequence[Request], numbers: torch.Tensor, classes: int
    ) -> Iterator[Answer]:
        for request in requests:
            known = Target.unknown()
            if request.image_id in self.given:
                known = self.given.target(request.image_id)
            if not known.complete:
                continue
            truth = replace(known, labels=numbers[known.labels], tags=None, absent=None)
            answer = answer_from(truth, request, prices=self.prices, classes=classes, by=self.by)
            if request.kind == "complete" and request.image_id in self.seconds:
                answer = replace(answer, seconds=self.seconds[request.image_id])
            yield answer


def _number(name: str, classes: Sequence[str]) -> int:
    return classes.index(name) + 1 if name in classes else 0
