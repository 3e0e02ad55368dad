import pickle

import pytest
import torch

from almining.data.pool import DataError, Finding, ImageInfo, Pool
from almining.records import Target
from tests.fakes import FlatImages, boxes, flat_pool, labels, target

BOX = (1.0, 1, 5, 5)


def test_what_is_known_and_since_when() -> None:
    start = flat_pool(3)
    later = start.updated({"flat-1": Target.unknown({2})}, cycle=2)
    assert (start.cycle, later.cycle) == (0, 2)
    assert [later.since(image_id) for image_id in later.ids] == [0, 2, 0]
    assert later.target("flat-1").state == "tagged" and start.target("flat-1").complete
    assert repr(later) == "Pool(3: 2 complete, 1 tagged, cycle 2)"


def test_images_are_loaded_when_asked_for() -> None:
    pool = flat_pool(4)
    assert pool.image("flat-3").shape == (3, 16, 24)
    assert float(pool.image("flat-3").mean()) == pytest.approx(0.3)


def test_subset_keeps_the_order_asked_for() -> None:
    pool = flat_pool(5).subset(["flat-4", "flat-0"])
    assert pool.ids == ("flat-4", "flat-0") and "flat-1" not in pool


def test_info() -> None:
    info = ImageInfo(size=(16, 24), video="v", frame=3)
    pool = Pool(["a"], {"v/000003": Target.unknown()}, FlatImages(), infos={"v/000003": info})
    assert pool.info("v/000003") == info
    assert flat_pool(1).info("flat-0").size is None


def test_relabelled_shares_images_under_other_classes() -> None:
    pool = flat_pool(3)
    other = pool.relabelled(["thing"], {"flat-2": target(BOX)})
    assert other.classes == ("thing",) and other.ids == ("flat-2",)
    assert torch.equal(other.image("flat-2"), pool.image("flat-2"))
    with pytest.raises(ValueError, match="no image 'nope'"):
        pool.relabelled(["thing"], {"nope": target(BOX)})


def test_the_summary_names_empty_images_and_findings() -> None:
    one = Finding("a.json", "annotation 1", "bbox", "[]", "repaired", "dropped")
    known = {"a-1": target(BOX), "a-2": target(), "a-3": Target.unknown(), "a-4": target()}
    known["a-5"] = target(BOX, complete=False)
    made = Pool(["x"], known, FlatImages(), findings=[one])
    assert repr(made) == "Pool(5: 3 complete (2 empty), 1 sparse, 1 unlabelled, 1 finding)"
    assert repr(made.subset(["a-2"])) == "Pool(1: 1 complete (1 empty), 1 finding)"


def test_empty_pool() -> None:
    pool = Pool([], {}, FlatImages())
    assert len(pool) == 0 and repr(pool) == "Pool(0)" and pool.cycle == 0
    assert len(pool.concat(flat_pool(1))) == 1
    with pytest.raises(TypeError, match="len"):
        bool(pool)


def test_concat_joins_classes_by_name_and_namespaces_ids() -> None:
    a = Pool(["dog", "cat"], {"flat-1": target(BOX, label=2)}, FlatImages())
    b = Pool(["cat", "dog"], {"flat-1": target(BOX, label=2)}, FlatImages())
    both = a.concat(b)
    assert both.classes == ("dog", "cat") and both.ids == ("a/flat-1", "b/flat-1")
    assert both.target("a/flat-1").labels.tolist() == [2]
    assert both.target("b/flat-1").labels.tolist() == [1]
    assert both.target("b/flat-1").complete
    assert torch.equal(both.image("b/flat-1"), b.image("flat-1"))


def test_concat_does_not_claim_what_no_one_looked_for() -> None:
    a = Pool(["dog"], {"flat-1": target(BOX), "flat-2": Target.unknown()}, FlatImages())
    b = Pool(["cat"], {"flat-1": Target(boxes(), labels())}, FlatImages())
    both = a.concat(b, names=("one", "two"))
    seen = both.target("one/flat-1")
    assert not seen.complete and seen.tags == {1} and seen.absent == frozenset()
    assert not seen.known_absent(2)  # no one looked for cats there
    assert both.target("one/flat-2").state == "unlabelled"
    empty = both.target("two/flat-1")
    assert empty.state == "tagged" and empty.known_absent(2) and not empty.known_absent(1)


def test_concat_of_concat_finds_its_images() -> None:
    pool = flat_pool(2).concat(flat_pool(2)).concat(flat_pool(1), names=("x", "y"))
    assert pool.image("x/b/flat-1").shape == (3, 16, 24)


def test_survives_being_copied_to_a_worker() -> None:
    copy = pickle.loads(pickle.dumps(flat_pool(2)))
    assert copy.ids == ("flat-0", "flat-1")


class WrongImages:
    def load(self, image_id: str) -> torch.Tensor:
        return torch.zeros(3, 4, 4, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Pool("abc", {}, FlatImages()), "Pool.classes = 'abc': a list of names"),
        (lambda: Pool(["a", ""], {}, FlatImages()), "a name in Pool.classes = ''"),
        (lambda: Pool(["a"], {}, FlatImages(), since={"y": 5}), "no image 'y'"),
        (lambda: Pool(["a"], {}, FlatImages(), infos={"y": ImageInfo()}), "no image 'y'"),
        (lambda: flat_pool(1).updated({}, cycle=1.5), "cycle = 1.5: cycles are whole"),
        (lambda: flat_pool(1).concat(flat_pool(1), names=("x/y", "b")), "holds no /"),
        (lambda: flat_pool(1).concat(flat_pool(1), names=("", "b")), "is not empty"),
        (lambda: Pool(["a", "a"], {}, FlatImages()), r"names \['a'\] more than once"),
        (
            lambda: Pool(["a"], [("x", Target.unknown())] * 2, FlatImages()),
            "duplicate image id 'x'",
        ),
        (
            lambda: Pool(["a"], {"x": target(BOX, label=2)}, FlatImages()),
            "labels of 'x' hold 2.*1 classes",
        ),
        (lambda: Pool(["a"], {"x": Target.unknown({3})}, FlatImages()), "tags of 'x' hold 3"),
        (
            lambda: Pool(["a"], {"x": None}, FlatImages()),
            "target of 'x' must be a Target, got NoneType",
        ),
        (lambda: Pool(["a"], {7: Target.unknown()}, FlatImages()), r"image id 7.*str\(id\)"),
        (lambda: flat_pool(2).target("nope"), "no image 'nope' in this pool of 2.*'flat-0'"),
        (lambda: flat_pool(2).image("nope"), "no image 'nope'"),
        (lambda: flat_pool(2).subset(["flat-0", "flat-0"]), "duplicate image id 'flat-0'"),
        (lambda: flat_pool(2).updated({"nope": Target.unknown()}, cycle=1), "no image 'nope'"),
        (
            lambda: flat_pool(2).updated({"flat-0": target(BOX, label=9)}, cycle=1),
            "'flat-0' hold 9",
        ),
        (
            lambda: (
                flat_pool(2)
                .updated({"flat-0": target(BOX)}, cycle=3)
                .updated({"flat-0": target(BOX)}, cycle=2)
            ),
            "'flat-0' was last updated in cycle 3",
        ),
        (lambda: flat_pool(1).concat(flat_pool(1), names=("a", "a")), "namespaces must differ"),
        (
            lambda: Pool(["a"], {"x": Target.unknown()}, WrongImages()).image("x"),
            "image 'x' must be float32",
        ),
    ],
)
def test_rejected(make, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make()


def test_data_error_holds_every_finding() -> None:
    error = DataError(
        [Finding(f"{i}.xml", "object 1", "xmin", "NaN", "error", "fix it") for i in range(25)]
    )
    assert len(error.findings) == 25
    assert (
        "25 findings:" in str(error)
        and "0.xml: object 1: xmin = NaN" in str(error)
        and "5 more" in str(error)
    )
