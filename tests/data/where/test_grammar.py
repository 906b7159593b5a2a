"""What conditions mean, what is none and where, and that conditions of before mean what they meant."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparcode.data.where.form import And, Condition, Not, Term, terms_of
from sparcode.data.where.grammar import LONGEST, is_nameable, parse_condition
from sparcode.data.where.lexer import DEEPEST
from sparcode.errors import DataError
from tests.data.where import earlier


def spelled(condition: Condition) -> str:
    """Return a condition with all its parentheses."""
    if isinstance(condition, Not):
        return f"not {spelled(condition.part)}"
    if isinstance(condition, Term):
        several = f" {condition.operator} ({'|'.join(condition.values)})"
        return condition.column + (several if "in" in condition.operator else condition.operator + condition.values[0])
    return f"({(' and ' if isinstance(condition, And) else ' or ').join(map(spelled, condition.parts))})"


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("a=1 or b=2 and c=3", "(a=1 or (b=2 and c=3))"),
        ("a=1 and b=2 or c=3", "((a=1 and b=2) or c=3)"),
        ("(a=1 or b=2) and c=3", "((a=1 or b=2) and c=3)"),
        ("not a=1 and b=2", "(not a=1 and b=2)"),
        ("not (a=1 and b=2)", "not (a=1 and b=2)"),
        ("not not a=1", "a=1"),
        ("NOT a=1 OR NOT(b=2)", "(not a=1 or not b=2)"),
        ("a=1 or b=2 or c=3", "(a=1 or b=2 or c=3)"),
        ("((a=1))", "a=1"),
        ("( a = 1 )or(b=2)", "(a=1 or b=2)"),
        ("a=1 and(b=2)", "(a=1 and b=2)"),
        ("a in (x, y z ,'p, q')", "a in (x|y z|p, q)"),
        ("a not  in(1)", "a not in (1)"),
        ("not (a in (1) and (b not in (2) or c=3))", "not (a in (1) and (b not in (2) or c=3))"),
        ("not a in (1,2)", "not a in (1|2)"),
        ("a IN (Toy Story (1995, again), it's)", "a in (Toy Story (1995, again)|it's)"),
        ("a in ('it's', \"x\")", "a in (it's|x)"),
        ("title=Toy Story (1995)", "title=Toy Story (1995)"),
        ("(title=Toy Story (1995) or a=b)", "(title=Toy Story (1995) or a=b)"),
        ("(a='x) y' and b=')')", "(a=x) y and b=))"),
        ("a=:) and b=(", "(a=:) and b=()"),
        ("a=rock or roll", "a=rock or roll"),
        ("a=rock or roll or b=2", "(a=rock or roll or b=2)"),
        ("a=x or (not b=1)", "(a=x or not b=1)"),
        ("a=x or 'b and c'=1", "(a=x or b and c=1)"),
        ("a='x or y' or b=1", "(a=x or y or b=1)"),
        ("a='x' or y'", "a=x' or y"),
        ("a=x or b not in (1)", "(a=x or b not in (1))"),
        ("a=not b", "a=not b"),
        ("'a b'=1 and \"c=d\" in (2)", "(a b=1 and c=d in (2))"),
        ("a b=1", "a b=1"),
        ("notes=1 and order=2 and inner in (3) and android=4", "(notes=1 and order=2 and inner in (3) and android=4)"),
        ("price (USD)>3", "price (USD)>3"),
        ("(price (USD)>3)", "price (USD)>3"),
    ],
)
def test_meaning(text: str, meaning: str) -> None:
    assert spelled(parse_condition(text)) == meaning


@pytest.mark.parametrize(
    ("text", "place", "found", "expected"),
    [
        ("", 1, "the end", "COLUMN =|!=|<|<=|>|>= VALUE or COLUMN in (VALUE, ...)"),
        ("a", 2, "the end", "= != < <= > >= or in (VALUE, ...)"),
        ("=3", 1, "'='", "COLUMN =|!="),
        ("a=", 3, "the end", "a value"),
        ("a= and b=1", 4, "'and'", "a value"),
        ("a=1 and", 8, "the end", "COLUMN =|!="),
        ("a=1 and and b=2", 9, "'and'", "COLUMN =|!="),
        ("a=1 and  or b=2", 10, "'or'", "COLUMN =|!="),
        ("a and b=1", 3, "'and'", "= != <"),
        ("a=1 b=2", 6, "'='", "'and', 'or' or the end (quote a value that contains a sign)"),
        ("a=1 or b=2=3", 11, "'='", "'and', 'or' or the end"),
        ("(a=1", 5, "the end", "'and', 'or' or ')'"),
        ("(a=1))", 6, "')'", "'and', 'or' or the end"),
        ("(a=1) b=2", 7, "'b=2'", "'and', 'or' or the end"),
        ("a=1 and ()", 10, "')'", "COLUMN =|!="),
        ("(a) = 1", 3, "')'", "= != <"),
        ("not", 4, "the end", "COLUMN =|!="),
        ("a in ()", 7, "')'", "a value"),
        ("a in (1,)", 9, "')'", "a value"),
        ("a in (1, 2", 11, "the end", "',' or ')'"),
        ("a in (1 and b=2", 9, "'and'", "',' or ')'"),
        ("a in (1, b>2)", 11, "'>'", "',' or ')' (quote a value that contains a sign)"),
        ("a in 1", 7, "the end", "= != <"),
    ],
)  # fmt: skip
def test_what_is_no_condition_and_where(text: str, place: int, found: str, expected: str) -> None:
    with pytest.raises(DataError) as caught:
        parse_condition(text)
    wanted = f"where {text!r}: found {found} at character {place}, expected {expected}"
    assert str(caught.value).startswith(wanted)


def test_a_long_condition_is_shown_where_it_is_wrong() -> None:
    text = " and ".join(f"column{number}=1" for number in range(30)) + " and b>1>2 or " + "c=1 or " * 30 + "d=1"
    with pytest.raises(DataError, match=r"^where '\.\.\..*b>1>2.*\.\.\.': found '>' at character") as caught:
        parse_condition(text)
    place = int(re.search(r"at character (\d+)", str(caught.value))[1])
    assert text[place - 4 : place] == "b>1>"
    assert len(str(caught.value)) < 200


def test_a_column_is_found_as_it_is_spelled() -> None:
    for name in ("in stock", "not sold", "(USD) price", '"kind"', "price in (USD)", "(", "or", "x or y", "not"):
        first, second = Term(name, "=", ("1",)), Term(name, "<", ("2",))
        assert parse_condition(f"{name}=1 and {name} < 2", [name]) == And((first, second))
    assert parse_condition("not sold=1", ["sold"]) == Not(Term("sold", "=", ("1",)))
    assert parse_condition("'not sold' in (1)") == Term("not sold", "in", ("1",))


@pytest.mark.parametrize("name", ["a", "a b", "a=b", "x and y", "(a", "not a", " a ", "", "it's", 'say "so"', "日本\n"])
def test_every_name_can_be_written(name: str) -> None:
    assert is_nameable(name)


def test_two_kinds_of_quotes_beside_a_sign_cannot() -> None:
    assert not is_nameable("'a\"=b")


PIECES = ["a", "b", "in stock", "not a", "(b", "x", "1", "=", "==", "!=", "<", ">=", " ", "  ", "\t", " and ", " AND "]
PIECES += [" or ", "or", "and", "not ", "in", " in ", "(", ")", ",", "'", '"', "'x'", '"x y"', " and"]
NEW = re.compile(r"\b(or|and)[\s(].*(\bin\s*\(|[\"'])", re.IGNORECASE | re.DOTALL)
"""What a value without quotes may contain no longer: an ``or`` with a comparison of the new language behind it."""


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(["a=", "in stock >=", "(b!=", ""]), st.lists(st.sampled_from(PIECES), max_size=12))
def test_conditions_of_before_mean_what_they_meant(start: str, pieces: list[str]) -> None:
    text = start + "".join(pieces)
    meant = earlier.read(text)
    if meant is None or any(NEW.search(value) for _, _, value in meant) or any(" or" in name for name, _, _ in meant):
        return
    found = parse_condition(text, [column for column, _, _ in meant])
    parts = found.parts if isinstance(found, And) else (found,)
    assert parts == tuple(Term(column, sign, (value,)) for column, sign, value in meant)


def test_nesting_is_read_to_a_depth() -> None:
    deep = "(" * DEEPEST + "a=1" + ")" * DEEPEST
    assert parse_condition(deep) == Term("a", "=", ("1",))
    assert parse_condition("not " * 4001 + "a=1") == Not(Term("a", "=", ("1",)))
    for text in (f"({deep})", "(" * 10_000 + "a=1", "a=1 and not (" * 1_000):
        with pytest.raises(DataError, match=r"^where: parentheses inside each other at character \d+: at most 100"):
            parse_condition(text)


HOSTILE = [
    " " * LONGEST,
    "a=1" + " " * 10_000 + "and" + " " * 9_000 + "b=2",
    "a=1" + " and" * 4_000,
    "a='" * 5_000,
    'a="' + "'" * 10_000,
    "a=" + "(" * 10_000,
    "=" * 10_000,
    "and " * 4_000,
    "a='x and " * 2_000,
    "a=\"x and b='y and " * 1_000,
    "a" * 100_000,
    "\x00=\x00",
    "a=1 and",
    "a=1 and ",
    "a=1 and and b=2",
    "not " * 4_900,
    "not a" * 3_900 + "=1",
    "a=1 or " * 2_800,
    "a=x or " + "y or " * 3_990 + "z",
    "a=x or " + "'y or \"z or " * 1_600,
    "(a=(" * 5_000,
    "a in (" + "(" * 19_000,
    "a in (" + "1," * 9_900 + "1)",
    "a=x or" + "(" * 19_000,
]


TERMS = {1: 2, 4: 1, 5: 1, 11: 1, 16: 1, 17: 2_800, 18: 1, 19: 1, 22: 1, 23: 1}
"""What of it is a condition after all, and of how many terms."""


@pytest.mark.timeout(20)
@pytest.mark.parametrize("place", range(len(HOSTILE)))
def test_hostile_text_is_read_in_linear_time_and_refused_in_one_line(place: int) -> None:
    if place in TERMS:
        terms = list(terms_of(parse_condition(HOSTILE[place], ["a"])))
        assert len(terms) == TERMS[place]
        assert all(term.column and all(term.values) for term in terms)
        return
    with pytest.raises(DataError) as caught:
        parse_condition(HOSTILE[place], ["a"])
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("a=it's and b=2", ["a=it's", "b=2"]),
        ("a='tis and b='x'", ["a='tis", "b=x"]),
        ("a='x = 1 and y' AND b=2", ["a=x = 1 and y", "b=2"]),
        ('a="" and b=2', ["a=", "b=2"]),
        ("a=rock and roll b and c=1", None),
        ("a=1 and bc ", None),
        ("a=1 and b=2", ["a=1", "b=2"]),
        ("  a b  >=  3  and\tc\n!=\n'd'  ", ["a b>=3", "c!=d"]),
        ("band=x and brand=y", ["band=x", "brand=y"]),
        ("a=sand and b=and1", ["a=sand", "b=and1"]),
        ("a==1", ["a==1"]),
        ("a='x'y", ["a='x'y"]),
    ],
)
def test_terms_of_before(text: str, terms: list[str] | None) -> None:
    if terms is None:
        with pytest.raises(DataError, match=r"at character \d+"):
            parse_condition(text)
        return
    assert [f"{term.column}{term.operator}{term.values[0]}" for term in terms_of(parse_condition(text))] == terms
