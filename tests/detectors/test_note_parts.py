import math

import pytest
import torch
from torch.nn import functional
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.models.detection.roi_heads import fastrcnn_loss
from torchvision.models.detection.rpn import RPNHead as TorchvisionRPNHead

from almining.detectors.note_parts import (
    BoxPredictor,
    RPNHead,
    agreed_logits,
    agreed_scores,
    class_loss,
    distillation_loss,
    is_seed,
    mixed_head_loss,
    objectness_loss,
    step_loss,
)
from almining.papers import note_rcnn
from almining.records import Target
from almining.rng import generator
from tests import oracles
from tests.fakes import boxes, labels, target

# rows: background of a seed, object of a seed, background of a mined image, object of a mined one
LABELS, SEED = labels(0, 1, 0, 2), torch.tensor([True, True, False, False])


def some(seed: int, n: int = 9, c: int = 4) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    draws = generator(seed, "rows")
    logits = torch.randn(n, c, generator=draws)
    classes = torch.randint(0, c, (n,), generator=draws)
    object_, from_seed = torch.rand(2, n, generator=draws) < 0.6
    return logits, classes * object_, from_seed


def test_equation_2_by_hand() -> None:
    odds = torch.tensor([[1.0, 3.0, 6.0], [5.0, 4.0, 1.0], [7.0, 2.0, 1.0], [2.0, 0.0, 8.0]])
    logits = (odds + 1e-30).log()  # p of the row's own class: 0.1, 0.4, 0.7, 0.8
    whole = -math.log(0.1) - math.log(0.4) - math.log(0.8)
    assert float(mixed_head_loss(logits, LABELS, SEED)) == pytest.approx(whole / 4)
    plain = mixed_head_loss(logits, LABELS, SEED, mask_background=False)
    assert float(plain) == pytest.approx((whole - math.log(0.7)) / 4)
    assert note_rcnn.mixed_head_loss is mixed_head_loss


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("masked", [True, False])
def test_equation_2_as_loops_say(seed: int, masked: bool) -> None:
    logits, classes, from_seed = some(seed)
    wanted = oracles.masked_loss(
        logits.double().tolist(), classes.tolist(), from_seed.tolist(), masked
    )
    found = mixed_head_loss(logits, classes, from_seed, mask_background=masked)
    assert float(found) == pytest.approx(wanted, rel=1e-5)


def test_equation_2_sends_nothing_back_from_masked_rows() -> None:
    logits = torch.randn(4, 3, generator=generator(0)).requires_grad_()
    mixed_head_loss(logits, LABELS, SEED).backward()
    assert (logits.grad != 0).any(dim=1).tolist() == [True, True, False, True]


def test_equation_2_without_a_row_that_counts_is_zero_and_can_be_minimised() -> None:
    for rows in (0, 3):
        logits = torch.randn(rows, 3, generator=generator(0)).requires_grad_()
        loss = mixed_head_loss(logits, labels(*[0] * rows), torch.zeros(rows, dtype=torch.bool))
        loss.backward()
        assert float(loss.detach()) == 0 and not logits.grad.any()


def test_equation_2_does_not_depend_on_the_order_and_is_plain_on_seeds() -> None:
    logits, classes, from_seed = some(1)
    order = torch.randperm(len(logits), generator=generator(2))
    one = mixed_head_loss(logits, classes, from_seed)
    other = mixed_head_loss(logits[order], classes[order], from_seed[order])
    assert torch.allclose(one, other)
    seeds = mixed_head_loss(logits, classes, torch.ones_like(from_seed))
    assert torch.allclose(seeds, functional.cross_entropy(logits, classes))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((torch.zeros(4, 3), labels(0), SEED), r"\(4, 3\), \(1,\), \(4,\)"),
        ((torch.zeros(4), LABELS, SEED), r"give \(n, C \+ 1\)"),
        ((torch.zeros(4, 3), LABELS, SEED[:2]), r"\(2,\)"),
        ((torch.zeros(4, 3), LABELS, SEED.long()), "from_seed is torch.int64; give bool"),
    ],
)
def test_equation_2_refuses_what_does_not_fit(arguments, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        mixed_head_loss(*arguments)


@pytest.mark.parametrize("seed", range(3))
def test_equation_3_as_loops_say(seed: int) -> None:
    logits, _, _ = some(seed)
    probs = torch.randn(9, 4, generator=generator(seed, "probs")).softmax(dim=1)
    wanted = oracles.distilled_loss(logits.double().tolist(), probs.double().tolist())
    assert float(distillation_loss(logits, probs)) == pytest.approx(wanted, rel=1e-5)


def test_equation_3_by_hand_is_least_at_the_source_and_zero_without_proposals() -> None:
    probs = torch.tensor([[0.5, 0.25, 0.25], [1.0, 0.0, 0.0]])
    at = torch.tensor([[0.5, 0.25, 0.25], [0.5, 0.25, 0.25]]).log()
    by_hand = (0.5 * math.log(2) + 0.5 * math.log(4) + math.log(2)) / 2
    assert float(distillation_loss(at, probs)) == pytest.approx(by_hand)
    same = (probs + 1e-30).log().requires_grad_()
    distillation_loss(same, probs).backward()
    assert torch.allclose(same.grad, torch.zeros_like(same), atol=1e-6)
    assert float(distillation_loss(torch.zeros(0, 3), torch.zeros(0, 3))) == 0


def test_losses_of_all_rows_are_torchvisions() -> None:
    logits, classes, _ = some(4)
    every = torch.ones(9, dtype=torch.bool)
    steps, goals = (torch.randn(9, k, generator=generator(0, k)) for k in (16, 4))
    cls, reg = fastrcnn_loss(logits, steps, [classes], [goals])
    assert torch.allclose(class_loss(logits, classes, every), cls)
    assert torch.allclose(step_loss(steps.reshape(9, 4, 4), classes, goals, every), reg)
    scores, own = logits[:, 0], (classes > 0).float()
    wanted = functional.binary_cross_entropy_with_logits(scores, own)
    assert torch.allclose(objectness_loss(scores, own.long(), every), wanted)


def test_rows_that_do_not_count_add_nothing_and_are_divided_by() -> None:
    logits, classes, counts = some(5)[0], torch.arange(9) % 4, torch.arange(9) % 3 > 0
    steps, goals = torch.randn(2, 9, 4, generator=generator(0))
    own, none = (classes > 0).long(), torch.zeros_like(counts)
    share = int(counts.sum()) / 9
    for loss, rest in (
        (class_loss, lambda keep: (logits[keep], classes[keep])),
        (objectness_loss, lambda keep: (logits[keep][:, 0], own[keep])),
        (step_loss, lambda keep: (steps[keep][:, None], own[keep], goals[keep])),
    ):
        kept = torch.ones(int(counts.sum()), dtype=torch.bool)
        alone = loss(*rest(counts), kept)
        every = rest(torch.ones_like(counts))
        assert float(alone) > 0
        assert torch.allclose(loss(*every, counts), alone * share)
        assert float(loss(*every, none)) == 0
        assert float(loss(*rest(none), none[none])) == 0


def test_heads_agree_on_the_mean_probability() -> None:
    a, b = (torch.randn(5, 3, generator=generator(seed)) * 4 for seed in (0, 1))
    both = (a.softmax(dim=1) + b.softmax(dim=1)) / 2
    assert torch.allclose(agreed_logits(a, b).softmax(dim=1), both, atol=1e-6)
    (scores,) = agreed_scores([a], [b])
    assert torch.allclose(scores.sigmoid(), (a.sigmoid() + b.sigmoid()) / 2, atol=1e-6)
    assert agreed_logits(a, None) is a and agreed_scores([a], None)[0] is a
    far = torch.tensor([-1e4, -40.0, 40.0, 1e4])
    (surest,) = agreed_scores([far], [far])
    assert torch.allclose(surest, far)  # where a probability is 0 or 1 in float32
    assert agreed_logits(far[None], -far[None]).isfinite().all()


@pytest.mark.parametrize("mixed", [True, False])
def test_heads_forward_says_what_they_agree_on(mixed: bool) -> None:
    head, predictor = TorchvisionRPNHead(4, 3), FastRCNNPredictor(6, 4)
    levels = [torch.randn(2, 4, size, size, generator=generator(size)) for size in (4, 2)]
    features = torch.randn(5, 6, generator=generator(9))
    plain, flat = head(levels), predictor(features)
    rpn, box = RPNHead(head, mixed=mixed), BoxPredictor(predictor, mixed=mixed)
    scores, other, steps = rpn.each(levels)
    logits, logits_a, deltas = box.each(features)
    assert all(map(torch.equal, scores, plain[0])) and all(map(torch.equal, steps, plain[1]))
    assert torch.equal(logits, flat[0]) and torch.equal(deltas, flat[1])
    if not mixed:
        assert other is None and logits_a is None
        assert all(map(torch.equal, rpn(levels)[0], scores)) and torch.equal(
            box(features)[0], logits
        )
        return
    assert not any(map(torch.equal, scores, other)) and not torch.equal(logits, logits_a)
    for agreed, one, two in zip(rpn(levels)[0], scores, other, strict=True):
        assert torch.allclose(agreed.sigmoid(), (one.sigmoid() + two.sigmoid()) / 2, atol=1e-6)
    mean = (logits.softmax(dim=1) + logits_a.softmax(dim=1)) / 2
    assert torch.allclose(box(features)[0].softmax(dim=1), mean, atol=1e-6)


def test_what_a_seed_is() -> None:
    row = (0, 0, 9, 9)
    assert is_seed(target(row)) and is_seed(Target(boxes(), labels()))
    assert not is_seed(target(row, complete=False))
    assert not is_seed(target(row, origin=["mined"], complete=False))
    assert not is_seed(target(row, row, origin=["human", "mined:note_rcnn:1"]))
    assert not is_seed(Target.unknown()) and not is_seed(Target.unknown({1}))
