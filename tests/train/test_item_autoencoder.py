"""Training of item autoencoders: same seed same arrays, selection, options at work, collapse, bad input."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from sparcode.errors import ConfigError, DataError
from sparcode.model.item_autoencoder import ItemAutoencoder
from sparcode.model.item_autoencoder_options import read_options
from sparcode.quantize import residual
from sparcode.train import item_autoencoder as module
from sparcode.train.item_autoencoder import principal_map, train_item_autoencoder
from sparcode.train.item_export import folded_layers
from sparcode.train.item_parts import split_items
from sparcode.train.item_usage import check_usage, usage_of
from sparcode.types import Sequences

SMALL = {
    "codebooks": 2, "codebook_size": 8, "hidden_dims": [16], "latent_dim": 6, "epochs": 6, "batch_size": 64,
    "warmup_epochs": 2, "learning_rate": 5e-3, "init": "kmeans",
}  # fmt: skip


def planted(items: int = 240, width: int = 10, seed: int = 0) -> np.ndarray:
    """Return vectors around 12 centres."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(12, width))
    return (centres[rng.integers(0, 12, items)] + 0.2 * rng.normal(size=(items, width))).astype(np.float32)


def trained(vectors: np.ndarray | None = None, kind: str = "rq-vae", seed: int = 3, **rest):
    """Train the small model."""
    context = {name: rest.pop(name) for name in ("sequences", "validation", "report") if name in rest}
    vectors = planted() if vectors is None else vectors
    return train_item_autoencoder(kind, vectors, SMALL | rest, seed=seed, device="cpu", **context)


def histories(items: int = 240) -> Sequences:
    """Return histories in which items i and i + 1 follow each other."""
    return Sequences(np.array([0, items]), np.arange(items, dtype=np.int32), np.zeros(0))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"books": "gradient", "gradient": "rotation"},
        {"init": "rq-kmeans", "codebook_dim": 5, "sinkhorn": "all"},
        {"contrastive_weight": 0.1, "progressive_masking": True, "codebook_size": [8, 4]},
        {"init": "sample", "normalize": "rows", "sinkhorn": "last", "clip": 0, "revive_below": 0},
    ],
    ids=lambda options: "-".join(options) or "defaults",
)
def test_the_same_seed_gives_the_same_arrays_and_another_seed_others(options):
    sequences = histories() if "contrastive_weight" in options else None
    first, second = (trained(sequences=sequences, **options) for _ in range(2))
    assert first.report == second.report
    assert all(np.array_equal(first.arrays[name], second.arrays[name]) for name in first.arrays)
    other = trained(sequences=sequences, seed=4, **options)
    assert not np.array_equal(first.arrays["codebook.0"], other.arrays["codebook.0"])


def test_training_leaves_the_global_generator_alone():
    torch.manual_seed(9)
    before = torch.get_rng_state()
    trained()
    assert torch.equal(torch.get_rng_state(), before)


def test_more_epochs_reconstruct_better_and_the_best_epoch_counts():
    reports: list[dict] = []
    result = trained(epochs=30, patience=30, report=reports.append)
    kept = [r for r in reports if r["quantised"]]
    assert result.report["validation_mse"] == min(r["validation_mse"] for r in kept)
    assert result.report["validation_mse"] < 0.7 * kept[0]["validation_mse"] < planted().var()
    assert [r["epoch"] for r in reports] == list(range(30))
    assert len(result.report["usage"]) == len(result.report["perplexity"]) == 2
    assert "seconds" not in result.report


def test_patience_stops_and_the_plateau_lowers_the_rate():
    reports: list[dict] = []
    trained(epochs=200, patience=4, plateau_patience=1, learning_rate=1e-5, init="rq-kmeans", report=reports.append)
    result = trained(epochs=60, patience=3, plateau_patience=0, learning_rate=0.5, report=reports.append)
    assert result.report["epochs"] < 60
    assert min(r["learning_rate"] for r in reports[-result.report["epochs"] :]) < 0.5


def test_books_of_rq_kmeans_start_where_rq_kmeans_is():
    x = planted()
    reports: list[dict] = []
    trained(x, init="rq-kmeans", learning_rate=1e-9, decay=0.999, epochs=1, report=reports.append, validation=x)
    books = residual.fit(x, (8, 8), seed=0)
    mse = np.square(residual.decode(residual.encode(x, books), books) - x).mean()
    # Two k-means of other seeds: on so few rows their optima differ by some per cent.
    assert reports[0]["validation_mse"] == pytest.approx(mse, rel=0.25)


def test_given_validation_vectors_select_and_no_share_is_held_out():
    result = trained(validation=planted(seed=0)[:40])
    assert result.report["train_items"] == 240
    assert result.report["validation_items"] == 0
    assert result.report["validation_mse"] > 0


def test_what_an_option_trains_for_selects_the_epoch():
    reports: list[dict] = []
    options = {"contrastive_weight": 0.5, "progressive_masking": True, "validation_share": 0.2}
    result = trained(planted(), sequences=histories(), report=reports.append, epochs=8, **options)
    kept = [r for r in reports if r["quantised"]]
    assert result.report["selection"] == min(r["selection"] for r in kept)
    for report in kept:
        assert len(report["validation_prefix_mse"]) == 2
        assert report["validation_prefix_mse"][-1] == report["validation_mse"]
        variance = report["selection"] - 0.5 * report["contrast"]
        assert np.mean(report["validation_prefix_mse"]) / variance == pytest.approx(planted().var(0).mean(), rel=0.1)


def test_shares_divide_the_items():
    options = read_options("rq-vae", {"validation_share": 0.1, "test_share": 0.15})
    parts = split_items(100, options, seed=1)
    assert (len(parts.train), len(parts.validation), len(parts.test)) == (75, 10, 15)
    assert sorted(np.concatenate([parts.train, parts.validation, parts.test]).tolist()) == list(range(100))
    assert trained(test_share=0.1).report["test_mse"] > 0
    assert trained(validation_share=0).report["validation_mse"] is None


def test_neighbours_in_histories_come_closer():
    x = np.random.default_rng(1).normal(size=(200, 10)).astype(np.float32)
    pairs = Sequences(np.arange(0, 201, 2), np.arange(200, dtype=np.int32), np.zeros(0))
    gaps = []
    for weight in (0.0, 3.0):
        result = trained(x, sequences=pairs, contrastive_weight=weight, epochs=25, validation_share=0, patience=30)
        gaps.append(_same_first_codes(x, result))
    assert gaps[1] > gaps[0] + 0.1


def _same_first_codes(x: np.ndarray, result) -> float:
    from sparcode.semantic_id.codecs.autoencoder import open_codec

    options = result.options.model_dump(mode="json")
    codec = open_codec({"kind": "rq-vae", "sizes": [8, 8], "width": 10, "options": options}, result.arrays)
    codes = codec.encode(x)[:, 0]
    return float(np.mean(codes[::2] == codes[1::2]))


def test_revival_brings_dead_codewords_back():
    x = np.concatenate([planted(200), 50 + planted(40, seed=5)]).astype(np.float32)
    usage = {}
    for below in (0.0, 0.05):
        result = trained(x, init="sample", codebook_size=32, epochs=30, revive_below=below, patience=40, codebooks=1)
        usage[below] = result.report["usage"][0]
    assert usage[0.05] > usage[0.0] + 0.2, usage


def test_folding_a_projection_changes_nothing_but_rounding():
    torch.manual_seed(0)
    options = read_options("rq-vae", SMALL | {"codebook_dim": 3})
    model = ItemAutoencoder(10, options)
    x = torch.randn(7, 10)
    for network, inputs in ((model.encoder, x), (model.decoder, torch.randn(7, 3))):
        layers = folded_layers(network)
        assert len(layers) == 2
        value = inputs.numpy()
        for number, (weight, bias) in enumerate(layers):
            value = value @ weight + bias
            value = np.maximum(value, 0) if number == 0 else value
        np.testing.assert_allclose(value, network(inputs).detach().numpy(), atol=1e-5)


def test_principal_directions_are_orthonormal_and_ordered():
    x = np.random.default_rng(0).normal(size=(300, 5)) * [1, 9, 3, 0.1, 2]
    found = principal_map(x, 2)
    np.testing.assert_allclose(found.T @ found, np.eye(2), atol=1e-5)
    assert np.abs(found).argmax(0).tolist() == [1, 2]
    assert principal_map(x, 7).shape == (5, 7)


def test_usage_and_perplexity():
    assert usage_of(np.array([5, 5, 0, 0])) == (0.5, pytest.approx(2.0))
    assert usage_of(np.array([9, 0])) == (0.5, pytest.approx(1.0))


def test_a_low_perplexity_warns_loudly_and_a_constant_digit_is_an_error():
    rng = np.random.default_rng(0)
    fine = rng.integers(0, 16, (400, 2)).astype(np.int32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert check_usage("rq-vae", fine, (16, 16))["usage"] == [1.0, 1.0]
    poor = fine.copy()
    poor[:, 1] = rng.random(400) < 0.5
    with pytest.warns(UserWarning, match=r"COLLAPSE.*codebook 2: 2 of 16"):
        check_usage("rq-vae", poor, (16, 16))
    poor[:, 1] = 3
    with pytest.raises(DataError, match="codebook 2 collapsed"):
        check_usage("rq-vae", poor, (16, 16))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("nan", "row 7 holds NaN"), ("inf", "row 7 holds NaN or inf"), ("equal", "vectors are equal"),
        ("few", "5 items for 8 codewords"), ("flat", "matrix of vectors"),
    ],
)  # fmt: skip
def test_bad_vectors_are_refused(change, message):
    x = planted()
    if change in ("nan", "inf"):
        x[7, 2] = float(change)
    x = {"equal": np.ones_like(x), "few": x[:5], "flat": x[0]}.get(change, x)
    with pytest.raises(DataError, match=message):
        trained(x)


def test_contrast_without_histories_is_refused():
    with pytest.raises(ConfigError, match="needs histories"):
        trained(contrastive_weight=1.0)
    lonely = Sequences(np.arange(4), np.arange(3, dtype=np.int32), np.zeros(0))
    with pytest.raises(DataError, match="follow each other"):
        trained(contrastive_weight=1.0, sequences=lonely)


@pytest.mark.parametrize(
    ("validation", "message"), [(np.zeros((3, 4)), "one item at least"), (np.full((3, 10), np.inf), "NaN or infinity")]
)
def test_bad_validation_vectors_are_refused(validation, message):
    with pytest.raises(DataError, match=message):
        trained(validation=validation)


def test_divergence_is_an_error_that_names_the_option(monkeypatch):
    monkeypatch.setattr(module._Trainer, "_step", lambda *_: (torch.tensor(float("nan")), None))
    with pytest.raises(ConfigError, match="diverged in epoch 3; lower learning_rate"):
        trained(validation_share=0)
