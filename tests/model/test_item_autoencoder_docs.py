"""docs/item-autoencoder.md lists every option with its default."""

from __future__ import annotations

from pathlib import Path

from sparcode.model.item_autoencoder_options import ItemAutoencoderOptions, read_options

PAGE = Path(__file__).resolve().parents[2] / "docs" / "item-autoencoder.md"


def test_the_page_lists_the_options_and_their_defaults():
    import tomllib

    lines = PAGE.read_text(encoding="utf-8").split("## All options")[1].splitlines()
    cells = [line.strip("| ").split(" | ") for line in lines if line.startswith("| `")]
    assert [name.strip("`") for name, *_ in cells] == list(ItemAutoencoderOptions.model_fields)
    for name, default, _ in cells:
        field = ItemAutoencoderOptions.model_fields[name.strip("`")]
        text = isinstance(field.default, str)
        shown = None if default == "absent" else default if text else tomllib.loads(f"x = {default}")["x"]
        assert shown == (list(field.default) if isinstance(field.default, tuple) else field.default), name


def test_values_of_the_command_line_are_taken():
    read = read_options("rq-vae", {"hidden_dims": [8, 4], "codebook_size": [8, 4], "learning_rate": 1, "epochs": 5})
    assert (read.hidden_dims, read.sizes, read.learning_rate) == ((8, 4), (8, 4), 1.0)
