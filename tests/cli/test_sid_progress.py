"""What ``sparcode sid fit`` shows while it works: a bar on a terminal, some lines elsewhere, nothing with --json."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from sparcode.semantic_id.tokenizer import SemanticIdTokenizer
from sparcode_cli.main import app
from sparcode_cli.sid_progress import FitProgress, figures
from tests.semantic_id.worlds import planted

SETTINGS = {"codebooks": 2, "codebook_size": 8, "hidden_dims": [8], "latent_dim": 4, "epochs": 20, "patience": 20,
            "init": "kmeans", "warmup_epochs": 1}  # fmt: skip
ENTRY: dict[str, Any] = {
    "epoch": 4, "epochs": 30, "mse": 0.12345, "validation_mse": 0.25, "usage": [1.0, 0.75], "perplexity": [7.6, 5.2],
}  # fmt: skip


def terminal() -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=160, color_system=None)


def shown(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def fit(tmp_path: Path, method: str, settings: dict[str, Any], *more: str) -> Result:
    np.save(tmp_path / "e.npy", planted(80).vectors)
    given = [part for name, value in settings.items() for part in ("--set", f"{name}={json.dumps(value)}")]
    arguments = ["sid", "fit", str(tmp_path / "e.npy"), "--method", method, "--out", str(tmp_path / "s"), *given, *more]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    return result


def test_figures_of_an_epoch() -> None:
    assert figures(ENTRY) == "mse 0.1235 validation 0.25 least usage 75% perplexity 8/5"
    assert figures({"mse": 1.0, "validation_mse": None}) == "mse 1 codebooks not started"


def test_a_terminal_shows_stages_and_epochs() -> None:
    console = terminal()
    with FitProgress(console=console) as progress:
        progress.stage("reading embeddings")
        progress.stage("fitting rq-vae")
        progress.epoch(ENTRY)
        progress._bars.rich.refresh()
        assert "fitting rq-vae" in shown(console)
        assert f"epoch 5/30 {figures(ENTRY)}" in shown(console)
        assert (progress._bars.rich.tasks[0].completed, progress._bars.rich.tasks[0].total) == (5, 30)
        progress.stage("encoding items")  # training stopped early
        assert progress._bars.rich.tasks[0].completed == 30
    assert shown(console).rstrip("\n\x1b[?25h").splitlines()[-1].lstrip("\x1b[2K\r").startswith("fitted")


def test_a_failure_leaves_the_terminal_as_it_was() -> None:
    console = terminal()

    def failing() -> None:
        with FitProgress(console=console) as progress:
            progress.stage("reading embeddings")
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        failing()
    assert "fitted" not in shown(console)
    assert "\x1b[?25h" in shown(console)  # the cursor is back


def test_quiet_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    for console in (terminal(), Console(file=io.StringIO())):
        with FitProgress(quiet=True, console=console) as progress:
            progress.stage("fitting rq-vae")
            progress.epoch(ENTRY | {"epoch": 29})
        assert shown(console) == ""
    assert capsys.readouterr().err == ""


def test_without_a_terminal_there_is_a_line_every_ten_epochs(capsys: pytest.CaptureFixture[str]) -> None:
    with FitProgress(console=Console(file=io.StringIO())) as progress:
        progress.stage("fitting rq-vae")
        for epoch in range(24):
            progress.epoch(ENTRY | {"epoch": epoch, "epochs": 24})
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[1] for line in lines] == ["10/24", "20/24", "24/24"]
    assert lines[0] == f"epoch 10/24 {figures(ENTRY)}"


@pytest.mark.parametrize("method", ["rq-vae", "vq-vae"])
def test_training_is_told_by_the_command(method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    settings = SETTINGS if method == "rq-vae" else {**SETTINGS, "codebooks": 1}
    lines = [line for line in fit(tmp_path, method, settings).stderr.splitlines() if line.startswith("epoch ")]
    assert [line.split()[1] for line in lines] == ["10/20", "20/20"]
    assert all("least usage" in line and "perplexity" in line for line in lines)
    result = fit(tmp_path, method, settings, "--json")
    assert [line for line in result.stderr.splitlines() if not line.startswith("warning: ")] == []
    content = json.loads(result.stdout)
    assert content["method"] == method
    assert content["training"]["epochs"] == 20
    again = CliRunner().invoke(app, ["sid", "info", str(tmp_path / "s")])
    assert "validation_mse" in again.stdout.partition("training")[2]
    console = terminal()
    monkeypatch.setattr("sparcode_cli.sid.FitProgress", lambda quiet: FitProgress(quiet, console))
    assert "epoch 20" not in fit(tmp_path, method, settings).stderr
    assert "epoch 20/20 mse" in shown(console)


def test_methods_without_epochs_show_no_line_without_a_terminal(tmp_path: Path) -> None:
    stderr = fit(tmp_path, "rq-kmeans", {"codebooks": 2, "codebook_size": 8}).stderr
    assert [line.split()[0] for line in stderr.splitlines() if not line.startswith("warning: ")] == ["wrote"]


@pytest.mark.parametrize("policy", ["none", "extra-digit"])
def test_stages_come_in_order_and_once(policy: str) -> None:
    stages: list[str] = []
    tokenizer = SemanticIdTokenizer("rq-kmeans", codebooks=2, codebook_size=8, collisions=policy)
    tokenizer.fit(planted(80).vectors, stage=stages.append)
    last = "measuring collisions" if policy == "none" else "resolving collisions (extra-digit)"
    assert stages == ["fitting rq-kmeans", "encoding items", last]
