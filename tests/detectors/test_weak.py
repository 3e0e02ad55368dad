"""MIST as a detector: trained from tags or boxes, asked about images and regions."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from almining.boxes import iou
from almining.data.proposals import Grid, SelectiveSearch
from almining.data.segments import Segments
from almining.detectors.mist_boxes import assign as assigned
from almining.detectors.mist_boxes import (
    pseudo_boxes,
    refinement_losses,
    region_scores,
    strong,
    tag_loss,
)
from almining.detectors.weak import Mist, mist
from almining.records import Target
from almining.rng import forked, generator
from tests.fakes import boxes, target

CLASSES = ("a", "b", "c")
CPU = torch.device("cpu")
TAGGED = Target.unknown(tags={1, 3})
GRID = Grid(sizes=(0.25, 0.5), ratios=(1.0,))


class Fixed:
    """Proposes the same boxes for any image."""

    def __init__(self, *rows: tuple[float, float, float, float]) -> None:
        self.boxes = boxes(*rows)
        self.key = f"fixed {rows}"

    def __call__(self, image: Tensor) -> Tensor:
        return self.boxes


def make(proposer=GRID, **options) -> Mist:
    return mist(CLASSES, proposer=proposer, **({"seed": 1} | options))


@pytest.fixture(scope="module")
def detector() -> Mist:
    return make().eval()


@pytest.fixture(scope="module")
def image() -> Tensor:
    return torch.rand(3, 128, 160, generator=generator(0, "image"))


def losses(detector: Mist, images, targets, **options) -> dict[str, float]:
    with forked(0, CPU):
        found = detector.losses(images, targets, generator=generator(0), **options)
    return {name: float(value.detach()) for name, value in found.items()}


def total(detector: Mist, images, targets) -> Tensor:
    with forked(0, CPU):
        return sum(detector.losses(images, targets, generator=generator(0)).values())


def test_losses_are_those_of_the_equations(detector: Mist, image: Tensor) -> None:
    found = losses(detector, [image], [TAGGED], training=False)
    regions = GRID(image)
    with torch.no_grad():
        (seen,) = detector._look([image], [regions], 128, None)
    source = region_scores(seen.classify, seen.detect)
    assert found.pop("mil") == pytest.approx(float(tag_loss(source, TAGGED)))
    for k in range(3):
        wanted = assigned(regions, pseudo_boxes(regions, source, frozenset({1, 3})))
        expected = refinement_losses(seen.logits[k], seen.deltas[k], regions, wanted)
        assert found.pop(f"cls{k + 1}") == pytest.approx(float(expected[0]))
        assert found.pop(f"reg{k + 1}") == pytest.approx(float(expected[1]))
        source = seen.logits[k].softmax(dim=1)[:, 1:]
    assert not found


def test_losses_of_a_batch_are_the_mean_over_its_images(detector: Mist, image: Tensor) -> None:
    other = image.flip(2) * 0.5
    known = [TAGGED, target((20, 20, 60, 60), label=2)]
    together = losses(detector, [image, other], known, training=False)
    alone = [
        losses(detector, [one], [what], training=False)
        for one, what in zip((image, other), known, strict=True)
    ]
    for name, value in together.items():
        assert value == pytest.approx(sum(one[name] for one in alone) / 2, rel=1e-4)


def test_the_first_heads_weight_is_an_option_and_for_pseudo_boxes_only(image: Tensor) -> None:
    plain, heavy = make(), make(first_weight=3.0)
    for known, factor in ((TAGGED, 3), (target((20, 20, 60, 60), label=2), 1)):
        one, other = (losses(d, [image], [known], training=False) for d in (plain, heavy))
        assert other["cls1"] == pytest.approx(factor * one["cls1"], rel=1e-5)
        assert other["cls2"] == pytest.approx(one["cls2"], rel=1e-5)
        assert other["mil"] == pytest.approx(one["mil"], rel=1e-5)


def test_true_boxes_replace_pseudo_boxes_where_an_image_is_complete(image: Tensor) -> None:
    two = make(Fixed((10, 10, 60, 60), (90, 90, 120, 120)), strong_proposals=None)
    known = target((10, 10, 60, 60), label=2)
    found = losses(two, [image], [known], training=False)
    with torch.no_grad():
        (seen,) = two.eval()._look([image], [two.proposer(image)], 128, None)
    for k in range(3):
        chosen = seen.logits[k].log_softmax(dim=1)
        assert found[f"cls{k + 1}"] == pytest.approx(-float(chosen[0, 2] + chosen[1, 0]) / 2)
    as_tags = losses(two, [image], [Target.unknown(tags={2})], training=False)
    assert as_tags["mil"] == pytest.approx(found["mil"]) and as_tags["cls2"] != found["cls2"]


def test_hardest_negatives_are_those_the_heads_take_for_objects(image: Tensor) -> None:
    known, regions = target((20, 20, 60, 60), label=2), GRID(image)
    one, drawing = make(strong_proposals=12), make(strong_proposals=12, hardest=False)
    with torch.no_grad():
        (seen,) = one.eval()._look([image], [regions], 128, None)
    hardness = (sum(seen.logits) / 3).softmax(dim=1)[:, 1:].amax(dim=1)
    negative = iou(regions, known.boxes)[:, 0] <= 0.3
    rows, wanted = strong(regions, seen.logits, known, one.rules, generator=generator(0))
    picked = rows[wanted.labels == 0]
    left = [row for row in negative.nonzero()[:, 0].tolist() if row not in picked.tolist()]
    assert len(rows) == 12 and left and hardness[picked].min() >= hardness[left].max()
    plain, _ = strong(regions, seen.logits, known, drawing.rules, generator=generator(0))
    assert sorted(plain.tolist()) != sorted(rows.tolist()) and len(plain) == 12


def test_ignored_boxes_are_neither_positive_nor_negative(image: Tensor) -> None:
    crowd = target((0, 0, 160, 128), label=2, ignore=torch.tensor([True]))
    for count in (None, 512):
        found = losses(make(strong_proposals=count), [image], [crowd], training=False)
        assert found["mil"] > 0
        assert all(value == 0 for name, value in found.items() if name != "mil")


def test_detections_are_the_mean_of_the_heads(detector: Mist, image: Tensor) -> None:
    (found,) = detector.detect([image])
    (asked,) = detector.regions([image], [GRID(image)])
    assert 0 < len(found) <= 100 and found.probs is not None and found.features is not None
    assert found.probs.shape == (len(found), 4) and found.features.shape == (len(found), 256)
    assert torch.allclose(found.probs.sum(dim=1), torch.ones(len(found)), atol=1e-5)
    assert torch.equal(found.probs[torch.arange(len(found)), found.labels], found.scores)
    assert (found.scores.diff() <= 0).all()
    same = (found.features[:, None] == asked.features).all(dim=2)  # each belongs to a proposal
    assert same.any(dim=1).all()
    with torch.no_grad():
        (seen,) = detector._look([image], [GRID(image)], 128, None)
    assert torch.allclose(asked.probs, sum(one.softmax(dim=1) for one in seen.logits) / 3)


def test_boxes_are_moved_by_the_mean_regression_of_their_class(image: Tensor) -> None:
    one = make(Fixed((20, 20, 60, 60)), min_score=0.0)
    for number, head in enumerate(one.refine):  # class 2 moves right by a mean of 0.2 widths
        torch.nn.init.zeros_(head.regress.weight)
        head.regress.bias.data = torch.tensor([0.0] * 4 + [number + 1.0, 0, 0, 0] + [0.0] * 4)
    (found,) = one.detect([image])
    by_class = {int(label): box for label, box in zip(found.labels, found.boxes, strict=True)}
    assert by_class[2].tolist() == pytest.approx([28, 20, 68, 60], abs=1e-3)
    assert by_class[1].tolist() == pytest.approx([20, 20, 60, 60], abs=1e-3)


def test_at_most_so_many_detections_above_a_score(image: Tensor) -> None:
    (few,) = make(most=5).detect([image])
    assert len(few) == 5
    (none,) = make(min_score=0.99).detect([image])
    assert len(none) == 0 and none.probs.shape == (0, 4) and none.features.shape == (0, 256)


def test_the_order_of_proposals_does_not_matter(image: Tensor) -> None:
    rows = GRID(image)[torch.randperm(len(GRID(image)), generator=generator(5))].tolist()
    one, other = make(), make(Fixed(*rows))
    a, b = (losses(d, [image], [TAGGED], training=False) for d in (one, other))
    assert a == pytest.approx(b, rel=1e-4)
    (found,), (again,) = one.detect([image]), other.detect([image])
    assert torch.allclose(found.scores, again.scores, atol=1e-5)


def test_batched_is_single_whatever_the_sizes(detector: Mist, image: Tensor) -> None:
    small = torch.rand(3, 96, 128, generator=generator(3))
    for images in ([image, image.flip(1)], [image, small]):
        for together, one in zip(detector.detect(images), images, strict=True):
            (alone,) = detector.detect([one])
            assert torch.allclose(together.boxes, alone.boxes, atol=1e-3)
            assert torch.allclose(together.scores, alone.scores, atol=1e-5)
        vectors = detector.embed(images)
        assert torch.allclose(vectors[1], detector.embed(images[1:])[0], atol=1e-5)
    assert detector.detect([]) == detector.regions([], []) == [] and len(detector.embed([])) == 0


def test_regions_gives_what_was_asked_in_order(detector: Mist, image: Tensor) -> None:
    asked = boxes((0, 0, 160, 128), (10, 10, 60, 60), (3, 3, 3, 3), (10, 10, 60, 60))
    whole, nothing = detector.regions([image, image], [asked, torch.zeros(0, 4)])
    assert torch.equal(whole.boxes, asked) and len(nothing) == 0
    assert nothing.probs.shape == (0, 4) and nothing.features.shape == (0, 256)
    best, label = whole.probs[:, 1:].max(dim=1)
    assert torch.equal(whole.scores, best) and torch.equal(whole.labels, label + 1)
    assert torch.allclose(whole.probs[1], whole.probs[3]) and whole.probs.isfinite().all()
    assert not torch.allclose(whole.probs[0], whole.probs[1], atol=1e-6)


def test_boxes_come_back_in_the_images_own_pixels() -> None:
    picture = torch.rand(3, 300, 500, generator=generator(1))
    (found,) = make().detect([picture])
    assert float(found.boxes[:, 2].max()) <= 500 and float(found.boxes[:, 3].max()) <= 300
    assert float(found.boxes[:, 2].max()) > 250
    asked = boxes((50, 40, 300, 200), (400, 10, 480, 290))
    small = torch.nn.functional.interpolate(picture[None], (128, 213), mode="bilinear")[0]
    scale = torch.tensor([213 / 500, 128 / 300] * 2)
    (large,), (same,) = (
        make().regions([i], [b]) for i, b in ((picture, asked), (small, asked * scale))
    )
    assert torch.allclose(large.features, same.features, atol=1e-4)
    assert large.boxes.tolist() == asked.tolist()
    limited = make(max_size=128)._resized(picture, 128)
    assert limited.shape == (3, 77, 128)


def test_several_sizes_are_averaged(detector: Mist, image: Tensor) -> None:
    one = make(Fixed((20, 20, 60, 60)), min_score=0.0)
    (small,), (large,), (both,) = (one.detect([image], sizes=s) for s in ((96,), (160,), (96, 160)))
    mean = (small.probs[0] + large.probs[0]) / 2
    assert torch.allclose(both.probs[0], mean) and not torch.allclose(small.probs[0], mean)
    assert torch.allclose(both.features[0], (small.features[0] + large.features[0]) / 2, atol=1e-6)
    (usual,), (same,) = detector.detect([image]), detector.detect([image], sizes=(128, 128))
    assert torch.allclose(usual.scores, same.scores)


def test_a_step_looks_at_some_proposals_and_evaluation_at_all(image: Tensor) -> None:
    some = make(train_proposals=10)
    looked = []
    look = some._look
    some._look = lambda images, given, *rest: (
        looked.append(len(given[0])) or look(images, given, *rest)
    )
    losses(some, [image], [TAGGED])
    losses(some, [image], [TAGGED], training=False)
    assert looked == [10, len(GRID(image))]
    rows = some._some(GRID(image), generator(7))
    assert torch.equal(rows, some._some(GRID(image), generator(7)))
    assert not torch.equal(rows, some._some(GRID(image), generator(8)))


def test_losses_as_in_evaluation_change_nothing_and_do_not_depend_on_chance(image: Tensor) -> None:
    one = make(drop_block=True).train()
    before = {name: value.clone() for name, value in one.state_dict().items()}
    values = [
        one.losses([image], [TAGGED], generator=generator(seed), training=False)["cls3"].detach()
        for seed in range(2)
    ]
    assert torch.equal(*values) and one.training
    assert all(torch.equal(value, before[name]) for name, value in one.state_dict().items())
    trained = [losses(one, [image], [TAGGED])["cls3"] for _ in range(2)]
    assert trained[0] != pytest.approx(float(values[0]), rel=1e-6)


@pytest.mark.parametrize("frozen", [True, False])
def test_batch_normalisation_stays_as_it_is_where_asked(image: Tensor, frozen: bool) -> None:
    one = make(frozen_norm=frozen)
    norm = one.backbone.stem[1]
    before = norm.running_mean.clone()
    losses(one, [image], [TAGGED])
    assert torch.equal(norm.running_mean, before) == frozen and one.backbone.training


def test_standardised_features_have_mean_zero_for_the_heads_and_stay_for_others(
    image: Tensor,
) -> None:
    one, plain = make(), make()
    one.standardise(picture for picture in (image, image.flip(2)))  # never all at once
    (found,), (same,) = (d.regions([image], [GRID(image)]) for d in (one, plain))
    assert torch.equal(found.features, same.features)
    heard = (found.features - one.center) / one.spread
    expected = sum(head(heard)[0].softmax(dim=1) for head in one.refine) / 3
    assert torch.allclose(found.probs, expected, atol=1e-5)
    assert not torch.allclose(found.probs, same.probs, atol=1e-6)
    rows = torch.cat([d.features for d in plain.regions([image, image.flip(2)], [GRID(image)] * 2)])
    seen = (rows - one.center) / one.spread
    spread = rows.std(dim=0)
    assert seen.mean(dim=0).abs().max() < 1e-3 and spread.max() > 1e-3
    assert torch.allclose(seen.std(dim=0), spread / (spread + 1e-3), atol=1e-3)  # a dead one: 0
    assert {"center", "spread"} <= set(one.state_dict())


def test_the_same_seed_the_same_detector() -> None:
    a, b, c = (make(seed=seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not torch.equal(a["classify.weight"], c["classify.weight"])


def test_learns_from_tags_alone_what_is_there() -> None:
    places = [(x, y) for x in (0, 20, 40) for y in (0, 20, 40)]
    here = Fixed(*[(x, y, x + 20, y + 20) for x, y in places])
    one = mist(["bright", "dark"], proposer=here, dropout=(0.0, 0.0), size=64, width=64)
    pictures, known = [], []
    for number, (x, y) in enumerate(places[::2]):
        picture = torch.full((3, 64, 64), 0.4)
        picture[:, y : y + 20, x : x + 20] = number % 2
        pictures.append(picture)
        known.append(Target.unknown(tags={2 - number % 2}))
    optimizer = torch.optim.AdamW(one.parameters(), 3e-3)
    for step in range(20):
        optimizer.zero_grad()
        sum(one.losses(pictures, known, generator=generator(step)).values()).backward()
        optimizer.step()
    found = one.regions(pictures, [here.boxes] * 5)
    assert [int(each.labels[each.scores.argmax()]) for each in found] == [2, 1, 2, 1, 2]


def test_diverged_weights_do_not_look_like_an_empty_image(image: Tensor) -> None:
    diverged = make()
    torch.nn.init.constant_(diverged.refine[0].classify.weight, torch.nan)
    with pytest.raises(FloatingPointError, match="not finite; the weights have diverged"):
        diverged.detect([image])


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda d: d.detect([torch.zeros(1, 8, 8)]), r"images\[0\] must be a float32 tensor"),
        (lambda d: d.detect([torch.zeros(3, 8, 8)], sizes=()), "sizes is empty"),
        (lambda d: d.detect([torch.zeros(3, 8, 8)], sizes=(0,)), "sizes = 0 must be a whole"),
        (lambda d: d.regions([torch.zeros(3, 8, 8)], []), "1 images but boxes for 0"),
        (lambda d: d.losses([], [], generator=generator(0)), "0 images but 0 targets"),
        (
            lambda d: d.losses(
                [torch.zeros(3, 64, 64)], [Target.unknown(tags={9})], generator=generator(0)
            ),
            r"targets\[0\].tags = \[9\], but the detector knows 3 classes",
        ),
        (
            lambda d: make("edges"),
            "proposer = 'edges': use one of grid, segments, selective_search",
        ),
        (lambda d: make(imagenet=True), "imagenet = True needs backbone = 'vgg16', not 'tiny'"),
        (lambda d: mist(["only"]), "one class: Eq. 6 compares classes, so at least two"),
        (lambda d: make(prior=1.0), "prior = 1.0: a probability above 0 and below 1"),
        (lambda d: make(heads=0), "heads = 0 must be a whole number of at least 1"),
        (lambda d: make(size=0), "size = 0 must be a whole number of at least 1"),
        (
            lambda d: make(dropout=(0.5, 1.0)),
            r"dropout = \(0.5, 1.0\): two numbers of 0 or more, below 1",
        ),
        (
            lambda d: make(lambda image: torch.zeros(2, 5)).detect([torch.zeros(3, 64, 64)]),
            r"proposals of images\[0\] must have shape \(n, 4\)",
        ),
    ],
)
def test_rejected(detector: Mist, call, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        call(detector)


def test_proposers_by_name() -> None:
    assert make("grid").proposer == Grid()
    assert make("segments").proposer == Segments()
    assert make("selective_search").proposer == SelectiveSearch()


def test_vgg16_end_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    from almining.detectors import weak

    asked = []
    monkeypatch.setattr(weak, "load_imagenet", lambda *parts: asked.append(parts))
    large = make(
        Fixed((0, 0, 30, 40), (20, 5, 60, 40)),
        backbone="vgg16",
        imagenet=True,
        width=8,
        size=48,
        drop_block=True,
        heads=2,
    )
    picture = torch.rand(3, 48, 64, generator=generator(0))
    found = losses(large, [picture], [TAGGED])
    assert set(found) == {"mil", "cls1", "reg1", "cls2", "reg2"} and len(asked) == 1
    assert len(large.detect([picture])) == 1 and large.embed([picture]).shape == (1, 512)
