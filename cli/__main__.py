"""``python -m sparcode_cli`` is the ``sparcode`` command."""

from .main import run

if __name__ == "__main__":
    run()
