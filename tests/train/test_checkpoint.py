"""Training state survives the disk bit for bit, and damage is refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sparcode.errors import RunError
from sparcode.model.sparcode import SparCodeModel
from sparcode.train.checkpoint import load_checkpoint, save_checkpoint
from tests.worlds import tiny_config

STATE = {"epoch": 3, "best_metric": 0.1234567890123, "finished": False}


def made(seed: int, steps: int) -> tuple[SparCodeModel, torch.optim.Optimizer]:
    """Return a model after a few optimizer steps."""
    torch.manual_seed(seed)
    model = SparCodeModel(tiny_config(), 9, None, 0)
    model.quantizer.start(torch.randn(20, 16), seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    for _ in range(steps):
        step(model, optimizer)
    return model, optimizer


def step(model: SparCodeModel, optimizer: torch.optim.Optimizer) -> None:
    """Take one step that reaches some, not all, of the parameters."""
    optimizer.zero_grad()
    (model.items.embedding.square().sum() + model.scorer.item_bias.exp().sum()).backward()
    optimizer.step()


def test_round_trip_is_bit_exact(tmp_path: Path):
    model, optimizer = made(0, 3)
    best = {name: tensor + 1 for name, tensor in model.state_dict().items() if tensor.dtype == torch.float32}
    save_checkpoint(tmp_path / "c.safetensors", model, optimizer, best, STATE)
    other, fresh = made(1, 0)
    found, state = load_checkpoint(tmp_path / "c.safetensors", other, fresh)
    assert state == STATE
    assert sorted(found) == sorted(best)
    assert all(torch.equal(found[name], best[name]) for name in best)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name
        assert tensor.dtype == other.state_dict()[name].dtype
    for _ in range(2):
        step(model, optimizer)
        step(other, fresh)
    for left, right in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(left, right), "the optimizer moments differ"


def test_a_failed_write_keeps_the_earlier_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    model, optimizer = made(0, 1)
    path = tmp_path / "c.safetensors"
    save_checkpoint(path, model, optimizer, {}, STATE)
    before = path.read_bytes()

    def broken(tensors, target, metadata):
        Path(target).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr("sparcode.train.checkpoint.save_file", broken)
    with pytest.raises(OSError, match="disk full"):
        save_checkpoint(path, model, optimizer, {}, STATE)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["c.safetensors"]


@pytest.mark.parametrize("content", [b"", b"nonsense", None])
def test_damage_is_one_line(tmp_path: Path, content: bytes | None):
    model, optimizer = made(0, 1)
    path = tmp_path / "c.safetensors"
    save_checkpoint(path, model, optimizer, {}, STATE)
    path.write_bytes(path.read_bytes()[:-40] if content is None else content)
    with pytest.raises(RunError, match="not a readable checkpoint.*overwrite=True") as caught:
        load_checkpoint(path, model, optimizer)
    assert "\n" not in str(caught.value)
