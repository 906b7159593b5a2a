"""How fast does RecTools' SASRec train on the same machine, and what does it reach? (`pip install 'rectools[torch]'`)

Runs in an environment of its own, because RecTools asks for older libraries than sparcode is tested with. Protocol as
ours: leave-last-out by position, the test history includes the validation item without retraining, full ranking over
items outside the history. CPU seconds are stated beside wall seconds, because machines are shared.

    python benchmarks/peer_rectools.py FOLDER --settings default --epochs 3
    python benchmarks/peer_rectools.py FOLDER --settings best --minutes 35 --out benchmarks/results/peer_rectools-N.json

``default``: RecTools' own defaults (3 epochs). ``best``: what its authors' benchmark uses for SASRec with sampled
softmax: 64 wide, one block, one head, history 50, 256 negatives, dropout 0.2 (there up to 200 epochs, patience 50).
With ``--minutes`` training stops at the last epoch that fits, and with a validation item for every user the epoch is
the one of the best validation NDCG@10 (5,000 fixed random users, after every epoch, not counted as training).
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

BEST: dict[str, Any] = {
    "n_factors": 64, "n_blocks": 1, "n_heads": 1, "session_max_len": 50, "dropout_rate": 0.2,
    "loss": "sampled_softmax", "n_negatives": 256, "lr": 1e-3, "batch_size": 128,
}  # fmt: skip
VALIDATION_USERS = 5000


def main() -> None:
    """Train, rank, print one line of JSON, and add it to ``--out``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--settings", choices=("default", "best"), default="default")
    parser.add_argument("--epochs", type=int, help="at most; default: 3, or 200 with --minutes")
    parser.add_argument("--minutes", type=float, help="wall minutes of training and validation; absent: all epochs")
    parser.add_argument("--order", default="timestamp", help="column that orders the events of a user")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    row = measure(options)
    print(json.dumps(row))
    if options.out:
        rows = json.loads(options.out.read_text(encoding="utf-8"))["rows"] if options.out.exists() else []
        write_whole(options.out, json.dumps({"question": __doc__, "rows": [*rows, row]}, indent=1))


def write_whole(path: Path, text: str) -> None:
    """Write a file that is there whole or not at all (sparcode is not installed in this environment)."""
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Train one model and return its cost and its test figures."""
    import rectools
    import torch
    from pytorch_lightning import seed_everything
    from rectools.dataset import Dataset
    from rectools.models import SASRecModel

    torch.set_num_threads(options.threads)
    seed_everything(options.seed)
    train, known, validation, targets = split(options.folder, options.order)
    settings = BEST if options.settings == "best" else {}
    model = SASRecModel(deterministic=False, **settings)
    epochs = options.epochs or (3 if options.minutes is None else 200)
    fitted = Fit(model, Dataset.construct(frame_of(train)), sample_of(validation, options.seed))
    fitted.run(epochs, options.minutes)
    # Ranking reads the history with the validation event: the same items, one event more a user.
    figures = quality(recommended(model, Dataset.construct(frame_of(known)), targets), targets)
    positions = int((train.groupby("user").size() - 1).clip(lower=0).sum())
    return {
        "data": options.folder.name, "settings": options.settings, **settings, "threads": options.threads,
        "seed": options.seed, "versions": {"rectools": rectools.__version__, "torch": torch.__version__},
        **fitted.cost(positions), **figures,
    }  # fmt: skip


@dataclass
class Fit:
    """Epoch after epoch, with the state of the best validation NDCG@10 kept; seconds of training alone."""

    model: Any
    dataset: Any
    validation: pd.DataFrame
    wall: float = 0.0
    cpu: float = 0.0
    curve: list[float] = field(default_factory=list)
    best: int = 0
    state: Any = None

    def run(self, epochs: int, minutes: float | None) -> None:
        """Train until ``epochs`` or ``minutes`` are over, then load the best state."""
        began, longest = time.perf_counter(), 0.0
        while len(self.curve) < epochs:
            start = time.perf_counter()
            if minutes is not None and start - began + longest > 60 * minutes:
                break
            self.epoch()
            longest = max(longest, time.perf_counter() - start)
        self.model.lightning_model.torch_model.load_state_dict(self.state)

    def epoch(self) -> None:
        """Train one epoch, rank the validation users, keep the state if it is the best."""
        wall, cpu = time.perf_counter(), time.process_time()
        self.model.fit_partial(self.dataset, 1, 1)
        self.wall += time.perf_counter() - wall
        self.cpu += time.process_time() - cpu
        found = quality(recommended(self.model, self.dataset, self.validation), self.validation)
        self.curve.append(round(found["ndcg@10"], 5))
        if self.curve[-1] > max([0.0, *self.curve[:-1]]) or self.state is None:
            self.best, self.state = len(self.curve), copy.deepcopy(self.model.lightning_model.torch_model.state_dict())
        print(f"epoch {len(self.curve)}: {self.cpu:.0f} CPU s, validation {found}", flush=True)

    def cost(self, positions: int) -> dict[str, Any]:
        """Return epochs, minutes and real (unpadded) positions a second of training."""
        epochs = len(self.curve)
        return {
            "epochs": epochs, "best_epoch": self.best, "wall_s": round(self.wall, 1), "cpu_s": round(self.cpu, 1),
            "minutes_to_best_cpu": round(self.cpu / 60 * self.best / epochs, 2), "positions_an_epoch": positions,
            "positions_per_cpu_second": round(positions * epochs / self.cpu, 1), "validation_ndcg@10": self.curve,
        }  # fmt: skip


def frame_of(events: pd.DataFrame) -> pd.DataFrame:
    """Return events (user, item, place) under the names RecTools wants; the place stands for the time."""
    from rectools import Columns

    frame = events.rename(columns={"user": Columns.User, "item": Columns.Item, "place": Columns.Datetime})
    frame[Columns.Datetime] = pd.to_datetime(frame[Columns.Datetime], unit="s")
    frame[Columns.Weight] = 1.0
    return frame


def recommended(model: Any, dataset: Any, targets: pd.DataFrame) -> pd.DataFrame:
    """Return the best 50 items outside the history of every user of ``targets``."""
    users = targets["user"].to_numpy()
    return model.recommend(users=users, dataset=dataset, k=50, filter_viewed=True, on_unsupported_targets="ignore")


def split(folder: Path, order: str) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Return training and known events (with validation), validation and test targets; columns user, item, place."""
    events = pd.read_parquet(folder / "interactions.parquet")
    events = events.sort_values(["user_id", order], kind="stable")
    events = events.rename(columns={"user_id": "user", "item_id": "item"})
    events["place"] = events.groupby("user").cumcount()
    left = events.groupby("user")["place"].transform("max") - events["place"]
    columns = ["user", "item", "place"]
    parts = (left > 1, left > 0, left == 1, left == 0)
    return tuple(events.loc[part, columns] for part in parts)  # type: ignore[return-value]


def sample_of(targets: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Return the targets of at most VALIDATION_USERS fixed random users."""
    return targets.sample(min(VALIDATION_USERS, len(targets)), random_state=seed)


def quality(found: pd.DataFrame, targets: pd.DataFrame) -> dict[str, float]:
    """Return recall@10, ndcg@10 and recall@50 over all users of ``targets``."""
    joined = targets.merge(found, left_on=["user", "item"], right_on=["user_id", "item_id"], how="left")
    rank = joined["rank"].to_numpy(float)
    gain = np.where(rank <= 10, 1 / np.log2(rank + 1), 0.0)
    return {
        "recall@10": float(np.mean(rank <= 10)), "ndcg@10": float(np.nan_to_num(gain).mean()),
        "recall@50": float(np.mean(rank <= 50)), "users": len(targets),
    }  # fmt: skip


if __name__ == "__main__":
    main()
