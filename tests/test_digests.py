import hashlib
from pathlib import Path

import torch

from almining.digests import digest_file, digest_tensors, digest_texts


def test_the_digest_of_a_file_is_the_sha256_of_the_whole_of_it(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(bytes(range(256)) * 9000)  # more than one piece
    assert digest_file(path) == hashlib.sha256(path.read_bytes()).hexdigest()
    before = digest_file(str(path))
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    assert digest_file(path) != before


def test_digests_see_every_bit_every_name_and_every_border() -> None:
    one = torch.zeros(2, 2)
    other = one.clone()
    other[0, 0] = -0.0  # equal, and yet another bit
    made = {
        digest_tensors(pairs)
        for pairs in (
            [("a", one)],
            [("b", one)],
            [("a", other)],
            [("a", one.flatten())],
            [("a", one.int())],
            [("a", one), ("a", one)],
            [],
        )
    }
    assert len(made) == 7 and digest_tensors([("a", one.t())]) in made
    assert len({digest_texts(texts) for texts in (["ab"], ["a", "b"], ["a", "b", ""], [])}) == 4
