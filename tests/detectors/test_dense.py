"""The per-pixel detector: its loss, its maps, its boxes, and what it refuses."""

from __future__ import annotations

from math import exp, log1p

import pytest
import torch
from torch import Tensor

from almining.boxes import iou
from almining.data.pool import Pool
from almining.detectors.base import Detector, offers
from almining.detectors.dense import Dense, dense
from almining.detectors.dense_boxes import assign, scaled
from almining.detectors.dense_parts import LAYOUTS, drop_channels
from almining.records import Target
from almining.rng import generator
from almining.train import TrainConfig, fit
from tests.fakes import boxes, labels, target

BOXES = ((240, 120), (180, 90), (120, 60), (90, 45), (60, 30))


def make(classes: int = 1, *, warm: bool = True, **options: object) -> Dense:
    """A tiny detector that is no blank: its logits differ from pixel to pixel."""
    made = dense(["person", "car"][:classes], **({"boxes": BOXES} | options))
    if warm:
        torch.nn.init.normal_(made.network.logits.weight, generator=generator(0, "weights"))
    return made


def image(height: int = 48, width: int = 64, *, seed: int = 0) -> Tensor:
    return torch.rand(3, height, width, generator=generator(seed, "image"))


def flat(value: float, *, classes: int = 1, **options: object) -> Dense:
    """A detector whose logits are the same everywhere."""
    made = make(classes, **options)
    torch.nn.init.zeros_(made.network.logits.weight)
    torch.nn.init.constant_(made.network.logits.bias, value)
    return made


def loss(detector: Detector, images: list[Tensor], targets: list[Target], seed: int = 0) -> Tensor:
    (found,) = detector.losses(images, targets, generator=generator(seed, "loss")).values()
    return found


def softplus(value: float) -> float:
    return log1p(exp(value))


KNOWN = target((10, 10, 20, 30))


def test_loss_by_hand() -> None:
    # few positive pixels, so that there are 15 x 100 negatives; -ln p and -ln (1 - p) by hand
    positive = int((assign(KNOWN, scaled(BOXES, 48), (48, 64), 1) == 1).sum())
    assert 0 < positive < 100
    wanted = (positive * softplus(-0.5) + 1500 * softplus(0.5)) / (positive + 1500)
    found = loss(flat(0.5), [image()], [KNOWN])
    assert found.requires_grad and float(found.detach()) == pytest.approx(wanted, rel=1e-5)


def test_loss_with_many_positives_and_another_ratio() -> None:
    many, size = target((10, 5, 200, 395)), (400, 400)
    positive = int((assign(many, scaled(BOXES, 400), size, 1) == 1).sum())
    assert positive > 1000
    wanted = (softplus(-0.5) + 3 * softplus(0.5)) / 4
    found = loss(flat(0.5, negatives=3), [image(*size)], [many])
    assert float(found.detach()) == pytest.approx(wanted, rel=1e-5)


def test_the_ratio_is_that_of_a_batch() -> None:
    """One image with objects and one without: negatives come from both, positives from one."""
    targets = [KNOWN, target()]
    positive = int((assign(KNOWN, scaled(BOXES, 48), (48, 64), 1) == 1).sum())
    wanted = (positive * softplus(-1) + 1500 * softplus(1)) / (positive + 1500)
    found = loss(flat(1.0), [image(), image(48, 80)], targets)
    assert float(found.detach()) == pytest.approx(wanted, rel=1e-5)


def test_what_is_not_known_to_be_background_is_not() -> None:
    one = flat(0.5)
    for nothing in (Target.unknown(), Target.unknown(tags={1})):
        found = loss(one, [image()], [nothing])
        assert float(found.detach()) == 0
        found.backward()
        assert not one.network.logits.bias.grad.any()
    sparse = target((10, 10, 20, 30), complete=False)
    assert float(loss(one, [image()], [sparse]).detach()) == pytest.approx(softplus(-0.5))
    absent = Target.unknown(tags=())
    assert float(loss(one, [image()], [absent]).detach()) == pytest.approx(softplus(0.5))
    mixed = loss(one, [image(), image(seed=1)], [sparse, Target.unknown()])
    assert float(mixed.detach()) == pytest.approx(softplus(-0.5))


def test_an_ignored_box_over_everything_leaves_nothing_to_learn() -> None:
    crowd = Target(boxes((0, 0, 64, 48)), labels(1), ignore=torch.tensor([True]))
    assert float(loss(make(), [image()], [crowd]).detach()) == 0
    # another class is not concerned
    found = loss(flat(0.5, classes=2), [image()], [crowd])
    assert float(found.detach()) == pytest.approx(softplus(0.5))


def test_loss_is_a_function_of_the_generator() -> None:
    before = torch.get_rng_state()
    one = make()
    values = [float(loss(one, [image()], [KNOWN], seed).detach()) for seed in (0, 0, 1)]
    assert values[0] == values[1] != values[2]
    assert torch.equal(torch.get_rng_state(), before)


def test_mirrored_images_have_the_loss_of_mirrored_maps() -> None:
    """With a symmetric network: logits the same everywhere, so only targets and draws count."""
    one, moved = flat(0.3), target((44, 10, 54, 30))
    found = [
        float(loss(one, [x], [t]).detach()) for x, t in ((image(), KNOWN), (image().flip(2), moved))
    ]
    assert found[0] == pytest.approx(found[1])


def test_maps() -> None:
    one = make(2).train()
    maps = one.dense([image(), image(33, 47)])
    assert [tuple(each.shape) for each in maps] == [(10, 48, 64), (10, 33, 47)]
    for each in maps:
        assert each.dtype == torch.float32 and not each.requires_grad
        assert 0 <= each.min() < each.max() <= 1
    assert one.training and one.network.training
    assert torch.equal(one.eval().dense([image()])[0], maps[0])  # as in evaluation in any mode
    assert one.dense([]) == [] and one.detect([]) == []


def test_rows_are_boxes_first_then_classes() -> None:
    one = flat(0.0, classes=2)
    torch.nn.init.constant_(one.network.logits.bias[1:], 3.0)
    (maps,) = one.dense([image()])
    means = maps.mean(dim=(1, 2)).tolist()
    assert means == pytest.approx([0.5, 1 / (1 + exp(-3.0))] * 5)


def test_an_untrained_map_says_what_the_loss_leads_one_to_expect() -> None:
    one = make(warm=False)
    torch.nn.init.zeros_(one.network.logits.weight)
    assert float(one.dense([image()])[0].mean()) == pytest.approx(1 / 16)


def test_an_image_does_not_depend_on_its_neighbours() -> None:
    one = make()
    images = [image(seed=1), image(40, 50, seed=2), image(seed=3), image(17, 90, seed=4)]
    together, found = one.dense(images), one.detect(images)
    for each, maps, seen in zip(images, together, found, strict=True):
        assert torch.allclose(one.dense([each])[0], maps, atol=1e-6)
        (alone,) = one.detect([each])
        assert torch.allclose(alone.scores[:5], seen.scores[:5], atol=1e-6) and len(alone) > 5
        assert torch.equal(alone.boxes[0], seen.boxes[0])


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (70, 1), (5, 3), (31, 33)])
def test_small_images(size: tuple[int, int]) -> None:
    one = make()
    (maps,) = one.dense([image(*size)], mirrored=True)
    assert maps.shape == (5, *size) and maps.isfinite().all()
    whole = target((0, 0, size[1], size[0]))
    found = loss(one, [image(*size)], [whole])
    found.backward()
    assert found.isfinite() and found > 0
    assert all(p.grad is None or p.grad.isfinite().all() for p in one.parameters())
    (seen,) = one.detect([image(*size)])
    assert len(seen) == 0 or (seen.boxes[:, 2:].amax(dim=0) <= torch.tensor(size[::-1])).all()


def test_images_are_padded_with_grey_at_the_bottom_and_at_the_right() -> None:
    one, x = make(), image(33, 47)
    grey = torch.full((3, 36, 48), 0.5)
    grey[:, :33, :47] = x
    (wanted,) = one.dense([grey])
    assert torch.allclose(one.dense([x])[0], wanted[:, :33, :47], atol=1e-6)


def test_looking_twice_is_the_mean_of_an_image_and_its_mirror_image() -> None:
    one, x = make(2), image(48, 61)
    (here,), (there,) = one.dense([x]), one.dense([x.flip(2)])
    (twice,) = one.dense([x], mirrored=True)
    assert torch.allclose(twice, (here + there.flip(2)) / 2, atol=1e-6)
    assert torch.equal(one.dense([x.flip(2)], mirrored=True)[0].flip(2), twice)
    always = make(2, mirrored=True)
    assert torch.equal(always.dense([x])[0], twice)
    assert torch.equal(always.dense([x], mirrored=False)[0], here)
    assert torch.equal(always.detect([x])[0].scores, one.detect([x], mirrored=True)[0].scores)


def test_detections_are_pixels_of_the_maps() -> None:
    one, x = make(2), image()
    (found,), (maps,) = one.detect([x]), one.dense([x])
    assert len(found) > 3 and found.scores.tolist() == sorted(found.scores.tolist(), reverse=True)
    assert float(found.scores[0]) == float(maps.max())
    rows = torch.arange(len(found))
    assert torch.equal(found.probs[rows, found.labels], found.scores)
    assert torch.allclose(found.probs[:, 0], 1 - found.probs[:, 1:].amax(dim=1))


def test_dropout_passes() -> None:
    one, images = make(), [image(), image(40, 50)]
    before = torch.get_rng_state()
    plain = one.dense(images)
    asked = {"dropout": 0.5, "generator": generator(0, "passes")}
    passes = list(one.passes(images, 30, **asked))
    assert len(passes) == 30 and not torch.equal(passes[0][0], passes[1][0])
    first = one.dense(images, dropout=0.5, generator=generator(0, "passes"))
    assert all(torch.equal(a, b) for a, b in zip(first, passes[0], strict=True))
    again = list(one.passes(images, 30, **(asked | {"generator": generator(0, "passes")})))
    assert torch.equal(again[29][1], passes[29][1])
    assert torch.equal(torch.get_rng_state(), before)
    (nothing,) = one.passes(images, 1, dropout=0.0, generator=generator(0, "passes"))
    assert torch.equal(nothing[0], plain[0])
    spread = [
        torch.stack([maps[0] for maps in one.passes(images, 20, dropout=rate, **source)]).std(dim=0)
        for rate, source in (
            (0.1, {"generator": generator(1, "passes")}),
            (0.5, {"generator": generator(1, "passes")}),
        )
    ]
    assert 0 < spread[0].mean() < spread[1].mean()


def test_channels_are_dropped_in_training() -> None:
    small, empty = image(12, 12), target()  # of so few pixels that none is left out by chance
    for rate, many in ((0.0, 1), (0.5, 4)):
        one = make(dropout=rate)
        assert len({float(loss(one, [small], [empty], n).detach()) for n in range(4)}) == many


def test_dropped_channels_are_made_up_for() -> None:
    x = torch.ones(50, 40, 2, 3)
    found = drop_channels(x, 0.25, generator(0, "drop"))
    values = found.flatten(2)
    assert torch.equal(values.amin(dim=2), values.amax(dim=2))  # whole channels
    kept = float((found > 0).float().mean())
    assert kept == pytest.approx(0.75, abs=0.03) and found.max() == pytest.approx(1 / 0.75)


def test_what_it_offers() -> None:
    one = make()
    assert offers(one, "dense") and offers(one, "embed") and not offers(one, "regions")
    images = [image(), image(40, 50), image(seed=2)]
    vectors = one.embed(images)
    assert vectors.shape == (3, 5 * 24) and one.embed([]).shape == (0, 120)
    assert torch.allclose(one.embed(images[1:2]), vectors[1:2], atol=1e-6)


@pytest.mark.parametrize("size", LAYOUTS)
def test_layouts(size: str) -> None:
    one = dense(["person"], size=size)
    features = one.network(torch.zeros(1, 3, 64, 64))
    fine = 4 if size == "paper" else 2
    stride = 8 if size == "paper" else 4
    assert [64 // x.shape[2] for x in features] == [stride] * 4 + [fine]
    assert len({x.shape[1] for x in features}) == 1  # one layer of logits for all
    assert one.network.logits.out_channels == 1
    counts = [sum(p.numel() for p in dense(["a"], size=name).parameters()) for name in LAYOUTS]
    assert counts == sorted(counts)


def test_the_seed_gives_the_weights() -> None:
    before = torch.get_rng_state()
    made = [dense(["person"], seed=seed).state_dict() for seed in (0, 0, 1)]
    same = [torch.equal(made[0][name], made[1][name]) for name in made[0]]
    assert all(same) and torch.equal(torch.get_rng_state(), before)
    name = "network.first.convolve.weight"
    assert not torch.equal(made[0][name], made[2][name])


class Blocks:
    """Images of noise with an upright block: red for class 1, blue for class 2."""

    def load(self, image_id: str) -> Tensor:
        picture = image(seed=int(image_id)) * 0.3
        picture[2 * (int(image_id) % 2), 12:36, 10:22] = 1.0
        return picture


def test_it_learns_two_classes() -> None:
    known = {str(n): target((10, 12, 22, 36), label=1 + n % 2) for n in range(4)}
    pool = Pool(("red", "blue"), known, Blocks())
    one = make(2)
    config = TrainConfig(50, 4, 3e-3, "rmsprop", schedule="exponential", warmup=0.1)
    values = fit(one, pool, config, seed=0, progress=False)
    assert values[-1]["logistic"] < 0.3 * values[0]["logistic"]
    for image_id in pool.ids:
        (found,) = one.detect([pool.image(image_id)], mirrored=True)
        assert found.labels[0] == pool.target(image_id).labels[0] and found.scores[0] > 0.5
        assert float(iou(found.boxes[:1], pool.target(image_id).boxes)) > 0.5


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"size": "huge"}, "size = 'huge' is not known; use one of tiny, small, paper"),
        ({"boxes": BOXES[:4]}, "5 default boxes"),
        ({"boxes": [(0, 3)] * 5}, "above 0"),
        ({"boxes": [(4, 3, 2)] * 5}, r"\(height, width\)"),
        ({"boxes": [(float("nan"), 3)] * 5}, "above 0"),
        ({"negatives": 0}, "negatives = 0"),
        ({"dropout": 1.0}, "dropout = 1.0"),
    ],
)
def test_rejected_options(options: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make(**options)


def test_rejected_inputs() -> None:
    one = make()
    with pytest.raises(ValueError, match=r"images\[1\] is not finite"):
        one.dense([image(), image() * float("nan")])
    with pytest.raises(ValueError, match=r"labels reach 2"):
        loss(one, [image()], [target((1, 1, 9, 9), label=2)])
    with pytest.raises(ValueError, match=r"2 images but 1 targets"):
        loss(one, [image(), image()], [KNOWN])
    with pytest.raises(ValueError, match=r"dropout = 0.5 draws at random; give a generator"):
        one.dense([image()], dropout=0.5)
    with pytest.raises(ValueError, match=r"dropout = -0.1"):
        one.dense([image()], dropout=-0.1)
    torch.nn.init.constant_(one.network.logits.bias, float("nan"))
    for call in (one.dense, one.detect, lambda x: loss(one, x, [KNOWN])):
        with pytest.raises(FloatingPointError, match="logits are not finite"):
            call([image()])
