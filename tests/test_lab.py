import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from almining import demo, lab
from almining.cycle import run
from almining.data.street import make_street
from almining.label import Simulated
from almining.papers import baselines, bib, divergence, note_rcnn


def test_the_toy_world_is_the_default() -> None:
    made = lab.setup("faster_rcnn", images=12, labelled=3, test=4)
    assert made.toy and "toy world" in repr(made)
    assert repr(made.pool) == "Pool(12: 3 complete, 9 tagged)"
    assert made.hidden.ids == made.pool.ids and len(made.test) == 4
    assert not set(made.test.ids) & set(made.pool.ids)
    assert made.detector.classes == made.pool.classes
    assert all(made.hidden.target(image_id).complete for image_id in made.hidden.ids)


def test_seed_decides_scenes_and_start() -> None:
    one, other = (lab.setup(images=6, labelled=2, test=1, seed=seed) for seed in (0, 1))
    assert one.pool.ids != other.pool.ids


def test_the_weakly_supervised_lab_starts_from_tags_and_remembers_proposals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    made = lab.setup("mist", images=3, test=1)
    assert made.toy and repr(made.pool) == "Pool(3: 3 tagged)"
    assert made.hidden.ids == made.pool.ids and made.detector.classes == made.pool.classes
    image = made.pool.image(made.pool.ids[0])
    (one,) = made.detector.detect([image])
    assert len([*tmp_path.glob("_runs/proposals/*")]) == 1 and len(one)

    def never(image):
        raise RuntimeError("proposed again")

    monkeypatch.setattr(type(made.detector.proposer.proposer), "__call__", never)
    (again,) = lab.setup("mist", images=3, test=1).detector.detect([image])
    assert again.boxes.equal(one.boxes) and again.scores.equal(one.scores)
    some = lab.setup("mist", images=3, labelled=2, test=1).pool
    assert repr(some) == "Pool(3: 2 complete, 1 tagged)"


def test_the_one_vs_rest_lab_knows_nothing_of_what_is_not_labelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    made = lab.setup("fast_rcnn", images=3, labelled=1, test=1)
    assert made.toy and repr(made.pool) == "Pool(3: 1 complete, 2 unlabelled)"
    (one,) = made.detector.detect([made.pool.image(made.pool.ids[0])])
    assert len([*tmp_path.glob("_runs/proposals/*")]) == 1
    assert one.probs is not None and made.detector.classes == made.pool.classes
    assert 3 * lab.LABELLED["fast_rcnn"] == lab.SCALES["small"]["images"]


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (tmp_path / folder).mkdir(parents=True)
    names = [f"im{i}" for i in range(6)]
    for name in names:
        Image.new("RGB", (96, 64), (90, 120, 60)).save(tmp_path / "JPEGImages" / f"{name}.jpg")
        (tmp_path / "Annotations" / f"{name}.xml").write_text(
            f"<annotation><filename>{name}.jpg</filename><size><width>96</width><height>64</height><depth>3</depth></size>"
            "<object><name>cell</name><difficult>0</difficult><bndbox><xmin>11</xmin><ymin>11</ymin><xmax>50</xmax>"
            "<ymax>40</ymax></bndbox></object></annotation>"
        )
    for split, chosen in (("trainval", names[:4]), ("test", names[4:])):
        (tmp_path / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(chosen) + "\n")
    return tmp_path


@pytest.fixture
def coco(voc: Path, tmp_path: Path) -> Path:
    shutil.copytree(voc / "JPEGImages", tmp_path / "coco" / "images")
    images = [{"id": i, "file_name": f"im{i}.jpg", "width": 96, "height": 64} for i in range(6)]
    boxes = [
        {
            "id": i + 1,
            "image_id": i,
            "category_id": 7,
            "bbox": [10, 10, 40, 30],
            "area": 1200,
            "iscrowd": 0,
        }
        for i in range(6)
    ]
    file = tmp_path / "coco" / "instances.json"
    file.write_text(
        json.dumps(
            {"images": images, "annotations": boxes, "categories": [{"id": 7, "name": "cell"}]}
        )
    )
    return file


@pytest.mark.parametrize("kind", ["voc", "coco"])
def test_ones_own_images(kind: str, voc: Path, coco: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lab, "START_STEPS", {"cpu": 2, "cuda": 2})
    monkeypatch.setenv("ALMINING_DATA", f"{kind}:{voc if kind == 'voc' else coco}")
    made = lab.setup(labelled=2)
    assert not made.toy and f"{kind} data" in made.note and "new heads" in made.note
    assert made.detector.classes == ("cell",)
    assert len(made.pool) + len(made.test) == 6 and not set(made.pool.ids) & set(made.test.ids)
    config = baselines.Config(steps_per_image=0.5, batch=2)
    history = run(
        baselines.entropy_max(config),
        made.detector,
        made.pool,
        oracle=Simulated(made.hidden),
        test=made.test,
        budget=1,
        cycles=1,
        seed=0,
        progress=False,
    )
    assert history.rows[1].images == 3


@pytest.mark.filterwarnings("ignore:only .* images hold pairs:UserWarning")
def test_ones_own_images_for_a_detector_that_learns_from_tags(
    voc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(lab, "START_STEPS", {"cpu": 2, "cuda": 2})
    with pytest.raises(ValueError, match=r"\['cell'\] is one class"):
        lab.setup("mist", data=f"voc:{voc}", device="cpu")
    for name in ("im1", "im4"):
        file = voc / "Annotations" / f"{name}.xml"
        file.write_text(file.read_text().replace("cell", "plate"))
    made = lab.setup("mist", data=f"voc:{voc}", device="cpu")
    assert not made.toy and "new heads were trained on tags" in made.note
    assert made.detector.classes == ("cell", "plate") and not made.detector.training
    assert repr(made.pool) == "Pool(4: 4 tagged)"
    same = lab.setup("mist", data=f"voc:{voc}", device="cpu").detector.state_dict()
    for name, value in made.detector.state_dict().items():
        assert value.equal(same[name])
    history = run(
        bib.recipe(bib.Config(steps_per_image=0.5, batch=2, min_score=0.0)),
        made.detector,
        made.pool,
        oracle=Simulated(made.hidden),
        test=made.test,
        budget=2,
        cycles=1,
        seed=0,
        progress=False,
    )
    assert history.rows[1].images == 2


def test_the_dense_lab_is_of_unlabelled_films_at_dusk() -> None:
    made = lab.setup("dense", images=50, test=15, device="cpu")
    assert made.toy and repr(made.pool) == "Pool(50: 50 unlabelled)"
    assert made.hidden.ids == made.pool.ids and made.hidden.target(made.pool.ids[0]).complete
    videos = [made.pool.info(one).video for one in made.pool.ids]
    assert [videos.count(video) for video in dict.fromkeys(videos)] == [40, 10]
    assert len({made.test.info(one).video for one in made.test.ids}) == 2
    same = make_street(1, 1, seed=0, domain="dusk")
    assert made.pool.image(made.pool.ids[0]).equal(same.image(same.ids[0]))
    (maps,) = made.detector.dense([made.pool.image(made.pool.ids[0])])
    assert maps.shape == (5, 128, 192)
    assert repr(lab.setup("dense", images=4, labelled=1, test=1, device="cpu").pool) == (
        "Pool(4: 1 complete, 3 unlabelled)"
    )


def test_ones_own_images_for_one_vs_rest_heads(
    voc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lab, "START_STEPS", {"cpu": 1})
    monkeypatch.chdir(tmp_path)
    made = lab.setup("fast_rcnn", data=f"voc:{voc}", labelled=2, device="cpu")
    assert repr(made.pool) == "Pool(4: 2 complete, 2 unlabelled)"
    assert "new heads were trained on the labelled images" in made.note
    assert made.detector.rules == demo.load_demo("fast_rcnn").rules
    assert made.detector.head.classify.out_features == len(made.pool.classes)


def test_ones_own_images_for_a_per_pixel_detector(
    voc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lab, "START_STEPS", {"cpu": 2, "cuda": 2})
    made = lab.setup("dense", data=f"voc:{voc}", labelled=2, device="cpu")
    assert not made.toy and repr(made.pool) == "Pool(4: 2 complete, 2 unlabelled)"
    assert made.detector.classes == ("cell",) and not made.detector.training
    assert made.detector.boxes == ((225.0, 300.0),) * 5  # 30 x 40 pixels of 64, at 480
    assert (
        lab.setup("dense", data=f"voc:{voc}", device="cpu").pool.target("JPEGImages/im1").complete
    )
    history = run(
        divergence.recipe(),
        made.detector,
        made.pool,
        oracle=Simulated(made.hidden),
        test=made.test,
        budget=1,
        cycles=1,
        seed=0,
        progress=False,
    )
    assert history.rows[1].images == 3
    with pytest.raises(
        ValueError, match=r"0 images are labelled and hold no box.*larger labelled="
    ):
        lab.setup("dense", data=f"voc:{voc}", labelled=0, device="cpu")


@pytest.fixture
def quick_note(monkeypatch: pytest.MonkeyPatch) -> None:
    few = {"first_epochs": 0.1, "batch": 2, "optimizer": "adamw", "lr": 1e-3}
    monkeypatch.setattr(note_rcnn.Config, "toy", lambda: note_rcnn.Config(**few))


@pytest.mark.filterwarnings("ignore:no seed image holds:UserWarning")
def test_the_lab_of_seeds_and_tags_is_of_classes_the_source_does_not_know(quick_note) -> None:
    made = lab.setup("note_rcnn", images=8, labelled=1, test=3, device="cpu")
    assert made.toy and repr(made.pool) in made.note and len(made.pool) == 8
    assert {made.pool.target(i).state for i in made.pool.ids} == {"complete", "tagged"}
    assert made.hidden.ids == made.pool.ids and len(made.test) == 3
    assert made.pool.classes == made.test.classes == made.detector.classes
    assert made.detector.source.classes == ("car", "taxi", "boat", "plane")
    assert not set(made.pool.classes) & set(made.detector.source.classes)
    (found,) = made.detector.detect([made.test.image(made.test.ids[0])])
    assert found.probs.shape[1] == 5
    crowd = [lab.target_scenes(4, seed=3, density=density) for density in ("voc", "coco")]
    assert sum(len(crowd[1].target(i)) for i in crowd[1].ids) > 4
    assert crowd[0].ids != crowd[1].ids or not crowd[0].image(crowd[0].ids[0]).equal(
        crowd[1].image(crowd[1].ids[0])
    )


def test_ones_own_images_for_seeds_and_tags(
    quick_note, voc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lab, "START_STEPS", {"cpu": 1})
    made = lab.setup("note_rcnn", data=f"voc:{voc}", labelled=2, device="cpu")
    assert not made.toy and repr(made.pool) == "Pool(4: 2 complete, 2 tagged)"
    assert made.detector.classes == ("cell",) and made.detector.variant == "det-az-rpn-a"
    assert made.detector.source.model.transform.min_size == (240,)


def test_the_one_stage_lab_starts_from_a_sparse_pool() -> None:
    made = lab.setup("retinanet", images=4, test=2, level="extreme", device="cpu")
    assert made.toy and repr(made.pool) == "Pool(4: 4 sparse)" and not made.detector.training
    assert all(len(made.pool.target(one)) == 1 for one in made.pool.ids)
    assert all(made.hidden.target(one).complete for one in made.pool.ids) and len(made.test) == 2
    assert lab.setup("retinanet", images=4, test=1).pool.target(made.pool.ids[0]).state == "sparse"
    with pytest.raises(ValueError, match=r"labelled = 3: every image of 'retinanet' is sparse"):
        lab.setup("retinanet", images=4, labelled=3)


def test_ones_own_images_for_a_one_stage_detector(voc: Path) -> None:
    made = lab.setup("retinanet", data=f"voc:{voc}", level="hard", device="cpu")
    assert not made.toy and repr(made.pool) == "Pool(4: 4 sparse)"
    assert made.detector.classes == ("cell",) and "new heads know nothing yet" in made.note
    known = demo.load_demo("retinanet_start").model.backbone.state_dict()
    taken = made.detector.model.backbone.state_dict()
    assert all(value.equal(known[name]) for name, value in taken.items())


def test_images_and_test_limit_ones_own_pool(voc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lab, "START_STEPS", {"cpu": 1, "cuda": 1})
    made = lab.setup(data=f"voc:{voc}", images=3, test=1, labelled=2)
    assert (len(made.pool), len(made.test)) == (3, 1)


@pytest.mark.parametrize(
    ("env", "says"),
    [
        ({"ALMINING_DATA": "imagenet"}, "ALMINING_DATA = 'imagenet': use voc:<root>"),
        ({"ALMINING_DATA": "voc:"}, "ALMINING_DATA = 'voc:'"),
        ({"ALMINING_DATA": "voc:nowhere"}, "neither trainval.txt and test.txt nor"),
        ({"ALMINING_DATA": "coco:nowhere/instances.json"}, "no file|instances.json"),
        (
            {"ALMINING_DEVICE": "abacus"},
            "device 'abacus' is not to be had here.*ALMINING_DEVICE=cpu",
        ),
        ({"ALMINING_SCALE": "huge"}, "ALMINING_SCALE = 'huge': use one of small, full"),
    ],
)
def test_rejected(env: dict[str, str], says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=says):
        lab.setup(images=2, labelled=1, test=1)


def test_nothing_measured_on_can_become_the_pool() -> None:
    with pytest.raises(ValueError, match=r"seed = 900000: scenes of 900000 and up are test scenes"):
        lab.setup(seed=900_000)


def test_unknown_lab() -> None:
    with pytest.raises(ValueError, match="name = 'yolo': there is a lab for fast_rcnn, "):
        lab.setup("yolo")


def test_knobs_redraw_when_moved() -> None:
    from almining import draw

    seen: list[tuple[float, str]] = []

    def render(cut: float, colour: str):
        seen.append((cut, colour))
        return draw.blank(f"{cut} {colour}")

    made = lab.knobs(render, cut=(0.0, 1.0, 0.25, 0.5), colour=["red", "blue"])
    slider, menu, picture = made.children
    before = bytes(picture.value)
    assert before.startswith(b"\x89PNG") and seen == [(0.5, "red")]
    slider.value = 0.75
    menu.value = "blue"
    assert seen[-1] == (0.75, "blue") and bytes(picture.value) != before


def test_the_same_ten_lines_on_blood_cells(
    real_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lab, "START_STEPS", {"cpu": 2})
    monkeypatch.setenv("ALMINING_DATA", f"voc:{real_data / 'bccd'}")
    made = lab.setup(labelled=3, images=8, test=4, device="cpu")
    assert made.pool.classes == ("Platelets", "RBC", "WBC")
    recipe = baselines.entropy_max(baselines.Config(steps_per_image=0.25, batch=2))
    ask = {"oracle": Simulated(made.hidden), "test": made.test, "budget": 2, "cycles": 1, "seed": 0}
    history = run(recipe, made.detector, made.pool, **ask, progress=False)
    assert history.rows[1].images == 5 and "AP50" in history.rows[1].metrics
    assert history.rows[1].boxes > history.rows[0].boxes


def test_a_data_set_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"there is no file .*gone\.json; correct the path"):
        lab.setup(data=f"coco:{tmp_path / 'gone.json'}", device="cpu")
    (tmp_path / "ImageSets" / "Main").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"nor train\.txt and val\.txt; write lists of the images"):
        lab.setup(data=f"voc:{tmp_path}", device="cpu")
