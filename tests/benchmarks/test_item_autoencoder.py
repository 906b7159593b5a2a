"""benchmarks/item_autoencoder.py on very few vectors, in this process."""

from __future__ import annotations


def test_every_cell_is_measured_and_shown(script, tmp_path, monkeypatch) -> None:
    benchmark, out = script("item_autoencoder"), tmp_path / "costs.json"
    small = {"codebook_size": 8, "hidden_dims": [8], "latent_dim": 4}
    cells = {"two digits": ("rq-vae", small | {"codebooks": 2}), "one digit": ("vq-vae", small)}
    monkeypatch.setattr(benchmark, "CELLS", cells)
    monkeypatch.setattr(benchmark, "in_own_process", lambda cell: benchmark.measure(**without_name(cell)))
    rows = benchmark.main(["--items", "300", "--width", "6", "--out", str(out)]).asked
    assert [row["config"]["kind"] for row in rows] == ["rq-vae", "vq-vae"]
    assert all(row["peak_mib"] >= row["before_mib"] > 0 and row["encoded_per_second"] > 0 for row in rows)
    assert "| one digit |" in out.with_suffix(".md").read_text(encoding="utf-8")


def without_name(cell: dict) -> dict:
    """Return the arguments of ``measure``."""
    return {name: value for name, value in cell.items() if name != "name"}
