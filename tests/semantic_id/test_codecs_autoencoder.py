"""RQ-VAE and VQ-VAE codecs: equal to torch, to loops, to themselves after saving and in any batch."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from sparcode.errors import DataError, MissingExtraError, QueryError
from sparcode.index.arrays import read_arrays, write_arrays
from sparcode.model.item_autoencoder import ItemAutoencoder
from sparcode.model.item_autoencoder_options import read_options
from sparcode.quantize import nearest
from sparcode.quantize.normalize import fit_normalizer
from sparcode.semantic_id.codec import FitContext
from sparcode.semantic_id.codecs import autoencoder
from sparcode.semantic_id.codecs.autoencoder import AutoencoderCodec, fit_rq_vae, fit_vq_vae, linear, open_codec
from sparcode.train.item_export import export_arrays

WIDTH = 9
CASES = {
    "rq": ("rq-vae", {"codebooks": 3, "codebook_size": [20, 16, 7], "codebook_dim": 5}),
    "skip": ("rq-vae", {"codebooks": 2, "codebook_size": 18, "init": "rq-kmeans", "normalize": "columns"}),
    "rows": ("rq-vae", {"codebooks": 2, "codebook_size": 6, "normalize": "rows", "hidden_dims": []}),
    "vq": ("vq-vae", {"codebook_size": 90}),
}


def vectors(rows: int = 120) -> np.ndarray:
    """Return vectors with a mean and unequal columns."""
    return (np.random.default_rng(1).normal(size=(rows, WIDTH)) * np.arange(1, 10) + 2).astype(np.float32)


def made(case: str) -> tuple[ItemAutoencoder, AutoencoderCodec]:
    """Return an untrained torch model and the codec of its arrays."""
    kind, options = CASES[case]
    read = read_options(kind, {"hidden_dims": [19, 12], "latent_dim": 6, "init": "kmeans"} | options)
    torch.manual_seed(4)
    skip = torch.eye(WIDTH) if read.init == "rq-kmeans" else None
    model = ItemAutoencoder(WIDTH, read, skip)
    for layer in (*model.encoder.layers, *model.decoder.layers):
        torch.nn.init.normal_(layer.weight, std=0.3)
    normalizer = fit_normalizer(vectors(), np.arange(120), read.normalize)
    model.start(model.encode_latent(torch.from_numpy(normalizer.apply(vectors()))).detach(), 1)
    spec = {"kind": kind, "sizes": read.sizes, "width": WIDTH, "options": read.model_dump(mode="json")}
    return model, open_codec(spec, export_arrays(model, normalizer))


@pytest.mark.parametrize("case", CASES)
def test_codes_latents_and_reconstructions_equal_torch(case):
    model, codec = made(case)
    x = vectors()
    with torch.no_grad():
        z = model.encode_latent(torch.from_numpy(codec._normalizer.apply(x)))
        np.testing.assert_allclose(codec.latents(x), z.numpy(), atol=2e-5, rtol=1e-5)
        codes = model.codes(z)
        assert np.array_equal(codec.encode(x), codes.numpy())
        wanted = codec._normalizer.restore(model.decode_latent(model.words(codes)).numpy())
    np.testing.assert_allclose(codec.decode(codes.numpy()), wanted, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("case", CASES)
def test_codes_are_nearest_codewords_by_loops(case):
    _, codec = made(case)
    x = vectors(40)
    latents, codes = codec.latents(x).astype(np.float64), codec.encode(x)
    assert codes.dtype == np.int32
    for rest, row in zip(latents, codes, strict=True):
        for digit in range(len(codec.sizes)):
            book = codec.arrays()[f"codebook.{digit}"].astype(np.float64)
            assert int(np.square(book - rest).sum(1).argmin()) == row[digit]
            rest = rest - book[row[digit]]


@pytest.mark.parametrize("case", CASES)
def test_the_batch_changes_nothing_bit_for_bit(case, monkeypatch):
    _, codec = made(case)
    x = vectors()
    codes, decoded, latents = codec.encode(x), codec.decode(codec.encode(x)), codec.latents(x)
    costs = codec.last_digit_costs(x, codes)
    for size in (1, 2, 3, 7, 50):
        parts = [x[start : start + size] for start in range(0, len(x), size)]
        assert np.array_equal(np.vstack([codec.latents(part) for part in parts]), latents)
        assert np.array_equal(np.vstack([codec.encode(part) for part in parts]), codes)
        assert np.array_equal(np.vstack([codec.decode(codec.encode(part)) for part in parts]), decoded)
    for module, name, value in ((autoencoder, "BLOCK_ROWS", 5), (nearest, "PANEL", 16)):
        monkeypatch.setattr(module, name, value)
    again = open_codec(codec.spec(), codec.arrays())
    assert np.array_equal(again.encode(x), codes)
    assert np.array_equal(again.last_digit_costs(x, codes), costs)


def test_equal_codewords_go_to_the_smaller_number():
    _, codec = made("vq")
    arrays = codec.arrays()
    arrays["codebook.0"] = np.repeat(arrays["codebook.0"][:45], 2, axis=0)
    assert not (open_codec(codec.spec(), arrays).encode(vectors()) % 2).any()


def test_costs_of_the_last_digit_are_squared_distances_of_latents():
    _, codec = made("rq")
    x = vectors(30)
    codes = codec.encode(x)
    rest = codec.latents(x) - sum(codec.arrays()[f"codebook.{d}"][codes[:, d]] for d in (0, 1))
    wanted = np.square(rest[:, None] - codec.arrays()["codebook.2"][None]).sum(2)
    found = codec.last_digit_costs(x, codes)
    assert found.shape == (30, 7)
    np.testing.assert_allclose(found, wanted, atol=1e-4, rtol=1e-4)
    assert np.array_equal(found.argmin(1), codes[:, 2])


@pytest.mark.parametrize(("rows", "width", "out"), [(1, 3, 1), (5, 8, 15), (4, 7, 16), (6, 2, 37), (0, 4, 4)])
def test_a_layer_equals_the_product(rows, width, out):
    rng = np.random.default_rng(0)
    x, weight, bias = (rng.normal(size=shape).astype(np.float32) for shape in ((rows, width), (width, out), (out,)))
    np.testing.assert_allclose(linear(x, weight, bias), x @ weight + bias, atol=1e-5)


def test_files_give_the_same_codec(tmp_path):
    codec = fit_rq_vae(
        vectors(), seed=2, options={"codebooks": 2, "codebook_size": 8, "hidden_dims": [8], "latent_dim": 4,
                                    "epochs": 3, "warmup_epochs": 1}, context=FitContext(device="cpu"),
    )  # fmt: skip
    write_arrays(tmp_path / "codec.safetensors", codec.arrays())
    again = open_codec(codec.spec(), read_arrays(tmp_path / "codec.safetensors"))
    assert again.spec() == codec.spec()
    codes = codec.encode(vectors())
    assert np.array_equal(again.encode(vectors()), codes)
    assert np.array_equal(again.decode(codes), codec.decode(codes))
    assert {"mse", "validation_mse", "usage", "perplexity", "best_epoch"} <= set(codec.training)


def test_a_vq_vae_has_one_digit():
    options = {"codebook_size": 16, "hidden_dims": [8], "latent_dim": 4, "epochs": 3, "warmup_epochs": 1}
    codec = fit_vq_vae(vectors(), seed=2, options=options, context=FitContext(device="cpu"))
    assert codec.kind == "vq-vae"
    assert codec.encode(vectors()).shape == (120, 1)


def test_bad_input_is_refused():
    _, codec = made("rq")
    with pytest.raises(DataError, match="expected by rq-vae"):
        codec.encode(vectors()[:, :5])
    with pytest.raises(QueryError, match="out of range"):
        codec.decode(np.array([[0, 16, 0]]))
    assert codec.encode(vectors(0)).shape == (0, 3)


@pytest.mark.parametrize("name", ["codebook.1", "mean", "encoder.1.weight", "decoder.0.weight", "encoder.2.bias"])
def test_arrays_that_do_not_fit_are_refused(name):
    _, codec = made("rq")
    arrays = codec.arrays()
    arrays[name] = arrays[name][:-1]
    with pytest.raises(ValueError):
        open_codec(codec.spec(), arrays)
    del arrays[name]
    with pytest.raises((KeyError, ValueError)):
        open_codec(codec.spec(), arrays)


def test_encoding_loads_no_torch():
    code = "import sys, sparcode.semantic_id.codecs.autoencoder; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_torch_the_extra_is_named(monkeypatch):
    monkeypatch.delitem(sys.modules, "sparcode.train.item_autoencoder", raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError, match=r"sparcode\[train\]"):
        fit_rq_vae(vectors(), seed=0, options={}, context=FitContext())


@pytest.mark.parametrize("kind", ["rq-vae", "vq-vae"])
def test_sizes_that_nobody_gives_are_those_of_the_options(kind):
    large = {"rq-vae": autoencoder.DEFAULT_SIZE, "vq-vae": autoencoder.VQ_SIZE}[kind]
    assert set(read_options(kind, {}).sizes) == {large}
