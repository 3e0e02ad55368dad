import gc
import weakref

import pytest
import torch
from torch import nn

from almining.gradients import accumulate, cut, out_of_memory
from tests.keepers import MoodyDetector

ITEMS = torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0])


class Line(nn.Module):
    """y = w x, with a buffer that counts what it saw, and a parameter it does not use."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.idle = nn.Parameter(torch.ones(())), nn.Parameter(torch.ones(()))
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen += len(x)
        return self.weight * x


class Backward:
    """The mean of (w x)² over the batch; memory runs out above `room` items."""

    def __init__(self, line: Line, *, room: int = 99, error: Exception | None = None) -> None:
        self.line, self.room, self.error = line, room, error
        self.calls: list[tuple[list[float], int, int]] = []

    def __call__(self, some: torch.Tensor, part: int, parts: int) -> dict[str, float]:
        self.calls.append((some.tolist(), part, parts))
        loss = self.line(some).square().mean() * len(some) / len(ITEMS)
        if len(some) > self.room:
            raise self.error or torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")
        loss.backward()
        return {"loss": float(loss.detach())}


@pytest.fixture(autouse=True, scope="module")
def short_collections():
    """Leave out of them what was imported, which takes most of a second each time."""
    gc.freeze()
    yield
    gc.unfreeze()


def run(backward: Backward, *, parts: int = 1, most: int = 5, clip: float = 1e9):
    return accumulate(
        backward, ITEMS, backward.line, parts=parts, most=most, clip=clip, name="step 3, images a"
    )


@pytest.mark.parametrize("parts", [1, 2, 3, 5, 8])
def test_parts_have_the_gradient_of_the_whole(parts: int) -> None:
    line = Line()
    backward = Backward(line)
    values, took = run(backward, parts=parts)
    # mean of x² is (1 + 4 + 16 + 64 + 256) / 5 = 68.2; the gradient at w = 1 is twice that
    assert values["loss"] == pytest.approx(68.2) and took == parts
    assert float(line.weight.grad) == pytest.approx(136.4) and line.idle.grad is None
    assert [x for some, _, _ in backward.calls for x in some] == ITEMS.tolist()
    assert line.seen == 5


def test_gradients_of_before_do_not_count_and_are_clipped() -> None:
    line = Line()
    line.weight.grad = torch.tensor(5.0)
    run(Backward(line))
    assert float(line.weight.grad) == pytest.approx(136.4)
    run(Backward(line), clip=2.0)
    assert float(line.weight.grad) == pytest.approx(2.0)


@pytest.mark.parametrize("parts", range(1, 9))
def test_cut_loses_nothing_and_is_even(parts: int) -> None:
    for n in range(10):
        pieces = cut(range(n), parts)
        assert [x for piece in pieces for x in piece] == list(range(n)) and len(pieces) == parts
        assert max(map(len, pieces)) - min(map(len, pieces)) <= 1


def test_out_of_memory_halves_until_it_fits() -> None:
    line = Line()
    backward = Backward(line, room=2)
    values, parts = run(backward)
    # 5 | 2 3 | 1 1 1 2: each time all of it is done again
    assert [len(some) for some, _, _ in backward.calls] == [5, 2, 3, 1, 1, 1, 2]
    assert [(part, of) for _, part, of in backward.calls[-4:]] == [(n, 4) for n in range(4)]
    assert parts == 4 and values["loss"] == pytest.approx(68.2)
    assert float(line.weight.grad) == pytest.approx(136.4)
    assert line.seen == 5  # what the tries left in buffers is gone


def test_too_little_for_one_is_raised_with_advice_and_leaves_the_buffers() -> None:
    line = Line()
    backward = Backward(line, room=0)
    with pytest.raises(torch.OutOfMemoryError) as caught:
        run(backward)
    assert [len(some) for some, _, _ in backward.calls] == [5, 2, 1, 1]
    (note,) = caught.value.__notes__
    assert note.startswith("a single image at a time is too much: use smaller images")
    assert line.seen == 0


def test_what_failed_holds_no_memory_when_it_is_tried_again() -> None:
    line, held, alive = Line(), [], []

    def backward(some: torch.Tensor, part: int, parts: int) -> dict[str, float]:
        alive.extend(one() for one in held)
        activations = line(some)
        held.append(weakref.ref(activations))
        if len(some) > 1:
            circle = [activations]
            circle.append(circle)  # as tracebacks do that hold themselves
            raise torch.OutOfMemoryError("CUDA out of memory")
        return {}

    gc.disable()
    try:
        accumulate(backward, ITEMS, line, parts=1, most=5, clip=1, name="")
    finally:
        gc.enable()
    assert len(held) > 5 and not any(one is not None for one in alive)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        torch.OutOfMemoryError("in words of its own"),
        MemoryError(),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED. This error may appear if ..."),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("Unable to find a valid cuDNN algorithm to run convolution"),
        RuntimeError("GET was unable to find an engine to execute this computation"),
    ],
)
def test_all_the_ways_to_say_it(error: Exception) -> None:
    assert out_of_memory(error)
    assert run(Backward(Line(), room=2, error=error))[1] == 4


def test_a_real_one_of_the_cpu() -> None:
    line, tries = Line(), []

    def backward(some: torch.Tensor, part: int, parts: int) -> dict[str, float]:
        tries.append(len(some))
        if len(some) > 2:
            torch.empty(2**60, dtype=torch.uint8)
        return {}

    assert accumulate(backward, ITEMS, line, parts=1, most=5, clip=1, name="")[1] == 4
    assert tries == [5, 2, 3, 1, 1, 1, 2]


@pytest.mark.parametrize(
    "error", [RuntimeError("shapes do not match"), ValueError("out of memory"), KeyError("x")]
)
def test_other_errors_are_not_taken_for_it(error: Exception) -> None:
    line = Line()
    backward = Backward(line, room=2, error=error)
    with pytest.raises(type(error)) as caught:
        run(backward)
    assert caught.value is error and not hasattr(error, "__notes__")
    assert len(backward.calls) == 1 and line.seen == 0


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_gradient_that_is_not_finite_though_the_loss_is(value: float) -> None:
    line = Line()

    def backward(some: torch.Tensor, part: int, parts: int) -> dict[str, float]:
        loss = line(some).mean()
        loss.register_hook(lambda grad: grad * value)
        loss.backward()
        return {"loss": float(loss.detach())}

    with pytest.raises(
        FloatingPointError, match=r"gradient is not finite in step 3, images a, though .*6.19"
    ):
        accumulate(backward, ITEMS, line, parts=1, most=1, clip=1, name="step 3, images a")
    assert line.seen == 0


def test_running_statistics_come_back_when_a_batch_is_given_up() -> None:
    detector = MoodyDetector()
    before = {name: buffer.clone() for name, buffer in detector.named_buffers()}

    def backward(some: torch.Tensor, part: int, parts: int) -> dict[str, float]:
        detector._logits([torch.full((3, 2, 2), float(x)) for x in some])
        raise FloatingPointError("loss")

    with pytest.raises(FloatingPointError):
        accumulate(backward, ITEMS, detector, parts=1, most=1, clip=1, name="")
    after = dict(detector.named_buffers())
    assert len(before) == 3 and all(torch.equal(after[name], before[name]) for name in before)


@pytest.mark.parametrize("parts", [1, 2, 5])
def test_running_statistics_move_once_by_the_mean_of_the_parts(parts: int) -> None:
    norm = nn.BatchNorm1d(1, momentum=0.1)

    def backward(some: torch.Tensor, part: int, parts: int) -> dict[str, float]:
        norm(torch.stack([some, some], 1).reshape(-1, 1)).sum().backward()  # each item twice
        return {}

    accumulate(backward, ITEMS, norm, parts=parts, most=5, clip=1, name="")
    # the mean of 1 2 4 8 16 is 6.2, from 0 on by a tenth of it, in parts of any length
    assert float(norm.running_mean) == pytest.approx(0.62)
    assert int(norm.num_batches_tracked) == 1
    variances = [torch.tensor([x for x in some for _ in "ab"]).var() for some in cut(ITEMS, parts)]
    mean = sum(float(v) * len(s) for v, s in zip(variances, cut(ITEMS, parts), strict=True)) / 5
    assert float(norm.running_var) == pytest.approx(0.9 + 0.1 * mean)
    norm.eval()
    before = norm.running_mean.clone()
    accumulate(backward, ITEMS, norm, parts=parts, most=5, clip=1, name="")
    assert torch.equal(norm.running_mean, before)


def test_a_detector_that_is_no_module() -> None:
    class Own:
        weight = nn.Parameter(torch.ones(()))

        def parameters(self) -> list[nn.Parameter]:
            return [self.weight]

    def backward(some: torch.Tensor, part: int, parts: int) -> dict[str, float]:
        (Own.weight * some.sum()).backward()
        return {"loss": 1.0}

    own = Own()
    assert accumulate(backward, ITEMS, own, parts=1, most=1, clip=99, name="")[0] == {"loss": 1.0}
    assert own.weight.grad == 31
