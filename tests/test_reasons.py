"""What each kind of evidence shows, by hand, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor

from almining.data.formats.files import BrokenImageError
from almining.data.pool import ImageInfo, Pool
from almining.plain import from_plain, to_plain
from almining.reasons import LONGEST, Shown, shown
from almining.records import Evidence, Request, Target
from tests.fakes import boxes, labels

CLASSES = ("cup", "dog")
FOUR = boxes((0, 0, 40, 40), (5, 5, 15, 15), (6, 6, 12, 12), (50, 0, 60, 10))


def numbers(*values: Any) -> Tensor:
    return torch.tensor(values)


def asked(kind: str, data: dict[str, Any], image_id: str = "a") -> Request:
    return Request("r", image_id, "complete", evidence=Evidence(kind, data, "Why this one."))


def told(found: Shown) -> list[tuple[str, str, float]]:
    """Role, text and left side of each mark."""
    return [(one.role, one.text, float(one.box[0])) for one in found.marks]


class Film:
    """Frames of one grey each, 40 x 400; the broken one is frame 3."""

    def load(self, image_id: str) -> Tensor:
        if image_id == "f/3":
            raise BrokenImageError(image_id, "f.avi", "cut short")
        return torch.full((3, 40, 400), int(image_id[2:]) / 10)


def film() -> Pool:
    places = {f"f/{i}": ImageInfo(video="f", frame=i) for i in (4, 0, 5, 2, 3, 9, 1)}
    places |= {"g/4": ImageInfo(video="g", frame=4), "s/0": ImageInfo()}
    return Pool(CLASSES, {i: Target.unknown() for i in places}, Film(), infos=places)


# marks


def test_entropy_shows_the_most_uncertain_boxes_first() -> None:
    data = {"boxes": FOUR, "entropies": numbers(0.2, 0.9, 0.9, 1.3)}
    found = shown(asked("entropy", data), limit=3)
    assert told(found) == [
        ("most uncertain", "entropy 1.30", 50),
        ("uncertain", "entropy 0.90", 5),  # of equal ones the first
        ("uncertain", "entropy 0.90", 6),
    ]
    assert found.text == "Why this one." and found.blocks is None and found.strip == ()
    none = {"boxes": boxes(), "entropies": torch.zeros(0)}
    assert shown(asked("entropy", none)).marks == ()


def test_pairs_show_the_surest_the_large_ones_beneath() -> None:
    data = {
        "boxes": FOUR,
        "labels": labels(2, 2, 1, 2),
        "scores": numbers(0.9, 0.8, 0.3, 0.5),
        "pairs": torch.tensor([[1, 0], [2, 0], [2, 1]]),
    }
    found = shown(asked("pairs", data), limit=1, classes=CLASSES)
    assert told(found) == [("large", "dog 0.90", 0), ("small", "dog 0.80", 5)]
    all_of_them = told(shown(asked("pairs", data)))
    assert all_of_them == [
        ("large", "class 2 0.90", 0),
        ("small", "class 2 0.80", 5),  # large to one, small to another: on top
        ("small", "class 1 0.30", 6),
    ]
    none = data | {"pairs": torch.zeros(0, 2, dtype=torch.int64)}
    assert shown(asked("pairs", none)).marks == ()


def test_heads_say_what_they_think_of_one_box() -> None:
    data = {"boxes": FOUR[:1], "labels": labels(2)}
    data |= {"seed": numbers([0.1, 0.2, 0.7]), "mixed": numbers([0.6, 0.1, 0.3])}
    assert told(shown(asked("heads", data), classes=CLASSES)) == [
        ("seed head", "dog 0.70", 0),
        ("mixed head", "background 0.60, dog 0.30", 0),
    ]
    other = data | {"seed": numbers([0.1, 0.7, 0.2])}
    assert told(shown(asked("heads", other)))[0][1] == "class 1 0.70, class 2 0.20"


def test_views_show_what_one_finds_alone_before_what_both_do() -> None:
    data = {
        "boxes": boxes((1, 0, 9, 9), (2, 0, 9, 9), (3, 0, 9, 9), (4, 0, 9, 9)),
        "labels": labels(1, 1, 1, 2),
        "scores": numbers(0.9, 0.5, 0.8, 0.6),
        "view": labels(0, 0, 1, 1),
        "agreed": numbers(True, False, True, False),
    }
    found = shown(asked("views", data), classes=CLASSES)
    assert told(found) == [
        ("view b", "dog 0.60", 4),
        ("view a", "cup 0.50", 2),
        ("both views", "cup 0.90", 1),
    ]
    assert [role for role, *_ in told(shown(asked("views", data), limit=1))] == ["view b"]


# blocks and strips


def divergent(**more: Any) -> dict[str, Any]:
    blocks = torch.zeros(3, 4)
    blocks[1, 2] = 0.75
    return {"blocks": blocks, "region": 8, "score": 0.1, **more}


def test_divergence_shows_blocks_and_frames_the_highest() -> None:
    found = shown(asked("divergence", divergent()))
    (mark,) = found.marks
    assert (mark.role, mark.text, mark.box.tolist()) == ("maximum", "0.75", [16, 8, 24, 16])
    assert found.blocks is not None and found.blocks.equal(divergent()["blocks"])
    assert found.region == 8 and found.strip == ()


def test_divergence_shows_the_frames_before_and_after() -> None:
    scores = {"offsets": labels(-2, 1), "neighbours": numbers(0.25, 0.0312)}
    found = shown(asked("divergence", divergent(**scores), "f/4"), film())
    said = [caption for _, caption in found.strip]  # of frames 1, 2, (3, broken), 5 and 9
    assert said == ["frame 1", "frame 2: 0.25", "frame 5: 0.0312", "frame 9"]
    assert {tuple(one.shape) for one, _ in found.strip} == {(3, LONGEST * 40 // 400, LONGEST)}
    assert [int(one.max()) for one, _ in found.strip] == [26, 51, 128, 230]
    first = shown(asked("divergence", divergent(), "f/0"), film())
    assert [caption for _, caption in first.strip] == ["frame 1", "frame 2"]
    for alone in ("g/4", "s/0"):
        assert shown(asked("divergence", divergent(), alone), film()).strip == ()
    with pytest.raises(ValueError, match="x/1"):
        shown(asked("divergence", divergent(), "x/1"), film())


def pasted(n: int = 2) -> dict[str, Any]:
    data: dict[str, Any] = {f"paste_{i}": torch.full((3, 20, 30), 99).byte() for i in range(n)}
    data |= {"boxes": FOUR[:1], "labels": labels(2), "consistency": 0.3}
    data |= {"terms": numbers(*[0.25] * n), "matched": numbers(*[i % 2 == 0 for i in range(n)])}
    return data | {"places": boxes(*[(0, 4, 10, 16)] * n)}


def test_consistency_shows_each_paste_its_place_framed() -> None:
    found = shown(asked("consistency", pasted()), classes=CLASSES)
    assert [caption for _, caption in found.strip] == ["as dog 0.25", "not found"]
    picture = found.strip[0][0]
    assert picture.shape == (3, 100, 150) and picture.dtype == torch.uint8  # five times as large
    framed = picture[0] != 99
    assert framed[19, :51].all() and framed[80, :51].all() and framed[19:81, 50].all()
    assert int(framed.sum()) == 51 + 51 + 60  # the left side is where the picture ends
    assert set(picture[0][framed].tolist()) == {0, 255}
    assert found.marks == () and found.blocks is None
    without = {"boxes": FOUR[:1], "labels": labels(2), "consistency": 0.3}
    assert shown(asked("consistency", without)).strip == ()
    assert shown(asked("consistency", pasted(0))).strip == ()


# all kinds


def test_other_kinds_give_their_text_and_no_evidence_nothing() -> None:
    assert shown(asked("rank", {"x": 1})).text == "Why this one."
    bare = shown(Request("r", "a", "tag"))
    assert (bare.text, bare.marks, bare.blocks, bare.region, bare.strip) == ("", (), None, 0, ())


def test_a_pool_names_the_classes() -> None:
    data = {"boxes": FOUR[:1], "labels": labels(2), "seed": numbers([0.1, 0.2, 0.7])}
    data["mixed"] = data["seed"]
    found = shown(asked("heads", data, "f/0"), film())
    assert {one.text for one in found.marks} == {"dog 0.70"}


def test_evidence_from_a_run_directory_shows_the_same() -> None:
    request = asked("consistency", pasted())
    again = shown(from_plain(to_plain(request)))
    for (one, said), (other, same) in zip(shown(request).strip, again.strip, strict=True):
        assert one.equal(other) and said == same
    assert request.evidence is not None and request.evidence.data["paste_0"].eq(99).all()


@pytest.mark.parametrize(
    ("kind", "data", "message"),
    [
        ("entropy", {}, r"'entropy' needs data \['boxes', 'entropies'\], got \[\]"),
        ("entropy", {"boxes": FOUR, "entropies": torch.zeros(3)}, r"entropies must .*got \(3,\)"),
        ("entropy", {"boxes": FOUR[0], "entropies": torch.zeros(1)}, r"boxes must .* \(n, 4\)"),
        ("entropy", {"boxes": FOUR, "entropies": "high"}, "entropies must be a tensor.*got str"),
        ("entropy", {"boxes": FOUR, "entropies": torch.full((4,), torch.nan)}, "not finite"),
        ("pairs", {"boxes": FOUR}, r"\['labels', 'scores', 'pairs'\]"),
        (
            "pairs",
            {"boxes": FOUR[:1], "labels": labels(1), "scores": numbers(0.5), "pairs": FOUR[:, :2]},
            "pairs name rows beyond the 1 boxes",
        ),
        ("divergence", {"score": 0.1}, r"needs data \['blocks', 'region'\], got \['score'\]"),
        ("divergence", divergent(region=0), "region = 0 must be"),
        ("divergence", divergent(blocks=torch.zeros(3)), r"blocks must be .*got \(3,\)"),
        ("divergence", divergent(blocks=torch.zeros(0, 3)), "blocks are empty"),
        ("divergence", divergent(offsets=labels(1)), r"\['neighbours'\]"),
        (
            "divergence",
            divergent(offsets=labels(1), neighbours=torch.zeros(2)),
            r"neighbours must .*got \(2,\)",
        ),
        ("consistency", {"terms": numbers(0.5)}, r"needs data \['paste_0'\]"),
        ("consistency", pasted() | {"paste_1": torch.zeros(3, 4, 4)}, "paste_1 must be a uint8"),
        ("consistency", pasted() | {"places": boxes((0, 0, 1, 1))}, r"matched must .*got \(2,\)"),
        (
            "consistency",
            pasted() | {"places": boxes((0, 0, 1, 1)), "matched": numbers(True)},
            "1 places for 2 terms",
        ),
        ("heads", {"boxes": FOUR[:1]}, r"\['labels', 'seed', 'mixed'\]"),
        (
            "heads",
            {"boxes": FOUR[:1], "labels": labels(2), "seed": FOUR[:1, :2], "mixed": FOUR[:1]},
            "seed has no column for class 2",
        ),
        ("views", {"boxes": FOUR}, r"\['labels', 'scores', 'view', 'agreed'\]"),
        (
            "views",
            {
                "boxes": FOUR[:1],
                "labels": labels(0),
                "scores": numbers(0.5),
                "view": labels(0),
                "agreed": numbers(True),
            },
            r"labels\[0\] = 0",
        ),
    ],
)
def test_what_is_missing_or_malformed_is_named(
    kind: str, data: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        shown(asked(kind, data))
    assert repr(kind) in str(caught.value)


def test_matplotlib_is_not_needed() -> None:
    code = "import sys, almining.reasons; print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
