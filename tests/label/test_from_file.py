"""Answers from files: a Label Studio export, COCO."""

import copy
import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from almining.data.pool import DataError, ImageInfo, Pool
from almining.data.readers import read_coco
from almining.data.writers import write_coco, write_label_studio
from almining.label import FromFile, Prices, Simulated, merge
from almining.plain import to_plain
from almining.records import Answer, Request, Target
from tests.fakes import FlatImages, boxes, labels
from tests.label.asking import BOX, CLASSES, FAR, request, target, truth

SIZE = (100, 120)
QUESTIONS = [
    request("complete", id="a"),
    request("tag", id="b"),
    request("verify", BOX, 1, id="c"),
    request("verify", FAR, 1, id="d"),
    request("region", FAR, id="e"),
    request("region", (90.0, 90, 99, 99), id="f"),
    request("complete", image="im-1", id="g"),
]


def sized(targets: dict[str, Target], classes: tuple[str, ...] = CLASSES) -> Pool:
    infos = {image_id: ImageInfo(size=SIZE) for image_id in targets}
    return Pool(classes, targets, FlatImages(), infos=infos)


def start(count: int = 3) -> Pool:
    return sized({f"im-{i}": Target.unknown() for i in range(count)})


def plain(answers: list[Answer]) -> list:
    return [to_plain(answer) for answer in answers]


def exported(path: Path, pool: Pool, *done: tuple[str, list, float | None]) -> Path:
    """What Label Studio exports after people drew (class, box) in some of the pool's images."""
    write_label_studio(pool, path, progress=False)
    tasks = json.loads(path.read_text())
    for image_id, drawn, seconds in done:
        (task,) = (task for task in tasks if task["data"]["image_id"] == image_id)
        high, wide = SIZE
        task["annotations"] = [{"lead_time": seconds, "was_cancelled": False, "result": [
            {
                "type": "rectanglelabels", "original_width": wide, "original_height": high,
                "value": {
                    "x": box[0] / wide * 100, "y": box[1] / high * 100,
                    "width": (box[2] - box[0]) / wide * 100,
                    "height": (box[3] - box[1]) / high * 100,
                    "rectanglelabels": [name],
                },
            }
            for name, box in drawn
        ]}]  # fmt: skip
    path.write_text(json.dumps(tasks))
    return path


def test_a_pool_of_answers_says_what_the_simulation_says() -> None:
    found = list(FromFile(truth(), by="simulated").ask(QUESTIONS, truth()))
    assert plain(found) == plain(list(Simulated(truth()).ask(QUESTIONS, truth())))


def test_what_is_not_finished_in_the_file_is_still_waiting() -> None:
    given = sized({"im-0": target(BOX), "im-1": target(BOX, complete=True)})
    questions = [request("complete", image=f"im-{i}", id=f"q{i}") for i in range(3)]
    questions += [request("region", BOX, id="r"), request("tag", id="t")]
    found = list(FromFile(given).ask(questions, start()))
    assert [answer.request_id for answer in found] == ["q1"]
    later = [request("complete", image="im-2")]
    assert list(FromFile(given).ask(later, start())) == []  # the file knows other images
    assert list(FromFile(sized({})).ask([], start())) == []


def test_classes_are_matched_by_name() -> None:
    given = sized(
        {"im-0": target(BOX, FAR, label=[1, 2], complete=True, tags={1, 2})},
        classes=("boat", "cup", "unused elsewhere"),
    )
    asks = [request("complete", id="a"), request("tag", id="b"), request("verify", BOX, 3, id="c")]
    whole, tags, verdict = FromFile(given).ask(asks, start())
    assert whole.target.labels.tolist() == [3, 1]
    assert tags.target.tags == {1, 3} and tags.seconds == 3.0  # of the pool's classes
    assert verdict.verdict == "accept"


def test_a_class_the_pool_does_not_have_is_named() -> None:
    given = sized({"im-1": target(BOX, label=[2], complete=True)}, classes=("cup", "cow"))
    with pytest.raises(ValueError, match=r"class 'cow' in image 'im-1'.*\(cup, dog, boat\)"):
        FromFile(given).ask([request("complete")], start())
    beyond = start().subset(["im-0"])
    both = sized({"im-0": target(complete=True), "im-1": given.target("im-1")}, given.classes)
    assert len(list(FromFile(both).ask([request("complete")], beyond))) == 1  # no image of theirs
    with pytest.raises(ValueError, match="none of the file's 1 images"):
        FromFile(given).ask([request("complete")], beyond)


def test_ids_that_do_not_match_are_shown() -> None:
    given = sized({"images/im-0": target(BOX, complete=True)})
    with pytest.raises(ValueError, match=r"\('images/im-0', ...\).*\('im-0', 'im-1', 'im-2', ..."):
        FromFile(given).ask([request("complete")], start())
    with pytest.raises(ValueError, match=r"file's 0 images \(none, ...\)"):
        FromFile(sized({})).ask([request("complete")], start())


def test_round_trip_through_label_studio(tmp_path: Path) -> None:
    pool = sized({f"im-{i}": Target.unknown({1, 2} if i else None) for i in range(4)})
    pending = [Request(f"001/{i}", f"im-{i}", "complete") for i in (2, 0, 3)]
    tasks = pool.subset([one.image_id for one in pending])
    done = ("im-0", [("dog", FAR), ("cup", BOX)], 41.875), ("im-3", [], None)
    path = exported(tmp_path / "tasks.json", tasks, *done)
    first, second = FromFile.from_label_studio(path).ask(pending, pool)
    assert (first.request_id, second.request_id) == ("001/0", "001/3")
    assert (first.seconds, second.seconds) == (41.875, 7.8)  # measured; priced
    assert {first.by, second.by} == {"label studio"}
    known = merge(pool.target("im-0"), pending[1], first)
    assert known.complete and known.labels.tolist() == [2, 1]
    assert torch.allclose(known.boxes, boxes(FAR, BOX), atol=1e-4)
    empty = merge(pool.target("im-3"), pending[2], second)
    assert empty.complete and len(empty) == 0


def test_a_time_that_was_measured_is_of_the_whole_image(tmp_path: Path) -> None:
    path = exported(tmp_path / "tasks.json", start(1), ("im-0", [("cup", BOX)], 100.1))
    asks = [request("complete", id="a"), request("tag", id="b"), request("region", BOX, id="c")]
    oracle = FromFile.from_label_studio(path, prices=Prices(box=2, tag=3), by="ann")
    assert [answer.seconds for answer in oracle.ask(asks, start())] == [100.1, 9.0, 2.0]
    assert {answer.by for answer in oracle.ask(asks, start())} == {"ann"}


@pytest.mark.parametrize("seconds", [-1, "12", True, float("nan"), 1e39])
def test_a_time_that_is_none_is_a_finding(tmp_path: Path, seconds: object) -> None:
    path = exported(tmp_path / "tasks.json", start(1), ("im-0", [("cup", BOX)], 1.0))
    tasks = json.loads(path.read_text())
    tasks[0]["annotations"][0]["lead_time"] = seconds
    path.write_text(json.dumps(tasks))
    oracle = FromFile.from_label_studio(path)
    (finding,) = oracle.given.findings
    assert (finding.action, finding.field, finding.value) == ("warning", "lead_time", str(seconds))
    (answer,) = oracle.ask([request("complete")], start())
    assert answer.seconds == 25.5


def test_bad_exports_are_refused_or_left_waiting(tmp_path: Path) -> None:
    path = exported(tmp_path / "tasks.json", start(2), ("im-0", [("cup", BOX)], 1.0),
                    ("im-1", [("cup", BOX)], 2.0))  # fmt: skip
    tasks = json.loads(path.read_text())
    broken = copy.deepcopy(tasks)
    broken[0]["annotations"][0]["result"][0]["value"]["width"] = 500
    path.write_text(json.dumps(broken))
    with pytest.raises(DataError, match="width"):
        FromFile.from_label_studio(path)
    asks = [request("complete", image=f"im-{i}", id=f"q{i}") for i in range(2)]
    oracle = FromFile.from_label_studio(path, strict=False)
    assert [answer.request_id for answer in oracle.ask(asks, start())] == ["q1"]
    turned = tasks[0]["annotations"][0]["result"][0]["value"]
    turned["x"], turned["width"] = turned["x"] + turned["width"], -turned["width"]
    path.write_text(json.dumps(tasks))
    oracle = FromFile.from_label_studio(path, repair=["swap"])
    assert len(list(oracle.ask(asks, start()))) == 2


def test_coco_is_a_pool_of_answers(tmp_path: Path) -> None:
    done = sized({"im-0": target(BOX, FAR, label=[2, 1], complete=True),
                  "im-1": Target(boxes(), labels())})  # fmt: skip
    for image_id in done.ids:
        Image.new("RGB", SIZE[::-1]).save(tmp_path / f"{image_id}.png")
    write_coco(done, tmp_path / "done.json", images=tmp_path, progress=False)
    oracle = FromFile(read_coco(tmp_path / "done.json", tmp_path))
    asks = [request("complete", image=f"im-{i}", id=f"q{i}") for i in (2, 1, 0)]
    first, second = oracle.ask(asks, start())
    assert (first.request_id, len(first.target)) == ("q1", 0)
    assert second.target.labels.tolist() == [2, 1] and second.seconds == 51.0
