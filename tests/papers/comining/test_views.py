import pytest
import torch
from torchvision.transforms import v2

from almining.papers.comining import look
from almining.papers.comining.views import VIEWS, Looked, moved
from almining.records import Detections, Target
from almining.rng import generator
from tests.fakes import boxes, labels

SIZE = (48, 64)
PLACE = (8.0, 6.0, 20.0, 30.0)


@pytest.fixture(scope="module")
def image() -> torch.Tensor:
    return torch.rand(3, *SIZE, generator=generator(0, "image")).contiguous()


def seen(view, image, seed: int = 0) -> Looked:
    return look(view, image, generator=generator(seed))


@pytest.mark.parametrize("name", VIEWS)
def test_photometric_views_move_no_box(image, name: str) -> None:
    before = torch.random.get_rng_state()
    looks = [seen(name, image, seed) for seed in range(30)]
    assert torch.equal(torch.random.get_rng_state(), before)
    changed = [not torch.equal(one.image, image) for one in looks]
    assert all(one.matrix is None and type(one.image) is torch.Tensor for one in looks)
    assert all(0 <= float(one.image.min()) and float(one.image.max()) <= 1 for one in looks)
    assert sum(changed) == 0 if name == "none" else 16 < sum(changed) < 30  # p = 0.8
    target = Target(boxes(PLACE), labels(1))
    assert looks[0].target(target) is target
    assert torch.equal(looks[0].back(target.boxes), target.boxes)


def test_draws_are_a_function_of_the_generator(image) -> None:
    torch.manual_seed(1)
    first = seen("colour", image).image
    torch.manual_seed(2)
    assert torch.equal(seen("colour", image).image, first)
    assert not torch.equal(seen("colour", image, 3).image, first)
    draws = generator(0)
    looks = [look("colour", image, generator=draws).image for _ in range(4)]
    assert torch.equal(looks[0], first) and not torch.equal(looks[0], looks[1])
    other = generator(0)  # whatever is drawn inside, the next view starts from the same seed
    look("none", image, generator=other)
    assert torch.equal(look("colour", image, generator=other).image, looks[1])


@pytest.mark.parametrize(
    ("view", "there"),
    [
        (v2.RandomHorizontalFlip(1.0), (44, 6, 56, 30)),
        (v2.RandomVerticalFlip(1.0), (8, 18, 20, 42)),
        (v2.Resize((24, 128)), (16, 3, 40, 15)),
        (v2.CenterCrop((48, 32)), (0, 6, 4, 30)),  # cut
        (v2.Pad([4, 2]), (12, 8, 24, 32)),
        (v2.RandomRotation((90, 90), expand=True), (6, 44, 30, 56)),
    ],
)
def test_geometric_views_map_boxes_there_and_back(image, view, there) -> None:
    one = seen(view, image)
    target = Target(boxes(PLACE), labels(1), negatives=boxes(PLACE), complete=False)
    mapped = one.target(target)
    assert torch.allclose(mapped.boxes, boxes(there), atol=1e-3)
    assert torch.allclose(mapped.negatives, boxes(there), atol=1e-3)
    assert mapped.labels.tolist() == [1] and mapped.state == "sparse"
    whole = (16.0, *PLACE[1:]) if isinstance(view, v2.CenterCrop) else PLACE
    assert torch.allclose(one.back(mapped.boxes), boxes(whole), atol=1e-3)
    found = Detections(mapped.boxes, mapped.labels, torch.tensor([0.9]))
    assert torch.equal(moved(found, one.back).boxes, one.back(mapped.boxes))


def test_the_box_goes_where_the_picture_goes() -> None:
    picture = torch.zeros(3, *SIZE)
    picture[:, 6:30, 8:20] = 1
    for view in (v2.RandomAffine(0, translate=(0.2, 0.2)), v2.RandomHorizontalFlip(1.0)):
        one = seen(view, picture, 4)
        (x1, y1, x2, y2) = one.there(boxes(PLACE))[0].tolist()
        rows, columns = (one.image[0] > 0.5).nonzero().unbind(dim=1)
        shown = [int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1]
        assert [x1, y1, x2, y2] == pytest.approx(shown, abs=1.01)
    assert one.matrix is not None


def test_turned_boxes_hold_the_object(image) -> None:
    one = seen(v2.RandomRotation((30, 30)), image)
    middle = boxes((24, 16, 40, 32))
    back = one.back(one.there(middle))
    assert bool((back[0, :2] <= middle[0, :2]).all() and (back[0, 2:] >= middle[0, 2:]).all())
    assert torch.allclose((back[0, :2] + back[0, 2:]) / 2, torch.tensor([32.0, 24.0]), atol=1e-3)


def test_views_that_cannot_be_mapped_back_are_refused(image) -> None:
    with pytest.raises(ValueError, match=r"ElasticTransform moves boxes as no affine map does"):
        seen(v2.ElasticTransform(), image)
    with pytest.raises(ValueError, match=r"view = 'sepia': use one of colour, blur, none"):
        seen("sepia", image)
