"""Two lines that a person can type, under the help of every command. Tests read each of them."""

from __future__ import annotations

EXAMPLES: dict[str, tuple[str, ...]] = {
    "data fetch": ("sparcode data fetch ml-100k",),
    "data validate": ("sparcode data validate ratings.csv", "sparcode data validate ml-100k --min-rating 4 --json"),
    "data generate": (
        "sparcode data generate --items 10000 --users 5000 --out world",
        "sparcode data generate --items 1000 --users 500 --interaction 1 --seed 7 --out world",
    ),
    "data convert": ("sparcode data convert amazon-2023 raw --out books",),
    "config list": ("sparcode config list model", "sparcode config list --json"),
    "config show": ("sparcode config show runs/mine --changes",),
    "train": (
        "sparcode train ratings.csv --out runs/mine",
        "sparcode train ml-100k --out runs/mine --set model.width=64 --seed 1",
    ),
    "embed": (
        "sparcode embed items.parquet --out embeddings.npy --text-columns title,description",
        "sparcode embed ml-100k --out embeddings.parquet --features auto --behaviour counts",
    ),
    "tune": (
        "sparcode tune ratings.csv --out best.toml --trials 20",
        "sparcode tune ml-100k --out b.toml --minutes 30",
    ),
    "build-index": (
        "sparcode build-index runs/mine",
        "sparcode build-index runs/mine --budget-mb 50 --runner threads --workers 4",
    ),
    "query": (
        "sparcode query runs/mine --user 1 -k 20 --where 'genres=Comedy and year>=1990'",
        "sparcode query runs/mine --items 50,181 --deny seen.txt --json",
    ),
    "predict": (
        "sparcode predict runs/mine --users users.txt --out recommendations.parquet",
        "cut -d, -f1 users.csv | sparcode predict runs/mine --users - --out - -k 5 --unknown ignore",
    ),
    "similar": ("sparcode similar runs/mine --item 50", "sparcode similar runs/mine --item 50 -k 5 --json"),
    "explain": (
        "sparcode explain runs/mine --user 1 --item 50",
        "sparcode explain runs/mine --items 50,181 --item 172",
    ),
    "info": ("sparcode info runs/mine --verify", "sparcode info runs/mine --json info.json"),
    "warmup": ("sparcode warmup runs/mine",),
    "export": ("sparcode export runs/mine --out encoder.onnx",),
    "evaluate": (
        "sparcode evaluate runs/mine --json evaluation.json",
        "sparcode evaluate runs/mine --split validation --retriever sparcode --retriever two-tower",
    ),
    "benchmark": (
        "sparcode benchmark runs/mine --json benchmark.json",
        "sparcode benchmark --scale 10000,100000 --out scale",
    ),
    "sid fit": (
        "sparcode sid fit embeddings.npy --out sids --set codebooks=3 --set codebook_size=256",
        "sparcode sid fit embeddings.parquet --method rq-vae --out sids",
    ),
    "sid encode": ("sparcode sid encode sids embeddings.npy --out items.parquet",),
    "sid decode": ("sparcode sid decode sids items.parquet --out vectors.npy",),
    "sid info": ("sparcode sid info sids", "sparcode sid info sids --item 50"),
    "sid export": ("sparcode sid export sids --format llm --out tokens",),
}
