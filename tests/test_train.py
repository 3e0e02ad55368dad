import os
import signal
import time
from itertools import pairwise
from multiprocessing import active_children
from pathlib import Path

import pytest
import torch

from almining.checkpoints import State
from almining.data.formats.files import BrokenImageError
from almining.data.pool import Pool
from almining.interrupts import Interrupted, held
from almining.records import Target
from almining.train import Batch, TrainConfig, fit, mirrored, order, plain_step
from tests.fakes import FlatDetector, FlatImages, boxes, faulty_pool, flat_pool, labels
from tests.keepers import Killed, MemoryKeeper, MoodyDetector

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
    assert [image_id for _, image_id in flat[:5]] != [image_id for _, image_id in flat[5:]]
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


def test_stepped_schedule_falls_to_a_tenth_where_the_papers_do() -> None:
    config = TrainConfig(steps=90_000, schedule="stepped", warmup=1 / 90)
    rates = [config.rate(step) for step in (0, 999, 1_000, 59_999, 60_000, 79_999, 80_000, 89_999)]
    assert rates == pytest.approx([0.001, 1, 1, 1, 0.1, 0.1, 0.01, 0.01])
    short = [TrainConfig(steps=9, schedule="stepped", warmup=0).rate(step) for step in range(9)]
    assert short == pytest.approx([1] * 6 + [0.1] * 2 + [0.01])


def test_exponential_schedule_goes_down_by_equal_factors_to_a_tenth() -> None:
    config = TrainConfig(steps=101, schedule="exponential", warmup=0)
    rates = [config.rate(step) for step in range(101)]
    assert rates[0] == 1 and rates[50] == pytest.approx(0.1**0.5) and rates[-1] == 0.1
    factors = [after / before for before, after in pairwise(rates)]
    assert factors == pytest.approx([0.1**0.01] * 100)
    late = TrainConfig(steps=101, schedule="exponential", warmup=0.5)
    assert late.rate(24) == 0.5 and late.rate(49) == 1 and late.rate(100) == 0.1
    assert TrainConfig(steps=1, schedule="exponential").rate(0) == 1


def test_rmsprop_divides_by_the_running_root_mean_square() -> None:
    detector = FlatDetector()
    before = weights(detector)
    config = TrainConfig(1, 1, 0.1, "rmsprop", weight_decay=0, schedule="constant")
    fit(detector, flat_pool(1), config, seed=0, progress=False)
    moved = (weights(detector) - before).abs()
    # the first step: gradient / sqrt(0.1 gradient^2), whatever the gradient is
    assert torch.allclose(moved[moved > 0], torch.tensor(0.1 / 0.1**0.5), rtol=1e-3)
    assert (moved > 0).any()


def test_a_step_that_diverges_names_the_images_and_one_without_loss_is_refused() -> None:
    def diverges(detector, batch, *, generator):
        raise FloatingPointError("scores are not finite")

    def nothing(detector, batch, *, generator):
        return {}

    with pytest.raises(FloatingPointError, match=r"not finite \(images flat-0"):
        fit(FlatDetector(), flat_pool(1), CONFIG, seed=0, step=diverges, progress=False)
    with pytest.raises(ValueError, match=r"no loss for images flat-0"):
        fit(FlatDetector(), flat_pool(1), CONFIG, seed=0, step=nothing, progress=False)
    with pytest.raises(ValueError, match=r"no loss for images flat-0.* that carries a gradient"):
        options = {"seed": 0, "step": lambda *_, **__: {"cls": torch.ones(())}, "progress": False}
        fit(FlatDetector(), flat_pool(1), CONFIG, **options)


def test_frozen_weights_stay_and_with_all_frozen_there_is_nothing_to_train() -> None:
    detector = MoodyDetector()
    detector.first.requires_grad_(False)
    before = {name: value.clone() for name, value in detector.named_parameters()}
    fit(detector, flat_pool(5), CONFIG, seed=0, progress=False)
    after = dict(detector.named_parameters())
    stays = {name for name, value in before.items() if torch.equal(value, after[name])}
    assert stays == {"first.weight", "first.bias", "unused"}
    detector.requires_grad_(False)
    with pytest.raises(ValueError, match="MoodyDetector has no parameter that requires a gradient"):
        fit(detector, flat_pool(5), CONFIG, seed=0, progress=False)
    assert fit(detector, flat_pool(5), TrainConfig(steps=0), seed=0, progress=False) == []


@pytest.mark.parametrize("frozen", ["first", "norm"])
def test_what_was_kept_with_other_weights_frozen_is_refused(frozen: str) -> None:
    keeper = MemoryKeeper(killed_at=2)
    with pytest.raises(Killed):
        fit(MoodyDetector(), flat_pool(5), CONFIG, seed=0, keeper=keeper, progress=False)
    detector = MoodyDetector()
    getattr(detector, frozen).requires_grad_(False)
    before = weights(detector)
    with pytest.raises(ValueError, match=r"saved optimizer does not fit.*freeze the same"):
        fit(detector, flat_pool(5), CONFIG, seed=0, keeper=keeper, progress=False)
    assert torch.equal(weights(detector), before)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"steps": -1}, "steps = -1"),
        ({"steps": 1, "batch": 0}, "batch = 0"),
        ({"steps": 1, "lr": 0.0}, "lr = 0.0"),
        ({"steps": 1, "clip": float("nan")}, "clip = nan"),
        ({"steps": 1, "warmup": 2}, "warmup = 2"),
        ({"steps": 1, "optimizer": "lion"}, "optimizer = 'lion'.*sgd, rmsprop, adamw"),
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


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_workers_change_nothing(workers: int) -> None:
    results = []
    for number in (0, workers):
        detector = MoodyDetector()
        losses = fit(
            detector, flat_pool(5), CONFIG, seed=0, workers=number, parts=1, progress=False
        )
        results.append((weights(detector), losses))
    assert torch.equal(results[0][0], results[1][0]) and results[0][1] == results[1][1]
    assert active_children() == []


@pytest.mark.parametrize("parts", [2, 3, 7])
def test_parts_have_the_gradient_of_the_whole_batch(parts: int) -> None:
    config = TrainConfig(steps=5, batch=5, lr=0.1)
    alone, cut = FlatDetector(), FlatDetector()
    losses = fit(alone, flat_pool(7), config, seed=0, progress=False)
    assert fit(cut, flat_pool(7), config, seed=0, parts=parts, progress=False) == [
        pytest.approx(one, rel=1e-5) for one in losses
    ]
    assert torch.allclose(weights(alone), weights(cut), rtol=1e-4, atol=1e-6)


def test_each_part_is_a_batch_with_draws_of_its_own() -> None:
    seen: list[tuple[int, list[str], float, float]] = []

    def step(detector, batch: Batch, *, generator: torch.Generator) -> dict[str, torch.Tensor]:
        draws = float(torch.rand((), generator=generator)), float(torch.rand(()))
        seen.append((batch.step, batch.ids, *draws))
        return plain_step(detector, batch, generator=generator)

    config = TrainConfig(steps=2, batch=5)
    fit(FlatDetector(), flat_pool(5), config, seed=0, step=step, parts=2, progress=False)
    assert [(number, len(ids)) for number, ids, *_ in seen] == [(0, 2), (0, 3), (1, 2), (1, 3)]
    wanted = [image_id for _, image_id in order(flat_pool(5).ids, seed=0, batch=5, step=0)]
    assert seen[0][1] + seen[1][1] == wanted
    assert len({one[2] for one in seen}) == len({one[3] for one in seen}) == 4


def test_rejected_parts() -> None:
    with pytest.raises(ValueError, match="parts = 0"):
        fit(FlatDetector(), flat_pool(1), CONFIG, seed=0, parts=0)


def test_out_of_memory_takes_more_parts_from_there_on_and_says_so_once() -> None:
    sizes: list[int] = []

    def step(detector, batch: Batch, *, generator: torch.Generator) -> dict[str, torch.Tensor]:
        sizes.append(len(batch.ids))
        if batch.step >= 2 and len(batch.ids) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return plain_step(detector, batch, generator=generator)

    config = TrainConfig(steps=5, batch=6, lr=0.1)
    alone, short, keeper = FlatDetector(), FlatDetector(), MemoryKeeper()
    losses = fit(alone, flat_pool(7), config, seed=0, progress=False)
    with pytest.warns(UserWarning, match="out of memory") as seen:
        found = fit(short, flat_pool(7), config, seed=0, step=step, keeper=keeper, progress=False)
    (warning,) = seen
    assert str(warning.message) == (
        "out of memory in step 2: from there on, each batch of 6 goes through in 4 parts, whose "
        "gradients are summed"
    )
    assert sizes == [6, 6, 6, 3, *[1, 2, 1, 2] * 3]
    assert [state.parts for state in keeper.states] == [1, 1, 4, 4, 4]
    assert found == [pytest.approx(one, rel=1e-5) for one in losses]
    assert torch.allclose(weights(alone), weights(short), rtol=1e-4, atol=1e-6)


def test_a_gradient_that_is_not_finite_names_the_images_and_leaves_the_weights() -> None:
    detector = MoodyDetector()

    def step(detector, batch, *, generator):
        losses = plain_step(detector, batch, generator=generator)
        if batch.step == 2:  # the root of 0 is 0, its slope is not
            losses["root"] = (detector.last.weight.sum() * 0).sqrt()
        return losses

    keeper = MemoryKeeper()
    with pytest.raises(FloatingPointError, match=r"gradient is not finite in step 2, images flat-"):
        fit(detector, flat_pool(3), CONFIG, seed=0, step=step, keeper=keeper, progress=False)
    last = keeper.states[-1]
    assert last.step == 2
    assert all(
        torch.equal(tensor, last.tensors[f"weights/{name}"])
        for name, tensor in detector.state_dict().items()  # running statistics, too
    )


def test_a_broken_image_keeps_its_type_with_workers() -> None:
    pool, _ = faulty_pool(flat_pool(5), 3)
    with pytest.raises(BrokenImageError, match=r"flat-3.jpg.*truncated") as caught:
        fit(FlatDetector(), pool, CONFIG, seed=0, workers=2, progress=False)
    assert caught.value.image_id == "flat-3" and active_children() == []


def test_a_killed_worker_changes_nothing() -> None:
    killed: list[int] = []

    def step(detector, batch: Batch, *, generator: torch.Generator) -> dict[str, torch.Tensor]:
        if batch.step == 2:
            victim = active_children()[0].pid
            os.kill(victim, signal.SIGKILL)
            killed.append(victim)
        return plain_step(detector, batch, generator=generator)

    alone, hit = MoodyDetector(), MoodyDetector()
    config = TrainConfig(steps=12, batch=3, lr=0.1)
    losses = fit(alone, flat_pool(5), config, seed=0, progress=False)
    with pytest.warns(UserWarning, match="died with exit code -9") as seen:
        found = fit(hit, flat_pool(5), config, seed=0, step=step, workers=2, progress=False)
    assert [str(one.message).split()[2] for one in seen] == [str(pid) for pid in killed]
    assert found == losses and torch.equal(weights(alone), weights(hit))


def test_a_hanging_worker_changes_nothing(tmp_path: Path) -> None:
    class Slow(FlatImages):
        def load(self, image_id: str) -> torch.Tensor:
            if image_id == "flat-3" and not (tmp_path / "hung").exists():
                (tmp_path / "hung").touch()
                time.sleep(600)
            return super().load(image_id)

    whole = flat_pool(5)
    slow = Pool(whole.classes, {i: whole.target(i) for i in whole.ids}, Slow())
    alone, hung = MoodyDetector(), MoodyDetector()
    losses = fit(alone, whole, CONFIG, seed=0, progress=False)
    with pytest.warns(UserWarning, match=r"loader worker \d+ gave no result for 2 s") as seen:
        found = fit(hung, slow, CONFIG, seed=0, workers=2, timeout_s=2, progress=False)
    assert len(seen) == 1
    assert found == losses and torch.equal(weights(alone), weights(hung))


@pytest.fixture
def ctrl_c():
    """Press Ctrl-C; a test run in the background starts with it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield lambda: os.kill(os.getpid(), signal.SIGINT)
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("at", [0, 2, 5])
def test_ctrl_c_stops_after_the_step_which_is_kept(at: int, ctrl_c) -> None:
    def step(detector, batch, *, generator):
        if batch.step == at:
            ctrl_c()
        return plain_step(detector, batch, generator=generator)

    keeper = MemoryKeeper()
    keeper.every_s = 1e9
    with pytest.raises(Interrupted, match=rf"after {at + 1} of 6 steps"), held():
        fit(MoodyDetector(), flat_pool(5), CONFIG, seed=0, step=step, keeper=keeper, progress=False)
    assert [state.step for state in keeper.states] == [at + 1] and keeper.done == [at == 5]
    with pytest.raises(Interrupted), held():  # with nothing to keep it, too
        fit(MoodyDetector(), flat_pool(5), CONFIG, seed=0, step=step, progress=False)


def test_a_second_ctrl_c_stops_at_once_and_keeps_nothing_of_the_step(ctrl_c) -> None:
    def step(detector, batch, *, generator):
        if batch.step == 2:
            ctrl_c()
            ctrl_c()
            pytest.fail("goes on")
        return plain_step(detector, batch, generator=generator)

    detector, keeper = MoodyDetector(), MemoryKeeper()
    with pytest.raises(KeyboardInterrupt) as caught, held():
        fit(
            *(detector, flat_pool(5), CONFIG),
            **{"seed": 0, "step": step, "keeper": keeper, "workers": 2, "progress": False},
        )
    assert type(caught.value) is KeyboardInterrupt
    assert [state.step for state in keeper.states] == [1, 2] and active_children() == []


def test_what_is_kept_and_when() -> None:
    keeper = MemoryKeeper()
    losses = fit(FlatDetector(), flat_pool(3), CONFIG, seed=0, keeper=keeper, progress=False)
    assert [state.step for state in keeper.states] == [1, 2, 3, 4, 5, 6]
    assert keeper.done == [False] * 5 + [True]
    assert [state.losses for state in keeper.states] == [losses[: n + 1] for n in range(6)]
    keeper = MemoryKeeper()
    keeper.every_s = 1e9
    fit(FlatDetector(), flat_pool(3), CONFIG, seed=0, keeper=keeper, progress=False)
    assert [state.step for state in keeper.states] == [6] and keeper.done == [True]


def test_the_time_between_two_savings(monkeypatch) -> None:
    now = [100.0]
    monkeypatch.setattr("almining.train.time.monotonic", lambda: now[0])

    def step(detector, batch, *, generator):
        now[0] += 1
        return plain_step(detector, batch, generator=generator)

    keeper = MemoryKeeper()
    keeper.every_s = 2.0
    fit(FlatDetector(), flat_pool(3), CONFIG, seed=0, step=step, keeper=keeper, progress=False)
    assert [state.step for state in keeper.states] == [2, 4, 6]


@pytest.mark.parametrize("steps", [0, 3])
def test_after_the_last_step_there_is_nothing_left_to_do(steps: int) -> None:
    def step(detector, batch, *, generator):
        pytest.fail("trains again")

    config, keeper = TrainConfig(steps=steps, batch=2), MemoryKeeper()
    detector, other = MoodyDetector(), MoodyDetector(seed=1)
    losses = fit(detector, flat_pool(3), config, seed=0, keeper=keeper, progress=False)
    assert keeper.done[-1] and len(keeper.done) == max(1, steps)
    again = fit(other, flat_pool(3), config, seed=0, step=step, keeper=keeper, progress=False)
    assert again == losses and torch.equal(weights(detector), weights(other))
    assert len(keeper.done) == max(1, steps)


def test_what_cannot_go_on_is_refused_before_anything_is_trained() -> None:
    class Bare(FlatDetector):
        load_state_dict = None

    def step(detector, batch, *, generator):
        pytest.fail("trains")

    keeper, pool = MemoryKeeper(), flat_pool(3)
    with pytest.raises(ValueError, match="Bare has no load_state_dict"):
        fit(Bare(), pool, CONFIG, seed=0, step=step, keeper=keeper, progress=False)
    fit(Bare(), pool, CONFIG, seed=0, progress=False)
    fit(FlatDetector(), pool, CONFIG, seed=0, keeper=keeper, progress=False)
    with pytest.raises(ValueError, match=r"after step 6, but TrainConfig.steps = 2"):
        fit(FlatDetector(), pool, TrainConfig(steps=2), seed=0, keeper=keeper, progress=False)
    with pytest.raises(ValueError, match="the saved weights do not fit this MoodyDetector"):
        fit(MoodyDetector(), pool, CONFIG, seed=0, keeper=keeper, progress=False)


def test_a_state_that_cannot_be_kept_stops_the_training() -> None:
    class Full(MemoryKeeper):
        def save(self, state: State, *, done: bool) -> None:
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        fit(FlatDetector(), flat_pool(3), CONFIG, seed=0, keeper=Full(), progress=False)


@pytest.mark.gpu
def test_trains_on_a_gpu() -> None:
    detector = FlatDetector().to("cuda")
    losses = fit(detector, flat_pool(2), CONFIG, seed=0, progress=False)
    assert len(losses) == 6 and next(detector.parameters()).is_cuda
