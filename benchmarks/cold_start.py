"""How good is sparcode where others know nothing: new items, new users, rare items?

Part ``items``: a share of the items is withheld. Their events are in no training or validation set; the items stay in
the catalogue and can be known by content alone. Every user with a withheld event gives one query: the target is the
last such event, the history what the user did before it, withheld items left out. It is answered over all items and
among the withheld items only; the validation targets of the same run (ordinary items) stand beside it.

Part ``users``: an ordinary run. Its test queries with the history cut to the last 0, 1, 2, 3 and 5 events; and, with
whole histories, NDCG@10 by the number of training events of the target.

Finished runs are reused, finished cells are not measured again.

    python benchmarks/cold_start.py ml-100k --seeds 0,1,2
    python benchmarks/cold_start.py DATA --part items --share 10 --retrievers sparcode,all-to-all,two-tower
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from cold.items import OF_ITEMS, measure_gain, measure_items
from cold.tables import markdown_of
from cold.users import measure_users
from cold.values import VALUES
from cold.withheld import digest, trained_cold
from shared import Results, Row, config_of, folders, label, parser_of, trained

from sparcode.config import updated
from sparcode.run import Run

SHARE = 5.0
"""Percent of the items that are withheld."""


def main(arguments: Sequence[str] | None = None) -> Results:
    """Measure the cells that are missing, write JSON and Markdown, print the tables."""
    parser = parser_of(__doc__ or "")
    parser.add_argument("--seeds", type=_numbers, default=[0, 1, 2], metavar="S,...")
    parser.add_argument("--part", choices=("items", "users"), help="absent: both")
    parser.add_argument("--share", type=_percent, default=SHARE, metavar="P", help="percent of the items withheld")
    parser.add_argument("--gains", type=_factors, default=[], metavar="X,...", help="families.item.new_gain to compare")
    parser.add_argument("--retrievers", metavar="NAME,...", help="part items; absent: " + ", ".join(OF_ITEMS))
    options = parser.parse_args(arguments)
    work, out = folders(options, "cold_start")
    config = updated(config_of(options), {"baselines.two_tower": True})
    names = options.retrievers.split(",") if options.retrievers else None
    question = f"{label(options.data)}: new items, new users, rare items; seeds {options.seeds}"
    results = Results(out, question, lambda rows: markdown_of(rows, work))
    for seed in options.seeds:
        seeded = updated(config, {"seed": seed})
        if options.part != "users":
            run = trained_cold(options.data, work, seeded, options.share)
            key = {"share": options.share, "retrievers": names, "from": seeded.data.model_dump()}
            _cell(results, options.data, run, "items", key, lambda run, values: measure_items(run, values, names))
            for gain in options.gains:
                identity = {"data": label(options.data), "part": "gain", "gain": gain, "model_hash": run.model_hash}
                results.cell(identity, partial(measure_gain, run, gain))
        if options.part != "items":
            run = trained(options.data, work, f"seed-{seed}", seeded, baselines=True)
            _cell(results, options.data, run, "users", {}, measure_users)
    results.show()
    return results


def _cell(results: Results, data: str, run: Run, part: str, key: Row, measure: Callable[[Run, Path], Row]) -> None:
    given = {"data": label(data), "part": part, **key, "run": run.config.model_dump(), "model_hash": run.model_hash}
    values = VALUES.format(digest(given))
    identity = json.loads(json.dumps({**given, "folder": run.folder.name, "values": values}))
    if not (run.folder / values).exists():  # the intervals need every query's values: measure again
        results.rows = [row for row in results.rows if row["config"] != identity]
    results.cell(identity, lambda: measure(run, run.folder / values))


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: expected whole numbers, e.g. 0,1,2") from None


def _factors(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: expected factors, e.g. 1,1.3,1.5") from None


def _percent(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share < 100:
        raise argparse.ArgumentTypeError(f"{text!r}: expected percent of the items, above 0 and below 100")
    return share


if __name__ == "__main__":
    main()
