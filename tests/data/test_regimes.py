import pytest
import torch

from almining.data import regimes
from almining.records import Target
from tests.fakes import flat_pool, target


def test_tags_only_hides_boxes_and_keeps_classes() -> None:
    pool = regimes.tags_only(flat_pool(4))
    assert {pool.target(image_id).state for image_id in pool.ids} == {"tagged"}
    assert [pool.target(image_id).tags for image_id in pool.ids] == [{1}, {2}, {1}, {2}]


def test_ignored_boxes_count_as_present() -> None:
    pool = flat_pool(1).updated(
        {"flat-0": target((0, 0, 4, 4), ignore=torch.tensor([True]))}, cycle=0
    )
    assert regimes.tags_only(pool).target("flat-0").tags == {1}


@pytest.mark.parametrize("tags", [False, True])
def test_unlabelled_keeps_exactly_so_many(tags: bool) -> None:
    pool = regimes.unlabelled(flat_pool(10), keep=3, seed=1, tags=tags)
    states = [pool.target(image_id).state for image_id in pool.ids]
    assert states.count("complete") == 3 and states.count("tagged" if tags else "unlabelled") == 7
    assert pool.ids == flat_pool(10).ids


def test_unlabelled_is_a_function_of_the_seed() -> None:
    def kept(seed: int) -> list[str]:
        pool = regimes.unlabelled(flat_pool(40), keep=5, seed=seed)
        return [image_id for image_id in pool.ids if pool.target(image_id).complete]

    assert kept(3) == kept(3) and kept(3) != kept(4)
    assert kept(0) == ["flat-3", "flat-32", "flat-33", "flat-34", "flat-39"]  # pinned


def test_edges() -> None:
    assert len(regimes.unlabelled(flat_pool(0), keep=0, seed=0)) == 0
    assert regimes.unlabelled(flat_pool(2), keep=2, seed=0).target("flat-1").complete
    with pytest.raises(ValueError, match=r"keep = 3.*between 0 and the pool's 2"):
        regimes.unlabelled(flat_pool(2), keep=3, seed=0)
    unknown = flat_pool(1).updated({"flat-0": Target.unknown()}, cycle=0)
    with pytest.raises(ValueError, match=r"'flat-0' are not known.*unlabelled"):
        regimes.tags_only(unknown)
