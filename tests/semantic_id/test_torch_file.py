"""Files of torch.save, read without torch: equal to what torch reads, and never executed."""

from __future__ import annotations

import io
import pickle
import tempfile
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparcode.errors import DataError
from sparcode.semantic_id.embeddings import read_embeddings
from sparcode.semantic_id.torch_file import read_tensors

torch = pytest.importorskip("torch")
X = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)


def saved(path: Path, content: object, **options: object) -> Path:
    torch.save(content, path, **options)
    return path


def refused(path: Path, *words: str) -> None:
    with pytest.raises(DataError) as caught:
        read_tensors(path)
    assert "\n" not in str(caught.value)
    assert all(word in str(caught.value) for word in words), str(caught.value)


@pytest.mark.parametrize(
    "dtype", ["float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool"]
)
def test_every_type(tmp_path: Path, dtype: str) -> None:
    tensor = torch.from_numpy(X * 3).to(getattr(torch, dtype))
    found = read_tensors(saved(tmp_path / "e.pt", tensor))["tensor"]
    expected = tensor.float() if dtype == "bfloat16" else tensor
    assert found.dtype == expected.numpy().dtype
    assert np.array_equal(found, expected.numpy())


@pytest.mark.parametrize(
    "content",
    [
        torch.from_numpy(X).T,
        torch.from_numpy(X)[1:4, ::2],
        torch.nn.Parameter(torch.from_numpy(X)),
        torch.zeros(0, 4),
        torch.tensor(2.5),
    ],
    ids=["transposed", "slice", "parameter", "empty", "scalar"],
)
def test_views_and_parameters(tmp_path: Path, content: torch.Tensor) -> None:
    found = read_tensors(saved(tmp_path / "e.pt", content))["tensor"]
    assert np.array_equal(found, content.detach().numpy())


def test_containers_are_named_by_dots(tmp_path: Path) -> None:
    x = torch.from_numpy(X)
    content = {
        "state": OrderedDict(weight=x, bias=x[0]), "parts": [x, (x + 1, "note")], "ids": [4, 5, 6, 7, 8],
        "names": list("abcde"), "epoch": 3, "rate": 0.5, "more": None, "done": True, "size": x.shape, "big": 2**70,
    }  # fmt: skip
    found = read_tensors(saved(tmp_path / "e.pt", content))
    assert set(found) == {"state.weight", "state.bias", "parts.0", "parts.1.0", "ids", "names", "size"}
    assert np.array_equal(found["parts.1.0"], X + 1)
    assert found["ids"] == [4, 5, 6, 7, 8]


DTYPES = (
    torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8,
    torch.uint8, torch.bool,
)  # fmt: skip
VIEWS: tuple[Callable[[torch.Tensor], torch.Tensor], ...] = (
    lambda x: x, lambda x: x.T, lambda x: x[1:], lambda x: x[:, ::2], lambda x: x[0], lambda x: x[:0],
    torch.nn.Parameter,
)  # fmt: skip
NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="."), min_size=1, max_size=8)


@st.composite
def tensors(draw: st.DrawFn) -> torch.Tensor:
    shape = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    values = torch.from_numpy(np.random.default_rng(draw(st.integers(0, 99))).normal(size=shape) * 50)
    dtype = draw(st.sampled_from(DTYPES))
    view = draw(st.sampled_from(VIEWS if dtype.is_floating_point else VIEWS[:-1]))
    return view(values.to(dtype))


SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | NAMES
CONTENTS = st.recursive(
    tensors() | SCALARS | st.lists(st.integers(-(2**70), 2**70), min_size=1) | st.lists(NAMES, min_size=1),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(NAMES, inner, max_size=3)
        | st.dictionaries(NAMES, inner, max_size=3).map(OrderedDict)
    ),
    max_leaves=8,
)


def expected(content: Any, name: str = "") -> dict[str, Any]:
    """Return the tensors and lists of what torch read, by dotted name."""
    if isinstance(content, torch.Tensor):
        tensor = content.detach()
        return {name or "tensor": (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()}
    if isinstance(content, list | tuple) and {type(value) for value in content} in ({str}, {int}):
        return {name or "list": list(content)}
    parts = (
        content.items()
        if isinstance(content, dict)
        else enumerate(content)
        if isinstance(content, list | tuple)
        else ()
    )
    found: dict[str, Any] = {}
    for key, value in parts:
        found |= expected(value, f"{name}.{key}" if name else str(key))
    return found


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(CONTENTS)
def test_whatever_torch_reads_is_read_equally(content: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = saved(Path(folder, "e.pt"), content)
        wanted = expected(torch.load(file, weights_only=True))
        found = read_tensors(file)
        assert found.keys() == wanted.keys()
        for name, value in wanted.items():
            if isinstance(value, list):
                assert found[name] == value
            else:
                assert found[name].dtype == value.dtype
                np.testing.assert_array_equal(found[name], value)


@pytest.mark.parametrize("content", [Path("a"), {"f": print}, torch.nn.Linear(2, 2), {"r": np.random.default_rng()}],
                         ids=["object", "function", "module", "generator"])  # fmt: skip
def test_what_torch_refuses_is_refused(tmp_path: Path, content: object) -> None:
    file = saved(tmp_path / "e.pt", content)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(file, weights_only=True)
    refused(file, "not executed")


def test_a_state_dict_of_a_module(tmp_path: Path) -> None:
    module = torch.nn.Embedding(7, 3)
    embeddings = read_embeddings(saved(tmp_path / "e.pt", module.state_dict()))
    assert np.array_equal(embeddings.vectors, module.weight.detach().numpy())
    assert embeddings.ids.to_pylist() == list(range(7))


def test_embeddings_with_ids(tmp_path: Path) -> None:
    x = torch.from_numpy(X)
    file = saved(tmp_path / "e.pth", {"item_embeddings": x, "item_id": torch.arange(5) + 9, "names": list("abcde")})
    assert read_embeddings(file).ids.to_pylist() == [9, 10, 11, 12, 13]
    assert read_embeddings(file, ids="names").ids.to_pylist() == list("abcde")
    with pytest.raises(DataError, match="no tensor 'x'"):
        read_embeddings(file, column="x")
    file = saved(tmp_path / "e.pt", {"a": x, "b": x})
    with pytest.raises(DataError, match="'a', 'b'"):
        read_embeddings(file)
    assert np.array_equal(read_embeddings(file, column="b").vectors, X)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_protocol(tmp_path: Path, protocol: int) -> None:
    file = saved(tmp_path / "e.pt", {"x": torch.from_numpy(X), "n": list("abcde")}, pickle_protocol=protocol)
    assert np.array_equal(read_tensors(file)["x"], X)


class Bomb:
    """An object whose unpickling would write a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple:
        return Path.write_text, (self.target, "executed")


@pytest.mark.parametrize("protocol", [2, 4])
def test_nothing_is_executed(tmp_path: Path, protocol: int) -> None:
    trap = tmp_path / "trap"
    content = {"x": torch.from_numpy(X), "bomb": Bomb(trap)}
    file = saved(tmp_path / "e.pt", content, pickle_protocol=protocol)
    refused(file, "not executed")
    assert not trap.exists()
    torch.load(file, weights_only=False)
    assert trap.exists()  # it was a working one


def test_whole_modules_are_refused(tmp_path: Path) -> None:
    refused(saved(tmp_path / "e.pt", torch.nn.Linear(2, 2)), "Linear", "not executed")


def test_files_of_another_kind(tmp_path: Path) -> None:
    file = saved(tmp_path / "e.pt", torch.from_numpy(X), _use_new_zipfile_serialization=False)
    refused(file, "before torch 1.6")
    file.write_bytes(pickle.dumps([1, 2]))
    refused(file, "no zip archive")
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a/readme", "")
    refused(file, "0 data.pkl")
    squeezed(saved(file, torch.from_numpy(X)))
    refused(file, "compressed")


def squeezed(file: Path) -> None:
    with zipfile.ZipFile(io.BytesIO(file.read_bytes())) as old, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))


def rewritten(file: Path, change: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(io.BytesIO(file.read_bytes())) as old, zipfile.ZipFile(file, "w") as new:
        for name in old.namelist():
            new.writestr(name, change.get(name.partition("/")[2], old.read(name)))
    return file


def test_another_byte_order_is_refused(tmp_path: Path) -> None:
    file = saved(tmp_path / "e.pt", torch.from_numpy(X))
    refused(rewritten(file, {"byteorder": b"big"}), "byte order")


def test_a_storage_that_is_too_short(tmp_path: Path) -> None:
    file = saved(tmp_path / "e.pt", torch.from_numpy(X))
    refused(rewritten(file, {"data/0": b"1234"}), "storage 0 has 4 bytes, expected 80")


def test_an_expanded_tensor_is_refused(tmp_path: Path) -> None:
    refused(saved(tmp_path / "e.pt", torch.zeros(1).expand(10**6, 10**6)), "expanded")


def test_a_container_that_holds_itself(tmp_path: Path) -> None:
    loop: list = []
    loop.append([loop])
    refused(saved(tmp_path / "e.pt", loop), "damaged")


def test_damaged_descriptions_are_errors_and_nothing_else(tmp_path: Path) -> None:
    file = saved(tmp_path / "e.pt", {"x": torch.from_numpy(X), "y": [torch.from_numpy(X), "z", 3, 2.5]})
    with zipfile.ZipFile(file) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("data.pkl")]
        program = archive.read(name)
    intact = file.read_bytes()
    random = np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(program)
        for place in random.integers(0, len(program), 2):
            damaged[place] = random.integers(0, 256)
        file.write_bytes(intact)
        rewritten(file, {"data.pkl": bytes(damaged)})
        with suppress(DataError):
            read_tensors(file)
    for cut in range(0, len(intact), 37):
        file.write_bytes(intact[:cut])
        with pytest.raises(DataError):
            read_tensors(file)
