"""Files of weights: the same bytes each time, and no damage that goes unnoticed."""

import random
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from pipeline.run.outputs import load_weights, read_weights, write_weights
from pipeline.schema.base import SpecError

WEIGHTS = {
    "kernel": torch.arange(24.0).reshape(2, 3, 2, 2).permute(0, 1, 3, 2),  # not contiguous
    "half": torch.tensor([1.5, -2.0]).bfloat16(),
    "scalar": torch.tensor(3.0),
    "count": torch.tensor(7),
    "none": torch.zeros(0, 4),
}


def test_what_is_read_is_what_was_written_and_the_bytes_are_the_same_in_any_order(tmp_path: Path):
    write_weights(tmp_path / "a", WEIGHTS)
    write_weights(tmp_path / "b", dict(reversed(WEIGHTS.items())))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    found = read_weights(tmp_path / "a")
    assert found.keys() == WEIGHTS.keys()
    for name, value in WEIGHTS.items():
        assert found[name].dtype == value.dtype
        assert torch.equal(found[name], value)


def test_any_bit_that_is_wrong_is_noticed(tmp_path: Path):
    path = tmp_path / "weights"
    write_weights(path, WEIGHTS)
    content, chance = path.read_bytes(), random.Random(0)  # noqa: S311
    for _ in range(200):
        damaged = bytearray(content)
        damaged[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        path.write_bytes(damaged)
        with pytest.raises(SpecError, match=r"weights: not .*README\.md, Damaged files") as refused:
            read_weights(path)
        assert "\n" not in str(refused.value)


def test_what_is_cut_off_missing_or_of_a_version_without_a_checksum_is_refused(tmp_path: Path):
    path = tmp_path / "weights"
    with pytest.raises(SpecError, match="weights: the file is missing"):
        read_weights(path)
    write_weights(path, WEIGHTS)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(SpecError, match="weights: not a whole safetensors file"):
        read_weights(path)
    save_file({"weight": torch.zeros(2, 3), "bias": torch.zeros(2)}, path)
    with pytest.raises(SpecError, match="weights: not the content that was written to it"):
        load_weights(path, nn.Linear(3, 2))


def test_weights_of_another_network_are_refused(tmp_path: Path):
    write_weights(tmp_path / "weights", nn.Linear(3, 2).state_dict())
    with pytest.raises(SpecError, match="weights: not this network's weights") as refused:
        load_weights(tmp_path / "weights", nn.Linear(2, 2))
    assert "\n" not in str(refused.value)
