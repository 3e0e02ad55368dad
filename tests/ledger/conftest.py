from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from almining.ledger import Ledger, open_ledger


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """A run that was begun and has asked two things."""
    with open_ledger(tmp_path / "run") as ledger:
        ledger.begin({"seed": 0})
        ledger.add_requests(
            1,
            [
                {"id": "001/a", "image_id": "a", "kind": "complete", "evidence": {"why": [0.5]}},
                {"id": "001/b", "image_id": "b", "kind": "verify", "box": [1.0, 2.0, 3.5, 4.0]},
            ],
        )
        yield ledger
