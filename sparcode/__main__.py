"""``python -m sparcode`` is the ``sparcode`` command."""

from sparcode_cli.main import run  # type: ignore[import-not-found]

if __name__ == "__main__":
    run()
