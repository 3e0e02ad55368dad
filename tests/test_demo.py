from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from almining import demo, evaluate
from almining.data.scenes import make_scenes
from almining.detectors.rcnn import faster_rcnn
from almining.predict import detect
from almining.rng import generator
from data_scripts import make_demos

LIMIT = 4_000_000


@pytest.mark.parametrize("name", demo.available())
def test_what_ships_is_small_and_says_what_it_is(name: str) -> None:
    assert (demo.FOLDER / f"{name}.safetensors").stat().st_size <= LIMIT
    known = demo.describe(name)
    notes = known["notes"]
    measured = notes["AP50"]["AP50"] if "AP50" in notes else notes["icon_accuracy"]
    assert measured > 0 and notes["seconds"] < 600
    assert set(make_demos.PLANS) <= set(demo.available())


def test_all_that_ships_is_at_most_16_mb() -> None:
    assert sum(file.stat().st_size for file in demo.FOLDER.glob("*.safetensors")) <= 16_000_000


def test_loads_ready_to_detect_in_float32() -> None:
    detector = demo.load_demo("faster_rcnn")
    assert not detector.training
    assert {value.dtype for value in detector.parameters()} == {torch.float32}


def test_the_detector_that_ships_finds_what_its_header_says() -> None:
    test = make_scenes(60, seed=make_demos.TEST_SEED)
    found = dict(detect(demo.load_demo("faster_rcnn"), test, progress=False))
    noted = demo.describe("faster_rcnn")["notes"]
    assert noted["AP50"]["AP50"] >= 0.85 and noted["test_scenes"] == 200
    assert evaluate.voc(found, test)["AP50"] == pytest.approx(noted["AP50"]["AP50"], abs=0.06)


def test_saved_and_loaded_again(tmp_path: Path) -> None:
    detector = faster_rcnn(["a", "b"], min_size=96, seed=5)
    file = tmp_path / "x.safetensors"
    demo.save(detector, file, kind="faster_rcnn", options={"min_size": 96}, notes={"by": "a test"})
    again = demo.load(file)
    assert again.classes == ("a", "b") and again.model.transform.min_size == (96,)
    image = torch.rand(3, 96, 96, generator=generator(0))
    asked = [torch.tensor([[5.0, 5, 60, 60]])]
    before, after = detector.regions([image], asked)[0], again.regions([image], asked)[0]
    assert torch.allclose(before.probs, after.probs, atol=5e-3)  # float16 on disk


def test_rejected(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"no demo detector is called 'yolo'; there are.*faster_rcnn"
    ):
        demo.load_demo("yolo")
    stranger = tmp_path / "stranger.safetensors"
    save_file({"x": torch.zeros(1)}, stranger)
    with pytest.raises(ValueError, match=r"stranger.safetensors is not a detector of this library"):
        demo.load(stranger)


def test_the_script_makes_a_detector_from_nothing(tmp_path: Path) -> None:
    plan = make_demos.Plan(scenes=4, train=make_demos.TrainConfig(steps=2, batch=2))
    notes = make_demos.make("faster_rcnn", tmp_path, icons=8, icon_steps=2, plan=plan, test=2)
    assert notes["scenes"] == 4 and 0 <= notes["AP50"]["AP50"] <= 1
    assert demo.load(tmp_path / "faster_rcnn.safetensors").classes == make_demos.CLASSES


def test_the_script_makes_a_detector_of_some_classes(tmp_path: Path) -> None:
    few = ("boat", "car")
    plan = make_demos.Plan(6, make_demos.TrainConfig(steps=1, batch=2), few)
    notes = make_demos.make("source", tmp_path, icons=4, icon_steps=1, plan=plan, test=4)
    assert set(notes["AP50"]) >= {"AP50/boat", "AP50/car"} and "AP50/cat" not in notes["AP50"]
    assert demo.load(tmp_path / "source.safetensors").classes == few


def test_the_source_detector_knows_some_classes_and_not_others() -> None:
    known = demo.describe("source")
    assert 0 < len(known["classes"]) < len(make_demos.CLASSES)
    assert known["notes"]["AP50"]["AP50"] >= 0.85
    scenes = make_scenes(6, seed=1)
    assert make_demos.of_classes(scenes, scenes.classes) is scenes
    assert make_demos.of_classes(scenes, known["classes"]).classes == tuple(known["classes"])


def test_nothing_measured_on_was_trained_on() -> None:
    assert make_demos.SEED >= 1_000_000 > make_demos.TEST_SEED >= 900_000
