"""The grammar of conditions, read by lark: ``not`` binds closer than ``and``, ``and`` closer than ``or``."""

from __future__ import annotations

from collections.abc import Collection
from functools import cache
from typing import TYPE_CHECKING

from sparcode.data.where.form import And, Condition, Not, Or, Term
from sparcode.data.where.lexer import Lexer
from sparcode.data.where.messages import around, shown
from sparcode.errors import DataError

if TYPE_CHECKING:
    from lark import Lark, Token

LONGEST = 20_000
"""Characters of a condition that are read."""
_GRAMMAR = """
?start: either
?either: both (_OR both)*
?both: single (_AND single)*
?single: comparison | _NOT single -> negation | _OPEN either _CLOSE
comparison: COLUMN SIGN VALUE | COLUMN (IN | NOT_IN) _OPEN VALUE (_COMMA VALUE)* _CLOSE

%declare COLUMN SIGN VALUE IN NOT_IN _AND _OR _NOT _OPEN _CLOSE _COMMA
"""
_KEPT = ("COLUMN", "SIGN", "VALUE", "IN", "NOT_IN")
_COMPARISON = "COLUMN =|!=|<|<=|>|>= VALUE or COLUMN in (VALUE, ...)"
_EXPECTED = {
    "COLUMN": _COMPARISON,
    "SIGN": "= != < <= > >= or in (VALUE, ...)",
    "VALUE": "a value",
    "_COMMA": "',' or ')'",
    "_AND": "'and', 'or' or the end",
}


class _Form:
    """What becomes of each rule; lark calls these while it reads, so that nesting costs no recursion."""

    @staticmethod
    def comparison(words: list[Token]) -> Condition:
        column, operator, *values = words
        return Term(str(column), str(operator), tuple(map(str, values)), column.start_pos or 0)

    @staticmethod
    def negation(parts: list[Condition]) -> Condition:
        (part,) = parts
        return part.part if isinstance(part, Not) else Not(part)

    @staticmethod
    def both(parts: list[Condition]) -> Condition:
        return And(tuple(parts))

    @staticmethod
    def either(parts: list[Condition]) -> Condition:
        return Or(tuple(parts))


def parse_condition(text: str, names: Collection[str] = ()) -> Condition:
    """Read a condition such as ``genres=Comedy and not year<1990``, in time linear in the text.

    ``names``: of columns; one that only quotes could tell from the language, such as ``in stock``, is then known
    without. Raises DataError, which says at which character what was found and what was expected.
    """
    from lark import Token, UnexpectedToken

    if len(text) > LONGEST:
        raise DataError(f"where: the condition has {len(text):,} characters, at most {LONGEST:,} are read")
    reading, fed = _parser().parse_interactive(""), []
    try:
        for kind, said, place in Lexer(text, names).words():
            fed.append(Token(kind if kind in _KEPT else f"_{kind}", said, place))
            reading.feed_token(fed[-1])
        fed.append(Token("$END", "", len(text.rstrip())))
        return reading.feed_eof(fed[-1])
    except UnexpectedToken:
        raise DataError(_unreadable(text, fed)) from None


def is_nameable(name: str) -> bool:
    """Tell whether a condition can name a column: as it is, or in quotes."""
    for spelled in (name, f'"{name}"', f"'{name}'"):
        try:
            if parse_condition(f"{spelled}=x") == Term(name, "=", ("x",)):
                return True
        except DataError:
            continue
    return False


@cache
def _parser() -> Lark:
    from lark import Lark

    return Lark(_GRAMMAR, parser="lalr", lexer="basic", transformer=_Form)


def _unreadable(text: str, fed: list[Token]) -> str:
    """Return the message for a text of whose words the last cannot follow the others."""
    *read, wrong = fed
    again = _parser().parse_interactive("")
    for token in read:
        again.feed_token(token)
    accepted = again.accepts()
    place = wrong.start_pos or 0
    found = "the end" if wrong.type == "$END" else shown(str(wrong))
    expected = next(said for kind, said in _EXPECTED.items() if kind in accepted)
    if "_CLOSE" in accepted:
        expected = expected.replace("the end", "')'")
    if wrong.type == "SIGN" and "COLUMN" not in accepted:
        expected += " (quote a value that contains a sign)"
    return f"where {around(text, place)}: found {found} at character {place + 1}, expected {expected}"
