"""Configuration: errors that help, overrides, TOML there and back."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparcode.config import Config, config_from_dict, known_keys, load_config, to_toml, updated
from sparcode.errors import ConfigError

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def written(folder: Path, text: str) -> Path:
    """Write a TOML file."""
    (folder / "c.toml").write_text(text)
    return folder / "c.toml"


def test_nothing_given_is_the_defaults():
    assert load_config() == Config()


def test_a_file_holds_differences_only(tmp_path: Path):
    config = load_config(written(tmp_path, "seed = 3\n[model]\nheads = 4\n[families.item]\nenabled = false\n"))
    assert config == updated(Config(), {"seed": 3, "model.heads": 4, "families.item.enabled": False})


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("model.heads=4", "heads", 4),
        ("model.tokenizer=gru4rec", "tokenizer", "gru4rec"),
        ("model.tokenizer='gru4rec'", "tokenizer", "gru4rec"),
        (" model.dropout = 0.5 ", "dropout", 0.5),
        ("model.item_content=true", "item_content", True),
    ],
)
def test_overrides(override: str, key: str, value: object):
    assert getattr(load_config(None, [override]).model, key) == value


def test_overrides_win_over_the_file_and_later_ones_over_earlier(tmp_path: Path):
    path = written(tmp_path, "[model]\nheads = 2\nwidth = 32\n")
    config = load_config(path, ["model.heads=3", "model.heads=5"])
    assert (config.model.heads, config.model.width) == (5, 32)


def test_a_condition_with_an_equals_sign_stays_text():
    assert load_config(None, ["data.where=in_sasrec=true"]).data.where == "in_sasrec=true"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.head=4"], "unknown configuration key 'model.head'; did you mean 'model.heads'?"),
        (["heads=4"], "unknown configuration key 'heads'; did you mean 'model.heads'?"),
        (["modle.heads=4"], "unknown configuration key 'modle'; did you mean 'model'?"),
        (["families.items.enabled=false"], "did you mean 'families.item'?"),
        (["seed.x=1"], "configuration key 'seed': got {'x': 1}"),
        (["qqqqqq.zzzzzz=1"], "unknown configuration key 'qqqqqq'"),
        (["model.heads"], "expected KEY=VALUE"),
        (["=4"], "expected KEY=VALUE"),
        (["model.heads=many"], "'model.heads': got 'many'"),
        (["model.heads=0"], "greater than or equal to 1"),
        (["model.dropout=1.5"], "'model.dropout': got 1.5"),
        (["model.tokenizer=bert"], "'sasrec', 'gru4rec'"),
        (["model.dropout=nan"], "'model.dropout'"),
        (["model=4"], "'model'"),
        (["seed=1", "seed.x=2"], "unknown configuration key 'seed.x'"),
    ],
)
def test_mistakes_are_one_line_that_helps(overrides: list[str], message: str):
    with pytest.raises(ConfigError) as caught:
        load_config(None, overrides)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["seed = ", "seed = 1\nseed = 2\n", "\xff\xfe"])
def test_a_broken_file_names_itself(tmp_path: Path, content: str):
    path = tmp_path / "c.toml"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(ConfigError, match=r"c\.toml: not valid TOML"):
        load_config(path)


def test_a_missing_file_names_itself(tmp_path: Path):
    with pytest.raises(ConfigError, match="no such file"):
        load_config(tmp_path / "none.toml")


def test_updated_validates_and_leaves_the_first_alone():
    config = Config()
    assert updated(config, {"model.heads": 4}).model.heads == 4
    assert config == Config()
    with pytest.raises(ConfigError, match=r"did you mean 'model\.heads'"):
        updated(config, {"model.headz": 4})
    with pytest.raises(ValueError, match="frozen"):
        config.model.width = 3


@given(
    TEXT,
    st.dictionaries(st.sampled_from(["user", "item", "time", "rating"]), TEXT, max_size=3),
    st.none() | st.floats(1e-12, 1e12),
    st.none() | st.integers(1, 32),
    st.booleans(),
)
def test_toml_there_and_back(where, columns, rate, heads, enabled):
    changes = {"data.where": where, "data.columns": columns, "model.heads": heads, "families.item.enabled": enabled}
    config = updated(Config(), changes | ({} if rate is None else {"train.learning_rate": rate}))
    assert config_from_dict(tomllib.loads(to_toml(config))) == config


def test_known_keys_can_all_be_set():
    values = Config().model_dump()
    for key in known_keys():
        found = values
        for part in key.split("."):
            found = found[part]
        assert updated(Config(), {key: found}) == Config(), key


# Their names say all there is to say.
SPEAKING = {
    "data.split_by", "model.tokenizer", "model.width", "model.dropout", "quantizer.kind", "quantizer.ema_decay",
    "quantizer.commitment", "scorer.kind", "loss.kind", "train.learning_rate", "train.weight_decay",
    "train.precision", "families.learned.enabled", "families.item.enabled", "index.policy", "index.bias",
    "baselines.two_tower", "baselines.item_knn_neighbours", "seed",
}  # fmt: skip


@pytest.mark.parametrize("key", known_keys())
def test_every_key_is_described(key: str):
    section: type = Config
    *parents, last = key.split(".")
    for parent in parents:
        section = section.model_fields[parent].annotation
        assert section.__doc__
    assert key in SPEAKING or section.model_fields[last].description, f"{key} needs a description"


def test_a_file_of_changes_holds_only_these():
    config = updated(Config(), {"model.heads": 4, "data.columns": {"user": "u"}, "families.item.length": 7})
    text = to_toml(config, changes_only=True)
    assert tomllib.loads(text) == {
        "model": {"heads": 4}, "data": {"columns": {"user": "u"}}, "families": {"item": {"length": 7}}
    }  # fmt: skip
    assert config_from_dict(tomllib.loads(text)) == config
    assert to_toml(Config(), changes_only=True).strip() == ""
