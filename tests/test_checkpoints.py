import resource
import signal
from pathlib import Path

import pytest
import torch
from torch import nn

from almining.checkpoints import State, check_detector, pack, read, restore, write
from almining.rng import generator
from tests.fakes import FlatDetector
from tests.keepers import MoodyDetector, same

LOSSES = [{"cls": 0.1, "loss": 1 / 3}, {"cls": 5e-324, "loss": 1e300}]


def trained(
    optimizer: str = "adamw", steps: int = 2
) -> tuple[MoodyDetector, torch.optim.Optimizer]:
    detector = MoodyDetector()
    made = optimizer_of(detector, optimizer)
    for step in range(steps):
        made.zero_grad()
        images = list(torch.rand(4, 3, 4, 4, generator=generator(0, step)))
        detector._logits(images).square().sum().backward()
        made.step()
    return detector, made


def optimizer_of(detector: nn.Module, name: str) -> torch.optim.Optimizer:
    if name == "sgd":
        return torch.optim.SGD(detector.parameters(), 0.1, momentum=0.9)
    return torch.optim.AdamW(detector.parameters(), 0.1)


def packed(optimizer: str = "adamw", steps: int = 2) -> State:
    return pack(*trained(optimizer, steps), step=steps, parts=3, losses=LOSSES)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("steps", [0, 2])
def test_a_file_gives_back_the_very_same(optimizer: str, steps: int, tmp_path: Path) -> None:
    state = packed(optimizer, steps)
    write(state, tmp_path / "a")
    found = read(tmp_path / "a")
    assert found.losses == LOSSES and (found.step, found.parts) == (steps, 3)
    assert set(found.tensors) == set(state.tensors)
    other = MoodyDetector(seed=1)
    memory = optimizer_of(other, optimizer)
    restore(other, found, memory)
    again = pack(other, memory, step=steps, parts=3, losses=found.losses)
    assert same(again, state)
    write(again, tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_what_is_in_it() -> None:
    names = set(packed("adamw").tensors)
    assert {"weights/norm.running_mean", "weights/norm.num_batches_tracked"} <= names
    assert {"weights/last.weight", "weights/tied.weight"} <= names  # both, tied as they are
    assert {name.split("/")[2] for name in names if name.startswith("optimizer/")} == {
        "step",
        "exp_avg",
        "exp_avg_sq",
    }
    assert packed("adamw").tensors["weights/norm.num_batches_tracked"].dtype == torch.int64
    assert any(name.endswith("momentum_buffer") for name in packed("sgd").tensors)


def test_nothing_is_shared_with_the_detector() -> None:
    detector, optimizer = trained()
    state = pack(detector, optimizer, step=2, parts=1, losses=[])
    copy = {name: tensor.clone() for name, tensor in state.tensors.items()}
    for _ in range(2):  # neither what is packed, nor what was restored, moves along
        detector._logits(list(torch.rand(4, 3, 4, 4))).sum().backward()
        optimizer.step()
        assert all(torch.equal(state.tensors[name], copy[name]) for name in copy)
        restore(detector, state, optimizer)


@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float64, torch.bool, torch.uint8, torch.int64]
)
def test_every_type_is_exact(dtype: torch.dtype, tmp_path: Path) -> None:
    values = torch.tensor([0, 1, 200, 3]).to(dtype)
    shapes = {"weights/a": values, "weights/b": values[:0].clone(), "weights/c": values[2].clone()}
    write(State(0, shapes, 1, []), tmp_path / "a")
    found = read(tmp_path / "a").tensors
    assert all(torch.equal(found[name], shapes[name]) for name in shapes)
    assert {tensor.dtype for tensor in found.values()} == {dtype}


def test_weights_in_any_order_of_memory_come_back(tmp_path: Path) -> None:
    detector = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    want = detector.weight.detach().clone()
    state = pack(detector, torch.optim.SGD(detector.parameters()), step=0, parts=1, losses=[])
    nn.init.zeros_(detector.weight)
    write(state, tmp_path / "a")
    restore(detector, read(tmp_path / "a"))
    assert torch.equal(detector.weight, want)
    assert detector.weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_non_finite_weights_are_not_kept(value: float) -> None:
    detector, optimizer = trained()
    with torch.no_grad():
        detector.last.bias[1] = value
    with pytest.raises(FloatingPointError, match=r"weights/last.bias is not finite after step 7"):
        pack(detector, optimizer, step=7, parts=1, losses=[])


def test_nor_is_a_non_finite_memory_or_a_nan_buffer_but_an_infinite_buffer_is_meant() -> None:
    detector, optimizer = trained()
    detector.register_buffer("mask", torch.tensor([0.0, -torch.inf]))
    state = pack(detector, optimizer, step=2, parts=1, losses=[])
    assert state.tensors["weights/mask"].tolist() == [0, -torch.inf]
    detector.norm.running_var[0] = torch.nan
    with pytest.raises(FloatingPointError, match=r"weights/norm.running_var is not finite"):
        pack(detector, optimizer, step=2, parts=1, losses=[])
    detector, optimizer = trained()
    optimizer.state[detector.last.weight]["exp_avg_sq"][0, 0] = torch.inf
    with pytest.raises(FloatingPointError, match=r"optimizer/\d/exp_avg_sq is not finite"):
        pack(detector, optimizer, step=2, parts=1, losses=[])


def test_a_detector_that_cannot_be_kept_says_what_to_add() -> None:
    class Bare:
        pass

    class Half(Bare):
        def state_dict(self) -> dict[str, object]:
            return {"words": "not a tensor"}

    class Wordy(Half):
        def load_state_dict(self, weights: object) -> None: ...

    with pytest.raises(ValueError, match=r"Bare has no state_dict.*add state_dict\(\)"):
        check_detector(Bare())
    with pytest.raises(ValueError, match="Half has no load_state_dict"):
        check_detector(Half())
    with pytest.raises(ValueError, match=r"Wordy.state_dict\(\)\['words'\] is of type str"):
        check_detector(Wordy())


def test_a_users_own_class_without_named_buffers() -> None:
    class Own:
        def __init__(self) -> None:
            self.weight = nn.Parameter(torch.ones(2))

        def state_dict(self) -> dict[str, torch.Tensor]:
            return {"weight": self.weight}

        def load_state_dict(self, weights: dict[str, torch.Tensor]) -> None:
            self.weight.data.copy_(weights["weight"])

    own, other = Own(), Own()
    optimizer = torch.optim.SGD([own.weight])
    nn.init.constant_(own.weight, 3)
    restore(other, pack(own, optimizer, step=0, parts=1, losses=[]))
    assert other.weight.tolist() == [3, 3]
    nn.init.constant_(own.weight, torch.inf)
    with pytest.raises(FloatingPointError, match="weights/weight"):
        pack(own, optimizer, step=0, parts=1, losses=[])


def test_weights_of_another_detector_are_refused() -> None:
    state = packed()
    with pytest.raises(
        ValueError, match=r"FlatDetector: first.bias is torch.float32 \(8,\) there and missing"
    ):
        restore(FlatDetector(), state)
    with pytest.raises(
        ValueError, match=r"first.bias is torch.float32 \(8,\) there and torch.float64"
    ):
        restore(MoodyDetector().double(), state)
    missing = {k: v for k, v in state.tensors.items() if k != "weights/last.bias"}
    with pytest.raises(ValueError, match=r"last.bias is missing there"):
        restore(MoodyDetector(), State(2, missing, 1, []))


def test_files_of_another_kind_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    path = tmp_path / "weights.safetensors"
    save_file({"a": torch.zeros(3)}, path)
    with pytest.raises(ValueError, match=r"weights.safetensors: format = None: .* format 1"):
        read(path)
    save_file({"losses": torch.zeros(3)}, path, {"almining": '{"format": 2}'})
    with pytest.raises(ValueError, match="format = 2"):
        read(path)
    write(packed(), path)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ValueError, match=r"weights.safetensors: .*take the state saved before it"):
        read(path)


def test_a_full_disk_is_an_os_error(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
        with pytest.raises(OSError, match="too large"):
            write(packed(), tmp_path / "a")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.gpu
def test_states_of_a_gpu_are_on_the_cpu_and_come_back() -> None:
    detector = MoodyDetector().to("cuda")
    optimizer = optimizer_of(detector, "adamw")
    detector._logits(list(torch.rand(4, 3, 4, 4, device="cuda"))).square().sum().backward()
    optimizer.step()
    state = pack(detector, optimizer, step=1, parts=1, losses=[])
    assert {tensor.device.type for tensor in state.tensors.values()} == {"cpu"}
    other = MoodyDetector(seed=1).to("cuda")
    memory = optimizer_of(other, "adamw")
    restore(other, state, memory)
    assert same(pack(other, memory, step=1, parts=1, losses=[]), state)
