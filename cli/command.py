"""What all commands have in common: ``--json [FILE]``, ``--quiet``, and examples under their help."""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from .examples import EXAMPLES
from .output import STDOUT, set_quiet


def _be_quiet(quiet: bool) -> bool:
    if quiet:  # asked for before the command or after it
        set_quiet(True)
    return quiet


Quiet = Annotated[
    bool,
    typer.Option("--quiet", "-q", callback=_be_quiet, help="No notes, no progress; results, warnings and errors stay."),
]


class Command(TyperCommand):
    """A command whose ``--json`` takes a file or nothing, and that can be told to be quiet."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.params.append(_quiet_option())

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        """Read the words of a command line."""
        return super().parse_args(ctx, self._with_json_target(ctx, args))  # type: ignore[arg-type]

    def format_epilog(self, ctx: typer.Context, formatter: Any) -> None:  # type: ignore[override]
        """Write the examples of the command."""
        lines = EXAMPLES.get(" ".join(ctx.command_path.split()[1:]), ())
        if lines:
            with formatter.section("Examples"):
                for line in lines:
                    formatter.write(f"{'':>{formatter.current_indent}}{line}\n")

    def _with_json_target(self, ctx: typer.Context, args: list[str]) -> list[str]:
        """Return the words with ``--json`` as ``--json=FILE``, or ``--json=-`` where no file follows it.

        A word after ``--json`` is its file when it is ``-``, ends in ``.json`` or ``.jsonl``, or is one more than the
        command has arguments for.
        """
        if "--json" not in args or "--json" not in {name for param in self.params for name in param.opts}:
            return args
        place = len(args) - 1 - args[::-1].index("--json")
        before, after = [word for word in args[:place] if word != "--json"], args[place + 1 :]
        alone = [*before, f"--json={STDOUT}", *after]
        if not after or (after[0].startswith("-") and after[0] != STDOUT):
            return alone
        joined = [*before, f"--json={after[0]}", *after[1:]]
        if after[0] == STDOUT or after[0].lower().endswith((".json", ".jsonl")):
            return joined
        return joined if self._words_too_many(ctx, alone) else alone

    def _words_too_many(self, ctx: typer.Context, args: list[str]) -> bool:
        try:
            return bool(self.make_parser(ctx).parse_args(args=list(args))[1])  # type: ignore[arg-type]
        except Exception:  # wrong usage, which is told when the words are read in earnest
            return False


class Commands(typer.Typer):
    """A group of such commands."""

    def command(self, name: str | None = None, *, cls: type[TyperCommand] | None = None, **settings: Any) -> Any:
        """Add a command, see ``typer.Typer.command``."""
        return super().command(name, cls=cls or Command, **settings)


def group(help: str) -> Commands:
    """Return a group of commands under one word, such as ``sparcode data``."""
    # Rich help is off: it costs more time than everything else in `sparcode --help`.
    return Commands(help=help, rich_markup_mode=None, no_args_is_help=True)


@cache
def _quiet_option() -> Any:
    """Return ``--quiet`` as typer makes options: of a command that has nothing else."""

    def silent(quiet: Quiet = False) -> None:
        """Nothing."""

    app = typer.Typer(add_completion=False)
    app.command()(silent)
    option = typer.main.get_command(app).params[0]
    option.expose_value = False
    return option
