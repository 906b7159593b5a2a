"""Array files: round trip, determinism, read-only maps, and every kind of damage."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sparcode.errors import CorruptIndexError
from sparcode.index.arrays import export_encoder, open_encoder_files, read_arrays, read_metadata, write_arrays

TYPES = [np.float32, np.float64, np.int64, np.int32, np.uint16, np.uint8, np.bool_]


def sample() -> dict[str, np.ndarray]:
    return {
        "b": np.arange(6, dtype=np.float32).reshape(2, 3).T,
        "a": np.arange(5, dtype=np.uint16),
        "scalar": np.array(2.5, dtype=np.float32),
        "none": np.zeros((0, 4), dtype=np.int32),
    }


@given(
    array=hnp.arrays(
        st.sampled_from(TYPES), hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4), elements={}
    )
)
@settings(max_examples=25, deadline=None)
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, array: np.ndarray) -> None:
    path = tmp_path_factory.mktemp("arrays") / "x.safetensors"
    write_arrays(path, {"x": array, "y": array})
    back = read_arrays(path, verify=True)
    for name in ("x", "y"):
        assert back[name].dtype == array.dtype
        np.testing.assert_array_equal(back[name], array)


def test_views_are_read_only_and_sorted(tmp_path: Path) -> None:
    path = tmp_path / "new" / "x.safetensors"
    write_arrays(path, sample(), {"epochs": 3})
    arrays = read_arrays(path)
    assert list(arrays) == sorted(sample())
    assert read_metadata(path) == {"epochs": 3}
    for name, value in sample().items():
        np.testing.assert_array_equal(arrays[name], value)
        assert not arrays[name].flags.writeable
        assert arrays[name].flags.aligned


def test_equal_content_gives_equal_bytes(tmp_path: Path) -> None:
    reverse = dict(reversed(sample().items()))
    write_arrays(tmp_path / "1", sample(), {"x": 1, "y": 2})
    write_arrays(tmp_path / "2", reverse, {"y": 2, "x": 1})
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["1", "2"]


def test_old_views_survive_a_new_version(tmp_path: Path) -> None:
    path = tmp_path / "x"
    write_arrays(path, {"a": np.arange(4)})
    old = read_arrays(path)["a"]
    write_arrays(path, {"a": np.arange(4) + 10})
    np.testing.assert_array_equal(old, np.arange(4))


def test_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x"
    write_arrays(path, sample())
    before = path.read_bytes()

    def fail(*args: object, **keywords: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("sparcode.index.arrays.save_file", fail)
    with pytest.raises(OSError, match="no space"):
        write_arrays(path, {"a": np.zeros(3)})
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


@pytest.mark.parametrize("keep", [0, 5, 9, 60, -1])
def test_truncation_is_named(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "x.safetensors"
    write_arrays(path, sample())
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CorruptIndexError, match=r"x\.safetensors is damaged") as caught:
        read_arrays(path)
    assert "\n" not in str(caught.value)


def test_appended_bytes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x"
    write_arrays(path, sample())
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(CorruptIndexError):
        read_arrays(path)


def test_every_flipped_bit_is_found_by_verify(tmp_path: Path) -> None:
    path = tmp_path / "x"
    write_arrays(path, {"a": np.arange(3, dtype=np.uint8), "b": np.arange(2, dtype=np.float32)})
    whole = path.read_bytes()
    for position in range(8, len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 1
        path.write_bytes(bytes(damaged))
        try:
            arrays = read_arrays(path, verify=True)
        except CorruptIndexError:
            continue
        # Only padding or an ignored key of the header may change unnoticed, never an array.
        assert list(arrays["a"]) == [0, 1, 2]
        assert list(arrays["b"]) == [0, 1]


def test_missing_file_and_foreign_types(tmp_path: Path) -> None:
    with pytest.raises(CorruptIndexError, match="does not exist"):
        read_arrays(tmp_path / "none")
    with pytest.raises(TypeError, match="'a'"):
        write_arrays(tmp_path / "x", {"a": np.array(["text"])})


def test_encoder_files(tmp_path: Path) -> None:
    export_encoder(tmp_path, "encoder", {"width": 4}, sample())
    spec, arrays = open_encoder_files(tmp_path, "encoder")
    assert spec == {"width": 4}
    assert set(arrays) == set(sample())
    (tmp_path / "encoder.json").write_text("[]")
    with pytest.raises(CorruptIndexError, match="expected an object"):
        open_encoder_files(tmp_path, "encoder")


def test_files_are_readable_as_the_umask_says(tmp_path):
    plain = tmp_path / "plain"
    plain.write_text("x")
    write_arrays(tmp_path / "a.safetensors", {"x": np.zeros(3, np.float32)})
    assert (tmp_path / "a.safetensors").stat().st_mode == plain.stat().st_mode
