"""SSM as a recipe: what a step teaches, what is asked, when it ends, and that a run goes on."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from almining.cycle import History, run
from almining.data.proposals import Grid
from almining.data.regimes import unlabelled
from almining.data.scenes import make_scenes
from almining.detectors.rcnn import faster_rcnn
from almining.detectors.sigmoid import fast_rcnn
from almining.fingerprints import digest_weights
from almining.label import Simulated
from almining.papers.ssm import Config, Step, Way, books, informed, recipe
from almining.records import Target
from almining.rng import generator
from almining.train import Batch, TrainConfig, fit
from tests.keepers import Killed, MemoryKeeper
from tests.papers.ssm.spotted import LEFT, RIGHT, Spots, Spotter, pool_of, truth_of

CONFIG = Config(per_class=20, per_cycle=2, min_score=0.3, steps=4, batch=3, lr=1e-3)
DRAWN = Target(torch.tensor([LEFT]), torch.tensor([2]), complete=False)
WHOLE = [0.0, 0, 48, 40]


def batch(pool: Any, *ids: str) -> Batch:
    images, targets = [Spots().load(i) for i in ids], [pool.target(i) for i in ids]
    return Batch(list(ids), images, targets, pool, 0, 0.0)


def stepped(pool: Any, *ids: str, step: Step | None = None, **changes: Any) -> list[Target]:
    """What a step teaches of each image, without what is masked."""
    seen: list[list[Target]] = []
    made = step or Step(replace(CONFIG, **changes))
    made = replace(made, watch=lambda _, targets: seen.append(targets))
    losses = made(Spotter(), batch(pool, *ids), generator=generator(0))
    assert list(losses) == ["cls"] and losses["cls"].requires_grad
    return seen[0]


def rows(target: Target) -> list[tuple[tuple[float, ...], int, str]]:
    return [
        (tuple(box), label, origin)
        for box, label, origin in zip(
            target.boxes.tolist(), target.labels.tolist(), target.origin, strict=True
        )
    ]


# a step


def test_a_step_labels_what_is_found_again_elsewhere() -> None:
    pool = pool_of()
    whole, other = stepped(pool, "3", "100")
    assert whole is pool.target("3")
    assert rows(other) == [(LEFT, 2, "mined:ssm")] and other.scores[0] == pytest.approx(0.9)
    assert not other.complete and pool.target("100").state == "unlabelled"


def test_a_person_s_boxes_stay_and_are_not_labelled_again() -> None:
    pool = pool_of(_100=DRAWN)
    (taught,) = stepped(pool, "100")
    assert rows(taught) == [(LEFT, 2, "human")]
    refuted = replace(Target.unknown(), negatives=torch.tensor([LEFT]))
    (taught,) = stepped(pool_of(_100=refuted), "100")
    assert rows(taught) == [] and taught.negatives.tolist() == [list(LEFT)]


def test_what_is_not_known_is_masked() -> None:
    pool, detector = pool_of(), Spotter()
    Step(CONFIG)(detector, batch(pool, "3", "100"), generator=generator(0))
    whole, other = detector.taught[0]
    assert not bool(whole.ignore.any()) and whole.complete
    assert other.ignore.tolist() == [False, True] and other.boxes[1].tolist() == WHOLE
    assert not other.complete


def test_images_that_teach_nothing_are_left_out() -> None:
    pool = pool_of(complete=0, _3=Target(torch.zeros(0, 4), torch.tensor([], dtype=torch.int64)))
    detector = Spotter()
    step = Step(replace(CONFIG, only="al"))
    for ids, shown in ((("100", "3", "101"), 1), (("100", "101"), 1)):
        losses = step(detector, batch(pool, *ids), generator=generator(0))
        assert len(detector.taught[-1]) == len(detector.shown[-1]) == shown
        assert float(losses["cls"].detach()) == 0 and losses["cls"].requires_grad
    assert detector.taught[0][0] is pool.target("3")  # labelled and empty: all background
    assert detector.taught[1][0].ignore.tolist() == [True]
    assert detector.looked == 0  # nothing is validated
    refuted = replace(Target.unknown(), negatives=torch.tensor([LEFT]))
    step(detector, batch(pool_of(_102=refuted), "100", "102"), generator=generator(0))
    assert [one.negatives.tolist() for one in detector.taught[-1]] == [[list(LEFT)]]


def test_mirrored_images_teach_mirrored_boxes() -> None:
    pool, seen = pool_of(), []
    given = batch(pool, "100")
    step = Step(CONFIG, watch=lambda _, targets: seen.append(targets))
    step(
        Spotter(),
        replace(given, images=[given.images[0].flip(2)]),
        generator=generator(0),
    )
    assert rows(seen[0][0]) == [((36.0, 4.0, 44.0, 12.0), 2, "mined:ssm")]


def test_begun_a_step_ranks_among_all_images() -> None:
    pool, first = pool_of(unlabelled=6), replace(CONFIG, per_class=1)  # two images of each class
    detector = Spotter()
    ids = list(pool.ids)
    begun = Step(first).begin(detector, pool, ids=ids, generator=generator(0))
    assert begun.rest is not None and begun.rest.owners.tolist() == [
        place for place in range(9, 15) for _ in range(2)
    ]
    assert [score > 0.5 for score in begun.rest.scores.tolist()] == [True, False] * 6
    # alone it is the first of its class, beside an equal one that was there before it is not
    assert [len(one) for one in stepped(pool, "100", step=Step(first))] == [1]
    assert [len(one) for one in stepped(pool, "100", step=begun)] == [0]
    assert [len(one) for one in stepped(pool, "100", "103", step=begun)] == [1, 0]
    two = Step(replace(CONFIG, per_class=2)).begin(detector, pool, ids=ids, generator=generator(0))
    assert [len(one) for one in stepped(pool, "100", step=two)] == [1]
    some = Step(first).begin(detector, pool, ids=["3", "101"], generator=generator(0))
    assert some.rest is not None and some.rest.owners.tolist() == [10, 10]


def test_al_only_begins_with_nothing() -> None:
    step, detector = Step(replace(CONFIG, only="al")), Spotter()
    assert step.begin(detector, pool_of(), ids=["100"], generator=generator(0)) is step
    assert detector.looked == 0


def test_confidence_alone_believes_the_yellow_spot() -> None:
    (by_paste,) = stepped(pool_of(), "100")
    (by_score,) = stepped(pool_of(), "100", validation="confidence")
    assert len(by_paste) == 1
    assert rows(by_score)[1] == (RIGHT, 1, "mined:ssm")


def test_without_an_image_to_paste_into_nothing_is_labelled() -> None:
    assert [len(one) for one in stepped(pool_of(complete=0), "100", "101")] == [0, 0]


# what is asked


def asked(pool: Any, budget: int = 100, detector: Any = None, **changes: Any) -> list[Any]:
    query = recipe(replace(CONFIG, **changes)).query
    assert query is not None
    return query(detector or Spotter(), pool, budget, generator=generator(0))


def test_regions_that_two_classes_claim_are_asked_about() -> None:
    pool = pool_of()
    made = asked(pool, per_cycle=100)
    assert sorted(one.image_id for one in made) == ["100", "101", "102"]
    assert len({one.id for one in made}) == 3
    for one in made:
        assert one.kind == "region" and tuple(one.box.tolist()) == RIGHT
        assert one.evidence is not None and one.evidence.text == (
            "a 0.80 and b 0.70; consistency as a 0.00"
        )
        assert one.evidence.data["probs"].shape == (1, 3)


def test_at_most_z_at_random() -> None:
    pool = pool_of(unlabelled=30)
    picks = [one.image_id for one in asked(pool, per_cycle=4)]
    assert len(set(picks)) == 4 and picks != sorted(picks)
    assert len(asked(pool, per_cycle=100)) == 30 and len(asked(pool, 3, per_cycle=100)) == 3


def test_evidence_leaves_picks_and_draws_as_they_were() -> None:
    draws, query = generator(0), recipe(replace(CONFIG, per_cycle=6)).query
    assert query is not None
    made = query(Spotter(), pool_of(unlabelled=30), 100, generator=draws)
    picked = [101, 108, 119, 115, 106, 113]  # as before there were pictures
    assert [one.id for one in made] == [f"region:{number}:0" for number in picked]
    assert float(torch.rand((), generator=draws)) == pytest.approx(0.2310, abs=1e-4)
    assert all(one.score is None for one in made)


def test_who_is_not_asked_about() -> None:
    for pool, changes in (
        (pool_of(), {"min_positive": 3}),
        (pool_of(), {"positive_at": 0.75}),  # by one class only
        (pool_of(complete=0), {}),  # undetermined
        (pool_of(unlabelled=0), {}),
    ):
        assert asked(pool, **changes) == []
    sure = Spotter(yellow=(0.8, 0.4))
    assert asked(pool_of(), detector=sure) == []
    assert asked(pool_of(), detector=Spotter(), validation="confidence") == []  # 0.8 is high
    assert len(asked(pool_of(), validation="confidence", min_consistency=0.85)) == 2


def test_a_softmax_is_refused_before_any_training() -> None:
    pool, soft = pool_of(), Spotter(softmax=True)
    with pytest.raises(ValueError, match="one-vs-rest heads"):
        ran(pool, detector=soft)
    assert soft.taught == []
    asked(pool, detector=soft, positive_at=0.4)
    ran(pool, replace(CONFIG, only="ssm"), detector=soft, cycles=1)
    network = faster_rcnn(
        make_scenes(1, seed=0).classes,
        min_size=64,
        max_size=64,
        box_score_thresh=0.0,
        box_detections_per_img=5,
    )
    with pytest.raises(ValueError, match="FasterRCNN sum to 1"):
        asked(
            make_scenes(1, seed=0, size=64).updated({"scene-0-0": Target.unknown()}, cycle=0),
            detector=network,
            min_score=0.0,
        )


def test_one_class_is_refused() -> None:
    pool = pool_of()
    one = pool.relabelled(["a"], {"100": Target.unknown()})
    with pytest.raises(ValueError, match=r"has 1 class.*min_positive=1"):
        asked(one)


# a run


def ran(
    pool: Any, config: Config = CONFIG, *, detector: Any = None, cycles: int = 3, **more: Any
) -> History:
    ask = {"oracle": Simulated(truth_of(pool)), "budget": 2, "cycles": cycles, "seed": 0}
    ask |= {"unit": "images", "progress": False} | more
    return run(recipe(config), detector or Spotter(), pool, **ask)


def test_regions_go_to_a_person_until_none_is_left() -> None:
    history = ran(pool_of(), cycles=9)
    assert [len(row.picked) for row in history.rows] == [0, 2, 1]  # and then there is none
    assert history.rows[-1].images == 9 and history.pending == ()
    for image_id in ("100", "101", "102"):
        target = history.pool.target(image_id)
        if int(image_id) % 2:
            assert rows(target) == [(RIGHT, 3, "human")] and len(target.negatives) == 0
        else:
            assert len(target) == 0 and target.negatives.tolist() == [list(RIGHT)]
    assert history.rows[-1].boxes == 10
    assert {name for i in history.pool.ids for name in history.pool.target(i).origin} == {"human"}


def test_it_trains_on_all_images_from_where_it_is() -> None:
    made = recipe(CONFIG)
    assert made.restart == "continue" and made.mine is None and made.alone
    assert list(made.trains_on(pool_of())) == list(pool_of().ids)
    assert made.train(pool_of()) == CONFIG.training()
    kept = replace(Target.unknown(), negatives=torch.tensor([LEFT]))
    pool = pool_of(complete=1, _101=DRAWN, _102=kept)
    assert list(recipe(replace(CONFIG, only="al")).trains_on(pool)) == informed(pool)
    assert informed(pool) == ["0", "101", "102"]
    history = ran(pool_of(), cycles=1)
    assert float(history.detector.weight.detach()) != 0


def test_the_switches() -> None:
    alone, asking = (recipe(replace(CONFIG, only=only)) for only in ("ssm", "al"))
    assert (alone.name, asking.name, recipe(CONFIG).name) == ("ssm_only", "al_only", "ssm")
    assert alone.query is None and asking.query is not None
    history = ran(pool_of(), replace(CONFIG, only="ssm"), cycles=2, oracle=None)
    assert [row.picked for row in history.rows] == [(), (), ()]
    only = ran(pool_of(), replace(CONFIG, only="al"), cycles=9)
    assert [len(row.picked) for row in only.rows] == [0, 2, 1]
    for taught in only.detector.taught:
        assert all(name == "human" for one in taught for name in one.origin)


def test_where_no_one_need_be_asked_it_trains_once() -> None:
    calm = Spotter(yellow=(0.8, 0.1))
    history = ran(pool_of(), detector=calm, cycles=5)
    assert [row.picked for row in history.rows] == [(), ()]  # the start, and one training
    assert float(history.detector.weight.detach()) != 0
    over = ran(pool_of(), replace(CONFIG, only="al"), detector=calm, cycles=5)
    assert [row.picked for row in over.rows] == [()]


def test_needs() -> None:
    assert recipe(CONFIG).needs == ("probs",)
    for way in ("regions", Way(batch=4, head=True)):
        assert recipe(replace(CONFIG, way=way)).needs == ("probs", "regions")
    flip = replace(CONFIG, way="regions", validation="flip")
    assert recipe(flip).needs == ("probs",)
    with pytest.raises(ValueError, match=r"needs a detector with regions"):
        ran(pool_of(), replace(CONFIG, way="regions"))


def test_books_are_kept_the_paper_s_way() -> None:
    start = pool_of()
    history = ran(start, cycles=9)
    kept = books(history, CONFIG)
    assert kept["annotated"] == pytest.approx([0.0, 100 * (history.rows[1].boxes - 9) / 9, 100 / 9])
    assert kept["pseudo"] == pytest.approx([300 / 9])  # the spots on the left
    only = replace(CONFIG, only="al")
    assert books(ran(start, only, cycles=9), only)["pseudo"] == [0.0]
    assert books(ran(pool_of(complete=0), CONFIG, cycles=1)) == {}


# a run that goes on


class StopError(RuntimeError):
    pass


@pytest.mark.parametrize("at", [1, 6])
def test_a_run_that_was_stopped_goes_on_to_the_same_end(tmp_path: Path, at: int) -> None:
    """Stopped in the middle of the first or of the second training."""
    pool = pool_of(unlabelled=5)
    config = replace(CONFIG, per_class=1)
    whole = ran(pool, config, cycles=2)
    left = [at]

    def cut(*_: Any) -> None:
        left[0] -= 1
        if left[0] == -1:
            raise StopError

    made = recipe(config, watch=cut)
    given: dict[str, Any] = {"oracle": Simulated(truth_of(pool)), "budget": 2, "cycles": 2}
    given |= {"seed": 0, "progress": False, "run_dir": tmp_path, "every_s": 0}
    with pytest.raises(StopError):
        run(made, Spotter(), pool, **given)
    on = run(made, Spotter(), pool, **given)
    assert on.to_json() == whole.to_json()
    assert digest_weights(on.detector) == digest_weights(whole.detector)
    for image_id in pool.ids:
        assert rows(on.pool.target(image_id)) == rows(whole.pool.target(image_id))


def test_begin_is_called_with_what_training_starts_from() -> None:
    starts: list[float] = []

    class Begins:
        def begin(self, detector: Any, pool: Any, *, ids: Any, generator: Any) -> Any:
            starts.append(float(detector.weight.detach()))
            assert list(ids) == ["0", "1"] and len(pool) == 12
            return lambda detector, batch, *, generator: {"one": detector.weight + 1}

    def trained(steps: int, keeper: MemoryKeeper | None = None) -> Spotter:
        schedule, detector = TrainConfig(steps=steps, batch=1), Spotter()
        given: dict[str, Any] = {"ids": ["0", "1"], "step": Begins(), "progress": False}
        fit(detector, pool_of(), schedule, seed=0, keeper=keeper, **given)
        return detector

    whole = trained(3)
    keeper = MemoryKeeper(killed_at=2)
    with pytest.raises(Killed):
        trained(3, keeper)
    keeper.killed_at = None
    assert torch.equal(trained(3, keeper).weight, whole.weight)
    assert float(whole.weight.detach()) != 0
    assert starts == [0.0] * 3
    trained(0)
    assert starts == [0.0] * 3


def test_a_cycle_with_a_detector_that_learns(tmp_path: Path) -> None:
    hidden = make_scenes(6, seed=5, size=64)
    pool = unlabelled(hidden, keep=3, seed=0)
    detector = fast_rcnn(
        hidden.classes, proposer=Grid(sizes=(0.3, 0.5)), size=64, width=16, prior=0.4, most=8
    )
    config = replace(
        CONFIG, way="packed_regions", min_score=0.2, positive_at=0.3, steps=2, images=2
    )
    given = {"oracle": Simulated(hidden), "budget": 3, "cycles": 1, "seed": 0, "unit": "boxes"}
    histories = [
        run(recipe(config), detector, pool, progress=False, run_dir=where, **given)  # type: ignore[arg-type]
        for where in (None, tmp_path, tmp_path)
    ]
    first = histories[0]
    assert len(first.rows) == 2 and 0 < len(first.rows[1].picked) <= 3
    assert any(
        len(first.pool.target(i)) + len(first.pool.target(i).negatives)
        for i in first.rows[1].picked
    )
    assert len({one.to_json() for one in histories}) == 1
    assert len({digest_weights(one.detector) for one in histories}) == 1
    assert digest_weights(first.detector) != digest_weights(detector)
    assert math.isfinite(books(first, config)["pseudo"][0])


# the config


def test_the_paper_s_numbers() -> None:
    config = Config()
    assert (config.pace, config.per_class, config.images, config.min_iou, config.per_cycle) == (
        *(0.9, 500, 5),
        *(0.5, 100),
    )
    assert (config.min_positive, config.way, config.validation) == (2, "single", "paste")
    assert Config.toy().per_class < 500


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("per_class", 0, "per_class = 0"),
        ("per_cycle", 2.5, "per_cycle = 2.5"),
        ("images", 0, "images = 0"),
        ("min_positive", 0, "min_positive = 0"),
        ("only", "both", "only = 'both': use 'ssm', 'al'"),
        ("validation", "turn", "validation.*paste"),
        ("way", "fast", "way.*single"),
        ("average", "sum", "average.*matched"),
        ("edge", "soft", "edge.*hard"),
        ("pace", 0.0, "pace = 0.0"),
        ("min_iou", 1.5, "min_iou = 1.5"),
        ("min_consistency", 0, "min_consistency = 0"),
        ("max_fraction", -1, "max_fraction = -1"),
        ("positive_at", 1.0, "positive_at = 1.0"),
        ("min_score", -0.1, "min_score = -0.1"),
        ("batch", 0, "batch = 0"),
    ],
)
def test_a_config_that_makes_no_sense(field: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(Config(), **{field: value})
