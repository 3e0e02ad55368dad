from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from almining.cycle import run
from almining.data.pool import Pool
from almining.data.regimes import seeds_and_tags, source_target
from almining.data.scenes import make_scenes
from almining.detectors.rcnn import faster_rcnn
from almining.papers import note_rcnn
from almining.papers.note_rcnn import Config, initialise, recipe, step
from almining.papers.note_rcnn.recipes import mine_pool
from almining.records import Detections, Target
from almining.rng import generator
from almining.train import Batch
from tests.fakes import boxes, flat_pool, labels, target

CONFIG = replace(Config(), epochs=0.5, first_epochs=0.5, batch=2, iterations=3)
OWN = (2.0, 2.0, 10.0, 12.0)


class Told(nn.Module):
    """Finds its box in images brighter than a bound, and keeps what it is taught."""

    classes = ("dark", "light")
    variant = "det-az-rpn-a"

    def __init__(self, bounds: tuple[float, ...] = (0.0,)) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.bounds, self.calls = bounds, []

    def __deepcopy__(self, memo) -> "Told":
        made = Told(self.bounds[1:] or self.bounds)
        made.calls, made.weight = self.calls, nn.Parameter(self.weight.detach().clone())
        return made

    def parts(self) -> dict[str, nn.Module]:
        return {}

    def losses(self, images, targets, *, generator, distill=None) -> dict[str, Tensor]:
        self.calls.append((targets, distill))
        return {"cls": self.weight * len(images)}

    @torch.no_grad()
    def detect(self, images) -> list[Detections]:
        found = []
        for image in images:
            n = int(float(image.mean()) >= self.bounds[0])
            score = torch.tensor([0.995] * n)
            found.append(Detections(boxes(*[OWN] * n), labels(*[1] * n), score))
        return found


def tagged(n: int = 6, seeds: int = 2) -> Pool:
    """Images 0...n-1 of brightness i / 10: seeds, then images tagged with class 1."""
    pool = flat_pool(n)
    return pool.updated({i: Target.unknown({1}) for i in pool.ids[seeds:]}, cycle=0)


def mined_in(pool: Pool) -> list[str]:
    return [i for i in pool.ids if pool.target(i).state == "sparse"]


def test_boxes_are_mined_anew_in_each_iteration_and_trained_on_beside_the_seeds() -> None:
    kept: list = []
    made = recipe(CONFIG, watch=lambda iteration, found: kept.append((iteration, found)))
    bounds = (9.0, 0.3, 0.4, 9.0)  # of T0 as given, of its copy, and so on
    detector = Told(bounds)
    history = run(made, detector, tagged(), oracle=None, budget=1, cycles=3, seed=0)
    assert [iteration for iteration, _ in kept] == [1, 2, 3]
    names = [[i for i in found if len(found[i])] for _, found in kept]
    assert names == [["flat-3", "flat-4", "flat-5"], ["flat-4", "flat-5"], []]
    assert all(set(found) == set(tagged().ids[2:]) for _, found in kept)
    assert kept[1][1]["flat-3"].state == "tagged"  # forgotten
    assert kept[1][1]["flat-4"].origin == ("mined:note_rcnn:2",)
    assert kept[1][1]["flat-4"].tags == {1} and not kept[1][1]["flat-4"].complete
    assert mined_in(history.pool) == [] and history.pool.cycle == 3
    assert history.rows[-1].picked == () and history.rows[-1].images == 2
    taught = [[len(one.origin) for one in targets] for targets, _ in detector.calls]
    assert sum(map(len, taught)) == 2 * sum(-(-n // 4) for n in (5, 4, 2))


def test_a_run_that_goes_on_counts_on(tmp_path) -> None:
    config = replace(CONFIG, distill="half", distill_until=2, epochs=0.1)
    ask = {"oracle": None, "budget": 1, "seed": 0, "run_dir": tmp_path / "run"}
    first, detector = Told((0.4,)), Told((0.4,))
    run(recipe(config), first, tagged(), cycles=1, **ask)
    history = run(recipe(config), detector, tagged(), cycles=3, **ask)
    assert [distill for _, distill in detector.calls] == ["proposals", None]
    assert {o for i in mined_in(history.pool) for o in history.pool.target(i).origin} == {
        "mined:note_rcnn:3"
    }
    assert mined_in(history.pool) == ["flat-4", "flat-5"]


def test_everything_mined_and_nothing_mined() -> None:
    for bound, wanted in ((0.0, 4), (9.0, 0)):
        history = run(
            recipe(CONFIG), Told((bound,)), tagged(), oracle=None, budget=1, cycles=1, seed=0
        )
        assert len(mined_in(history.pool)) == wanted
        assert all(history.pool.target(i).state == "complete" for i in tagged().ids[:2])


def test_who_is_mined() -> None:
    pool = flat_pool(6)
    some = {
        "flat-1": target(OWN, complete=False, tags={1, 2}),  # a person's, not complete
        "flat-2": Target.unknown(),
        "flat-3": replace(Target.unknown({1}), absent=frozenset({2}), negatives=boxes(OWN)),
        "flat-4": target(OWN, OWN, origin=["mined:note_rcnn:1"] * 2, tags={1}, complete=False),
        "flat-5": Target.unknown({2}),
    }
    found = mine_pool(Told(), pool.updated(some, cycle=1), CONFIG, 2)
    assert list(found) == ["flat-3", "flat-4", "flat-5"]
    assert [len(one) for one in found.values()] == [1, 1, 0]
    assert found["flat-3"].absent == {2} and len(found["flat-3"].negatives) == 1
    sure = mine_pool(Told(), pool.updated(some, cycle=1), replace(CONFIG, min_score=0.995), 2)
    assert [len(one) for one in sure.values()] == [0, 0, 0]


def test_every_box_above_the_threshold_by_one_switch() -> None:
    class Two(Told):
        def detect(self, images):
            score = torch.tensor([0.999, 0.995])
            return [Detections(boxes(OWN, (0, 0, 5, 5)), labels(1, 1), score) for _ in images]

    for every, wanted in ((False, 1), (True, 2)):
        found = mine_pool(Two(), tagged(), replace(CONFIG, every_box=every), 1)
        assert {len(one) for one in found.values()} == {wanted}


@pytest.mark.parametrize(
    ("how", "wanted"), [("always", [1, 1, 1]), ("half", [1, 1, 0]), ("never", [0, 0, 0])]
)
def test_distillation_goes_by_iterations(how: str, wanted: list[int]) -> None:
    config = replace(CONFIG, distill=how, distill_until=2, epochs=0.1)
    detector = Told()
    run(recipe(config), detector, tagged(), oracle=None, budget=1, cycles=3, seed=0)
    assert [distill for _, distill in detector.calls] == [
        "proposals" if one else None for one in wanted
    ]


def test_a_detector_that_does_not_fit_is_refused() -> None:
    other = replace(CONFIG, variant="det-az")
    ask = {"oracle": None, "budget": 1, "cycles": 1, "seed": 0}
    with pytest.raises(ValueError, match="heads of variant 'det-az-rpn-a', the config wants"):
        run(recipe(other), Told(), tagged(), **ask)
    pool = tagged()
    batch = Batch(["flat-0"], [pool.image("flat-0")], [pool.target("flat-0")], pool, 0, 0.0)
    with pytest.raises(ValueError, match="wants 'det-az'"):
        step(Told(), batch, generator=generator(0), config=other)
    plain = faster_rcnn(("dark", "light"))
    with pytest.raises(ValueError, match=r"note_rcnn needs a detector with parts\(...\)"):
        run(recipe(CONFIG), plain, pool, **ask)


@pytest.fixture(scope="module")
def small():
    """Scenes of the target classes, and a source detector of two classes."""
    scenes = make_scenes(16, seed=0, size=64)
    _, pool = source_target(scenes, [name for name in scenes.classes if name not in TARGETS])
    return pool, faster_rcnn(("car", "cat"), min_size=64)


TARGETS = ("cat", "dog", "person")  # "cat" is a source class, too


def test_from_a_source_detector_and_seeds_to_an_iteration(small) -> None:
    pool, source = small
    config = replace(Config.toy(), min_score=0.0, epochs=0.5, first_epochs=1, batch=4)
    few = seeds_and_tags(pool, 1, seed=0)
    first = initialise(few, source, config, seed=0, progress=False)
    assert first.variant == "det-az-rpn-a" and first.classes == pool.classes
    again = initialise(few, source, config, seed=0, progress=False)
    state = again.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in first.state_dict().items())
    first.plain.model.roi_heads.score_thresh = 0.0
    history = run(recipe(config), first, few, oracle=None, budget=1, cycles=1, seed=0)
    assert mined_in(history.pool)
    found = note_rcnn.audit(history.pool, pool)
    assert found["mined"] == sum(len(history.pool.target(i)) for i in mined_in(history.pool))
    assert history.detector.detect([pool.image(pool.ids[0])])
    before, after = first.source.state_dict(), history.detector.source.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_without_seeds_there_is_nothing_to_begin_with(small) -> None:
    pool, source = small
    tags = pool.updated({i: Target.unknown({1}) for i in pool.ids}, cycle=0)
    with pytest.raises(ValueError, match="no seed image"):
        initialise(tags, source, seed=0)


def test_classes_without_a_seed_are_told_of(small) -> None:
    pool, source = small
    label = 1 + pool.classes.index("cat")
    cats = [i for i in pool.ids if label in pool.target(i).labels.tolist()]
    few = pool.updated({i: Target.unknown({label}) for i in cats}, cycle=0)
    one, *cats = cats  # a seed image in which every cat is ignored
    ignored = replace(pool.target(one), ignore=pool.target(one).labels == label)
    few = few.updated({one: ignored}, cycle=0)
    config = replace(Config.toy(), first_epochs=0.1, distill="never")
    with pytest.warns(UserWarning, match="no seed image holds cat: of these no box is found"):
        made = initialise(few, source, config, seed=0, progress=False)
    found = mine_pool(made, few, replace(config, min_score=0.9), 1)
    assert set(found) == set(cats) and all(one.state == "tagged" for one in found.values())


def test_the_config_is_part_of_what_a_run_is(small) -> None:
    made = recipe(CONFIG)
    assert made.config is CONFIG and isinstance(made.step, partial)
    assert made.restart == "continue" and made.query is None
    assert recipe().config == Config.toy()
