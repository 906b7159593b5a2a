"""Every command on one small trained run: what it prints, what it writes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from sparcode_cli.main import app

if TYPE_CHECKING:
    from tests.conftest import TinyRun

WITHOUT_TRAINING = """
import sys
for name in ("torch", "scipy", "faiss", "hnswlib", "matplotlib", "optuna", "pandas", "polars"):
    sys.modules[name] = None
from sparcode_cli.main import run
run()
"""


def output(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_validate(planted: Path) -> None:
    report = json.loads(output("data", "validate", planted, "--json"))
    assert report["users"] == 120
    assert "120 users" in output("data", "validate", planted)


def test_query_json_has_the_fixed_shape(tiny_run: TinyRun) -> None:
    answers = json.loads(output("query", tiny_run.folder, "--user", tiny_run.user, "-k", 7, "--json"))
    assert len(answers) == 7
    assert all({"item_id", "score", "title", "filled"} <= set(answer) for answer in answers)
    assert all((answer["score"] is None) == answer["filled"] for answer in answers)


def test_query_text_shows_titles(tiny_run: TinyRun) -> None:
    lines = output("query", tiny_run.folder, "--items", ",".join(tiny_run.items), "-k", 3).splitlines()
    assert len(lines) == 4
    assert all("Item " in line for line in lines[1:])


def test_query_leaves_out_seen_items_unless_asked(tiny_run: TinyRun) -> None:
    items = ",".join(tiny_run.items)
    default = json.loads(output("query", tiny_run.folder, "--items", items, "-k", 60, "--json"))
    everything = json.loads(output("query", tiny_run.folder, "--items", items, "-k", 60, "--include-seen", "--json"))
    assert not {str(answer["item_id"]) for answer in default} & set(tiny_run.items)
    assert {str(answer["item_id"]) for answer in everything} >= set(tiny_run.items)


def test_query_without_history_is_filled_by_popularity(tiny_run: TinyRun) -> None:
    answers = json.loads(output("query", tiny_run.folder, "--items", "", "-k", 5, "--json"))
    assert [answer["filled"] for answer in answers] == [True] * 5


def test_query_allow_and_deny(tiny_run: TinyRun, tmp_path: Path) -> None:
    (tmp_path / "allow.txt").write_text("120\n121\n122\n")
    (tmp_path / "deny.txt").write_text("121\n")
    lists = ["--allow", tmp_path / "allow.txt", "--deny", tmp_path / "deny.txt"]
    answers = json.loads(output("query", tiny_run.folder, "--items", tiny_run.items[0], *lists, "--json"))
    assert sorted(str(answer["item_id"]) for answer in answers) == ["120", "122"]


def test_query_where(tiny_run: TinyRun) -> None:
    where = ["--where", "categories='group 1' and year>=1970", "--deny", "121, 125"]
    lines = ["query", tiny_run.folder, "--items", tiny_run.items[0], *where, "-k", 50]
    answers = json.loads(output(*lines, "--json"))
    assert sorted(answer["item_id"] for answer in answers) == list(range(129, 160, 4))
    few = json.loads(output(*lines, "--allow", "129,133", "--json"))
    assert {answer["item_id"] for answer in few} == {129, 133}
    assert not any(answer["filled"] for answer in few), "an allow list this short is rescored whole"


def test_similar_and_predict_take_the_same_filters(tiny_run: TinyRun, tmp_path: Path) -> None:
    (tmp_path / "deny.txt").write_text("159\n")
    filters = ["--where", "year>2000", "--deny", tmp_path / "deny.txt", "-k", 9]
    answers = json.loads(output("similar", tiny_run.folder, "--item", tiny_run.item, *filters, "--json"))
    assert sorted(answer["item_id"] for answer in answers) == list(range(151, 159))
    (tmp_path / "users.txt").write_text(tiny_run.user)
    output("predict", tiny_run.folder, "--users", tmp_path / "users.txt", "--out", tmp_path / "p.parquet", *filters)
    assert set(pq.read_table(tmp_path / "p.parquet")["item_id"].to_pylist()) <= set(range(151, 159))


def test_notes_say_what_was_filled_and_what_is_missing(tiny_run: TinyRun) -> None:
    arguments = ["query", str(tiny_run.folder), "--items", "", "--where", "year<1953", "-k", "5"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0
    assert result.stdout.count("popular") == 3
    assert result.stderr.splitlines() == [
        "3 of 3 filled by popularity: the lists that were read hold no other eligible item",
        "3 of 5 answered: no other item is eligible",
    ]


def test_a_value_that_no_item_has_is_an_empty_answer_with_a_hint(tiny_run: TinyRun) -> None:
    arguments = ["query", str(tiny_run.folder), "--user", tiny_run.user, "--where", "categories=group"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0
    hint, count = result.stderr.splitlines()
    assert "no item has categories='group'; did you mean 'group " in hint
    assert count.startswith("0 of 10 answered")


@pytest.mark.parametrize(
    ("filters", "code", "message"),
    [
        (
            ["--where", "yaer>1990"],
            1,
            "no column 'yaer' (did you mean 'year'?); columns found: title, categories, year",
        ),
        (["--where", "(year>"], 1, "where '(year>': found the end at character 7, expected a value"),
        (["--deny", "101,1o2"], 1, "unknown item '1o2'"),
        (["--allow", "ids.txt"], 1, "ids.txt: no such file"),
        (["--allow", "some/where"], 1, "some/where: no such file"),
        (["--deny", " , "], 2, "expected ids such as 123,456, or a file of ids"),
    ],
)
def test_bad_filters_are_one_line(tiny_run: TinyRun, filters: list[str], code: int, message: str) -> None:
    result = CliRunner().invoke(app, ["query", str(tiny_run.folder), "--user", tiny_run.user, *filters])
    assert result.exit_code == code
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_unknown_user_is_one_line(tiny_run: TinyRun) -> None:
    result = CliRunner().invoke(app, ["query", str(tiny_run.folder), "--user", "nobody"])
    assert result.exit_code == 1
    assert "nobody" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_query_answers_without_torch_and_scipy(tiny_run: TinyRun) -> None:
    arguments = ["query", str(tiny_run.folder), "--user", tiny_run.user, "--json"]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TRAINING, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == json.loads(output(*arguments))


def test_predict_writes_what_query_answers(tiny_run: TinyRun, tmp_path: Path) -> None:
    (tmp_path / "users.txt").write_text(f"{tiny_run.user}\nu001\n")
    output("predict", tiny_run.folder, "--users", tmp_path / "users.txt", "--out", tmp_path / "p.parquet", "-k", 4)
    rows = pq.read_table(tmp_path / "p.parquet").to_pylist()
    answers = json.loads(output("query", tiny_run.folder, "--user", tiny_run.user, "-k", 4, "--json"))
    assert [row["user_id"] for row in rows] == [tiny_run.user] * 4 + ["u001"] * 4
    assert [row["rank"] for row in rows[:4]] == [0, 1, 2, 3]
    assert [row["item_id"] for row in rows[:4]] == [answer["item_id"] for answer in answers]


def test_similar(tiny_run: TinyRun) -> None:
    answers = json.loads(output("similar", tiny_run.folder, "--item", tiny_run.item, "-k", 5, "--json"))
    assert len(answers) == 5
    assert tiny_run.item not in {str(answer["item_id"]) for answer in answers}


def test_explain(tiny_run: TinyRun) -> None:
    top = json.loads(output("query", tiny_run.folder, "--user", tiny_run.user, "-k", 1, "--json"))[0]
    arguments = ["explain", tiny_run.folder, "--user", tiny_run.user, "--item", top["item_id"]]
    explanation = json.loads(output(*arguments, "--json"))
    assert explanation["lists"]
    assert "lists" in output(*arguments)


def test_info_and_verify(tiny_run: TinyRun) -> None:
    assert json.loads(output("info", tiny_run.folder, "--verify", "--json"))["items"] == 60
    assert "items" in output("info", tiny_run.folder)


def test_evaluate_writes_the_fixed_shapes(tiny_run: TinyRun, tmp_path: Path) -> None:
    files = ["--json", tmp_path / "e.json", "--per-query", tmp_path / "q.parquet"]
    names = ["--retriever", "sparcode", "--retriever", "popular"]
    text = output("evaluate", tiny_run.folder, *files, *names)
    document = json.loads((tmp_path / "e.json").read_text())
    assert document["split"] == "test"
    assert [result["retriever"] for result in document["results"]] == ["sparcode", "popular"]
    expected = {"recall@10", "ndcg@10", "recall@50", "ndcg@50", "precision@50", "hit_rate@10", "mrr", "coverage@10"}
    assert expected <= set(document["results"][0]["metrics"])
    assert document["results"][0]["queries"] == 120
    assert "popular" in text
    columns = pq.read_table(tmp_path / "q.parquet").column_names
    assert columns == ["retriever", "user_id", "target", "rank", "item_ids"]


def test_evaluate_opens_every_retriever_of_the_run(tiny_run: TinyRun) -> None:
    names = [line.split()[0] for line in output("evaluate", tiny_run.folder, "--split", "validation").splitlines()[1:]]
    baselines = ["two-tower", "additive", "counts", "item-knn", "recent-popular", "popular"]
    assert names == ["sparcode", "sparcode-cache", "all-to-all", *baselines]


def test_unknown_retriever(tiny_run: TinyRun) -> None:
    result = CliRunner().invoke(app, ["evaluate", str(tiny_run.folder), "--retriever", "two-towers"])
    assert result.exit_code == 1
    assert "two-tower" in result.stderr


def test_benchmark_writes_table_json_and_plots(tiny_run: TinyRun, tmp_path: Path) -> None:
    text = output("benchmark", tiny_run.folder, "--json", tmp_path / "b.json")
    rows = json.loads((tmp_path / "b.json").read_text())["rows"]
    assert {"sparcode", "sparcode-cache"} <= {row["system"] for row in rows}
    assert all({"p50", "p95"} <= set(row["latency_us"]["total"]) for row in rows)
    assert (tmp_path / "b.md").is_file()
    assert list(tmp_path.glob("*.png"))
    assert "sparcode-cache" in text


def test_train_and_build_from_the_command_line(planted: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    sizes = ["model.width=8", "quantizer.codewords=8", "train.epochs=1", "train.threads=1", "scorer.hidden=4"]
    settings = [part for size in sizes for part in ("--set", size)]
    output("train", planted, "--out", run, "--no-baselines", "--seed", 3, *settings)
    output("build-index", run, "--policy", "global-bias", "--density", 20, "--runner", "threads", "--workers", 2)
    assert len(json.loads(output("query", run, "--user", "u000", "--json"))) == 10
    again = CliRunner().invoke(app, ["train", str(planted), "--out", str(run), *settings])
    assert again.exit_code == 1
    assert "--overwrite" in again.stderr


@pytest.mark.parametrize("command", ["query", "explain"])
def test_an_index_that_was_not_built(planted: Path, tiny_run: TinyRun, tmp_path: Path, command: str) -> None:
    import shutil

    run = tmp_path / "run"
    shutil.copytree(tiny_run.folder, run, ignore=shutil.ignore_patterns("index", "query.json"))
    item = ["--item", tiny_run.item] if command == "explain" else []
    result = CliRunner().invoke(app, [command, str(run), "--user", tiny_run.user, *item])
    assert result.exit_code == 1
    assert "sparcode build-index" in result.stderr


def test_data_generate_writes_a_world_that_opens(tmp_path: Path) -> None:
    from sparcode.scale.world.world import ScaleWorld

    sizes = ["--items", 200, "--users", 40, "--events", 8, "--interaction", 1]
    output("data", "generate", *sizes, "--seed", 3, "--out", tmp_path / "world")
    assert ScaleWorld.open(tmp_path / "world") == ScaleWorld(200, 40, 1.0, 3, events_per_user=8)
    report = json.loads(output("data", "validate", tmp_path / "world", "--json"))
    assert report["users"] == 40


@pytest.mark.parametrize("problem", [["--interaction", 2], ["--items", 10]])
def test_data_generate_refuses_in_one_line(problem: list[object], tmp_path: Path) -> None:
    arguments = ["--items", 200, "--users", 40, "--events", 8, "--out", tmp_path / "world", *problem]
    result = CliRunner().invoke(app, ["data", "generate", *map(str, arguments)])
    assert (result.exit_code, len(result.stderr.splitlines())) == (1, 1), result.output
    assert f"{str(problem[0]).removeprefix('--')}={problem[1]}" in result.stderr
    assert not (tmp_path / "world").exists()
