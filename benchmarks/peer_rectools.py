"""How fast does RecTools' SASRec train on the same machine, and what does it reach? (`pip install 'rectools[torch]'`)

Runs in an environment of its own, because RecTools asks for older libraries than sparcode is tested with. Protocol as
ours: leave-last-out by position, the test history includes the validation item without retraining, full ranking over
items outside the history. CPU seconds are stated beside wall seconds, because machines are shared.

    python benchmarks/peer_rectools.py FOLDER --settings default --epochs 3
    python benchmarks/peer_rectools.py FOLDER --settings best --epochs 20 --out benchmarks/results/rectools-NAME.json

``default``: RecTools' own defaults (3 epochs). ``best``: what its authors' benchmark uses for SASRec with sampled
softmax: 64 wide, one block, one head, history 50, 256 negatives, dropout 0.2 (there up to 200 epochs, patience 50).
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

BEST: dict[str, Any] = {
    "n_factors": 64, "n_blocks": 1, "n_heads": 1, "session_max_len": 50, "dropout_rate": 0.2,
    "loss": "sampled_softmax", "n_negatives": 256, "lr": 1e-3, "batch_size": 128,
}  # fmt: skip


def main() -> None:
    """Train, rank, print one line of JSON, and add it to ``--out``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--settings", choices=("default", "best"), default="default")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--order", default="timestamp", help="column that orders the events of a user")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    row = measure(options)
    print(json.dumps(row))
    if options.out:
        rows = json.loads(options.out.read_text(encoding="utf-8"))["rows"] if options.out.exists() else []
        options.out.write_text(json.dumps({"question": __doc__, "rows": [*rows, row]}, indent=1), encoding="utf-8")


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Train one model and return its cost and its test figures."""
    import torch
    from rectools import Columns
    from rectools.dataset import Dataset
    from rectools.models import SASRecModel

    torch.set_num_threads(options.threads)
    train, known, targets = split(options.folder, options.order)
    frame = train.rename(columns={"user": Columns.User, "item": Columns.Item, "place": Columns.Datetime})
    frame[Columns.Datetime] = pd.to_datetime(frame[Columns.Datetime], unit="s")
    frame[Columns.Weight] = 1.0
    settings = {**(BEST if options.settings == "best" else {}), "epochs": options.epochs}
    model = SASRecModel(deterministic=False, **settings)
    wall, cpu = time.perf_counter(), time.process_time()
    model.fit(Dataset.construct(frame))
    cost = {"wall_s": round(time.perf_counter() - wall, 1), "cpu_s": round(time.process_time() - cpu, 1)}
    # Ranking reads the history with the validation event: the same items, one event more a user.
    frame = known.rename(columns={"user": Columns.User, "item": Columns.Item, "place": Columns.Datetime})
    frame[Columns.Datetime] = pd.to_datetime(frame[Columns.Datetime], unit="s")
    frame[Columns.Weight] = 1.0
    full = Dataset.construct(frame)
    found = model.recommend(
        users=targets["user"].to_numpy(), dataset=full, k=50, filter_viewed=True, on_unsupported_targets="ignore"
    )
    figures = quality(found, targets)
    return {"data": options.folder.name, "settings": options.settings, **settings, **cost, **figures}


def split(folder: Path, order: str) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Return training events, known events (with validation) and test targets; columns user, item, place."""
    events = pd.read_parquet(folder / "interactions.parquet")
    events = events.sort_values(["user_id", order], kind="stable")
    events = events.rename(columns={"user_id": "user", "item_id": "item"})
    events["place"] = events.groupby("user").cumcount()
    left = events.groupby("user")["place"].transform("max") - events["place"]
    columns = ["user", "item", "place"]
    return events.loc[left > 1, columns], events.loc[left > 0, columns], events.loc[left == 0, columns]


def quality(found: pd.DataFrame, targets: pd.DataFrame) -> dict[str, float]:
    """Return recall@10, ndcg@10 and recall@50 over all test users."""
    joined = targets.merge(found, left_on=["user", "item"], right_on=["user_id", "item_id"], how="left")
    rank = joined["rank"].to_numpy(float)
    gain = np.where(rank <= 10, 1 / np.log2(rank + 1), 0.0)
    return {
        "recall@10": float(np.mean(rank <= 10)), "ndcg@10": float(np.nan_to_num(gain).mean()),
        "recall@50": float(np.mean(rank <= 50)), "users": len(targets),
    }  # fmt: skip


if __name__ == "__main__":
    main()
