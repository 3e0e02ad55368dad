import pytest
import torch

from almining.records import Target
from almining.train import Batch, TrainConfig, fit, mirrored, order, plain_step
from tests.fakes import FlatDetector, boxes, flat_pool, labels

CONFIG = TrainConfig(steps=6, batch=3, lr=0.1)


def weights(detector: torch.nn.Module) -> torch.Tensor:
    return torch.cat([value.flatten() for value in detector.state_dict().values()])


def test_same_seed_same_weights() -> None:
    results = []
    for seed in (0, 0, 1):
        detector = FlatDetector()
        fit(detector, flat_pool(5), CONFIG, seed=seed, progress=False)
        results.append(weights(detector))
    assert torch.equal(results[0], results[1]) and not torch.equal(results[0], results[2])


def test_learns() -> None:
    detector = FlatDetector()
    losses = fit(
        detector, flat_pool(2), TrainConfig(steps=40, batch=2, lr=0.3), seed=0, progress=False
    )
    assert losses[-1]["loss"] < 0.7 * losses[0]["loss"]
    assert set(losses[0]) == {"cls", "loss"}


def test_the_global_generators_stay_untouched() -> None:
    detector, before = FlatDetector(), torch.get_rng_state()
    fit(detector, flat_pool(3), CONFIG, seed=0, progress=False)
    assert torch.equal(torch.get_rng_state(), before)


def test_order_is_permutations_end_to_end_and_needs_no_history() -> None:
    ids = [f"i{n}" for n in range(5)]
    steps = [order(ids, seed=2, batch=2, step=step) for step in range(5)]
    flat = [pair for step in steps for pair in step]
    for epoch in (0, 1):
        assert sorted(image_id for e, image_id in flat if e == epoch) == ids
    assert order(ids, seed=2, batch=2, step=3) == steps[3]
    assert [e for e, _ in steps[2]] == [0, 1]  # one batch spans two epochs


def test_a_batch_larger_than_the_pool() -> None:
    fit(FlatDetector(), flat_pool(1), TrainConfig(steps=2, batch=4), seed=0, progress=False)


def test_mirrored_moves_boxes_with_the_image() -> None:
    image = torch.arange(12.0).reshape(1, 2, 6).expand(3, 2, 6) / 12
    known = Target(
        boxes((0, 0, 2, 2)), labels(1), negatives=boxes((5, 0, 6, 1)), complete=False, tags={1}
    )
    seen, moved = mirrored(image, known)
    assert moved.boxes.tolist() == [[4, 0, 6, 2]] and moved.negatives.tolist() == [[0, 0, 1, 1]]
    assert torch.equal(seen[:, :, 4:6].flip(2), image[:, :, 0:2]) and moved.tags == {1}


def test_a_step_gets_the_batch_and_the_pool() -> None:
    seen: list[Batch] = []

    def step(detector, batch: Batch, *, generator: torch.Generator) -> dict[str, torch.Tensor]:
        seen.append(batch)
        return plain_step(detector, batch, generator=generator)

    pool = flat_pool(4)
    fit(FlatDetector(), pool, CONFIG, ids=["flat-1", "flat-2"], seed=0, step=step, progress=False)
    assert {image_id for batch in seen for image_id in batch.ids} == {"flat-1", "flat-2"}
    assert seen[0].pool is pool and [batch.step for batch in seen] == list(range(6))
    assert seen[3].progress == 0.5


def test_non_finite_loss_names_the_images_and_leaves_the_weights() -> None:
    detector = FlatDetector()

    def step(detector, batch, *, generator):
        bad = torch.tensor(torch.nan if batch.step == 2 else 1.0)
        return {"cls": detector.linear.weight.sum() * bad}

    with pytest.raises(FloatingPointError, match=r"not finite in step 2.*flat-0"):
        fit(detector, flat_pool(1), CONFIG, seed=0, step=step, progress=False)
    assert weights(detector).isfinite().all()


def test_schedule() -> None:
    config = TrainConfig(steps=100, warmup=0.1)
    rates = [config.rate(step) for step in range(100)]
    assert (
        rates[0] == pytest.approx(0.1) and rates[9] == 1 and rates[-1] == pytest.approx(0, abs=1e-9)
    )
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert TrainConfig(steps=100, schedule="constant").rate(99) == 1


def test_a_step_that_diverges_names_the_images_and_one_without_loss_is_refused() -> None:
    def diverges(detector, batch, *, generator):
        raise FloatingPointError("scores are not finite")

    def nothing(detector, batch, *, generator):
        return {}

    with pytest.raises(FloatingPointError, match=r"not finite \(images flat-0"):
        fit(FlatDetector(), flat_pool(1), CONFIG, seed=0, step=diverges, progress=False)
    with pytest.raises(ValueError, match=r"no loss for images flat-0"):
        fit(FlatDetector(), flat_pool(1), CONFIG, seed=0, step=nothing, progress=False)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"steps": -1}, "steps = -1"),
        ({"steps": 1, "batch": 0}, "batch = 0"),
        ({"steps": 1, "lr": 0.0}, "lr = 0.0"),
        ({"steps": 1, "clip": float("nan")}, "clip = nan"),
        ({"steps": 1, "warmup": 2}, "warmup = 2"),
        ({"steps": 1, "optimizer": "lion"}, "optimizer = 'lion'.*sgd, adamw"),
        ({"steps": 1, "schedule": "magic"}, "schedule = 'magic'"),
    ],
)
def test_rejected_config(values: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        TrainConfig(**values)


def test_nothing_to_train_on() -> None:
    with pytest.raises(ValueError, match=r"no image to train on: Pool\(0\)"):
        fit(FlatDetector(), flat_pool(0), CONFIG, seed=0)
    assert fit(FlatDetector(), flat_pool(0), TrainConfig(steps=0), seed=0) == []


@pytest.mark.gpu
def test_trains_on_a_gpu() -> None:
    detector = FlatDetector().to("cuda")
    losses = fit(detector, flat_pool(2), CONFIG, seed=0, progress=False)
    assert len(losses) == 6 and next(detector.parameters()).is_cuda
