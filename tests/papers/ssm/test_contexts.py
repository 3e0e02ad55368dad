"""Which images a region is pasted into, and the four things that may become of it."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from almining.data.pool import Pool
from almining.papers.ssm import draw_contexts, lacking, positives, verdicts
from almining.records import Target
from almining.rng import generator
from tests.fakes import FlatImages, target

BOX = (2.0, 2.0, 8.0, 8.0)


def known(**targets: Target) -> Pool:
    """A pool of three classes; names become ids."""
    ids = {f"{name}-{i}": one for i, (name, one) in enumerate(targets.items())}
    return Pool(("a", "b", "c"), ids, FlatImages())


def test_only_where_a_class_is_known_to_be_absent() -> None:
    pool = known(
        complete=target(BOX, label=1),
        ignored=target(BOX, label=1, ignore=torch.tensor([True])),
        empty=target(),
        sparse=target(BOX, label=1, complete=False),
        tagged=Target.unknown({1}),
        untagged=Target.unknown(()),
        refuted=Target(torch.zeros(0, 4), torch.zeros(0).long(), absent={2}, complete=False),
        unlabelled=Target.unknown(),
    )
    found = lacking(pool)
    names = {label: [i.split("-")[0] for i in ids] for label, ids in found.items()}
    assert names == {
        1: ["empty", "untagged"],
        2: ["complete", "ignored", "empty", "tagged", "untagged", "refuted"],
        3: ["complete", "ignored", "empty", "tagged", "untagged"],
    }


def test_no_labelled_image_or_all_of_them_hold_the_class() -> None:
    for pool in (known(x=Target.unknown()), known(x=target(BOX)), known()):
        assert lacking(pool)[1] == []
        assert draw_contexts(lacking(pool)[1], generator=generator(0)) == []


def test_images_are_drawn_at_random_and_each_once() -> None:
    ids = [str(i) for i in range(6)]
    draws = generator(0, "contexts")
    drawn = Counter()
    for _ in range(600):
        some = draw_contexts(ids, 3, generator=draws)
        assert len(set(some)) == 3
        drawn.update(some)
    assert set(drawn) == set(ids) and all(240 < count < 360 for count in drawn.values())
    assert len(draw_contexts(ids, generator=draws)) == 5  # N
    assert sorted(draw_contexts(ids, 9, generator=draws)) == ids
    assert sorted(draw_contexts(ids, 4, without={"0", "5"}, generator=draws)) == ids[1:5]
    with pytest.raises(ValueError, match="count = 0"):
        draw_contexts(ids, 0, generator=draws)


def test_four_verdicts() -> None:
    probs = torch.tensor([[0.9, 0.8, 0.1], [0.9, 0.8, 0.1], [0.9, 0.5, 0.1], [0.9, 0.8, 0.1]])
    found = verdicts([0.5, 0.4999, 0.0, None], probs)
    assert found == ["trusted", "ambiguous", "low", "undetermined"]
    assert verdicts([0.4] * 4, probs, min_consistency=0.4) == ["trusted"] * 4
    assert verdicts([0.0] * 4, probs, min_positive=3) == ["low"] * 4
    assert verdicts([0.0] * 4, probs, min_positive=3, positive_at=0.05) == ["ambiguous"] * 4
    assert verdicts([0.0] * 4, probs, positive_at=0.49)[2] == "ambiguous"
    assert verdicts([], torch.zeros(0, 3)) == []
    assert positives(probs).tolist() == [2, 2, 1, 2]


def test_a_softmax_claims_one_class_at_most() -> None:
    probs = torch.randn(200, 4, generator=generator(0)).mul(5).softmax(dim=1)[:, 1:]
    assert int(positives(probs).max()) == 1
    assert "ambiguous" not in verdicts([0.0] * 200, probs)
    assert "ambiguous" in verdicts([0.0] * 200, probs, positive_at=0.2)


def test_verdicts_refuse() -> None:
    half = torch.full((1, 2), 0.5)
    for given, options, message in (
        ([0.5, 0.5], {}, "2 consistencies for probs"),
        ([0.5], {"min_consistency": 0.0}, "min_consistency = 0.0"),
        ([0.5], {"min_positive": 0}, "min_positive = 0"),
        ([0.5], {"positive_at": 1.0}, "positive_at = 1.0"),
    ):
        with pytest.raises(ValueError, match=message):
            verdicts(given, half, **options)  # type: ignore[arg-type]
    with pytest.raises(FloatingPointError, match="None says that a region is undetermined"):
        verdicts([float("nan")], half)
