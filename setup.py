"""Packages, which pyproject.toml cannot find and rename at once, and an editable install that no folder shadows."""

from pathlib import Path
from typing import Any

from setuptools import find_packages, setup

try:
    from setuptools.command.editable_wheel import editable_wheel
except ImportError:  # a setuptools without them
    editable_wheel = object

ROOT = Path(__file__).resolve().parent

# A script beside a clone that is named sparcode sees the clone as a namespace package, and the finder of an
# editable install is asked after it. Any regular package still comes first, e.g. that of another clone one works in.
FINDER = '''"""Lets a folder named sparcode without __init__.py not stand for the package."""
import sys
from importlib.machinery import PathFinder
from importlib.util import spec_from_file_location


class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name != "sparcode" or path is not None:
            return None
        found = PathFinder.find_spec(name)
        if found is None or found.origin is not None:
            return None
        return spec_from_file_location(name, {init!r}, submodule_search_locations=[{folder!r}])


sys.meta_path.insert(0, Finder)
'''


class NotShadowed:
    """A strategy of setuptools that adds the finder to what another writes."""

    def __init__(self, strategy: Any) -> None:
        self.strategy = strategy

    def __call__(self, wheel: Any, *arguments: Any) -> None:
        self.strategy(wheel, *arguments)
        package = ROOT / "sparcode"
        wheel.writestr("_sparcode_editable.py", FINDER.format(init=str(package / "__init__.py"), folder=str(package)))
        wheel.writestr("__editable__.sparcode-not-shadowed.pth", "import _sparcode_editable\n")

    def __enter__(self) -> "NotShadowed":
        self.strategy.__enter__()
        return self

    def __exit__(self, *problem: Any) -> Any:
        return self.strategy.__exit__(*problem)


class EditableWheel(editable_wheel):  # type: ignore[misc]
    """``pip install -e``; where setuptools has no strategies any more, nothing is added."""

    def _select_strategy(self, *arguments: Any) -> Any:
        return NotShadowed(super()._select_strategy(*arguments))


setup(
    packages=[*find_packages(include=["sparcode", "sparcode.*"]), "sparcode_cli"],
    cmdclass={"editable_wheel": EditableWheel} if editable_wheel is not object else {},
)
