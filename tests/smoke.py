"""The whole path on a tiny planted world, for a machine where little is installed: ``python smoke.py [RUN]``.

It imports the installed package, not the clone beside it. Needs the extra ``train`` unless RUN is a finished run.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

CONFIG = {
    "model.width": 16, "model.history": 12, "quantizer.codewords": 16, "loss.negatives": 16, "train.epochs": 2,
    "additive.width": 16, "additive.epochs": 1, "query.rescore": 20,
}  # fmt: skip


def trained(folder: Path) -> Path:
    """Train on planted groups and return the run."""
    from sparcode.config import Config, updated
    from sparcode.data.synthetic import planted_groups, write_world
    from sparcode.train.run import train_run

    data = write_world(planted_groups(users=120, items=60), folder / "data")
    train_run(str(data), folder / "run", updated(Config(), CONFIG), progress=False)
    return folder / "run"


def main(given: str | None = None) -> None:
    """Train unless a run is given, build the index with every runner, and query."""
    import sparcode
    from sparcode.build.job import build_index

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        run = Path(given) if given else trained(Path(folder))
        for runner in ("serial", "threads", "processes"):
            build_index(run, runner=runner, workers=2)
        model = sparcode.SparCode.load(run)
        items = model.run.dataset.item_ids.external.to_pylist()[:3]
        ids, scores = model.recommend(histories=[items, items[:1]], k=5)
        assert ids.shape == scores.shape == (2, 5), (ids, scores)
        again, _ = model.recommend(histories=[items], k=5)
        assert again.tolist() == ids[:1].tolist(), (again, ids)
        print("answered:", ids.tolist())
        del model


if __name__ == "__main__":
    main(*sys.argv[1:])
