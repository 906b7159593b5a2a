"""Mutated copies of the golden index: a seeded generator of damaged and hostile stores.

``case(seed, number)`` is a pure function: kinds take turns, the rest is drawn from ``(seed, number)``. Three groups:

* *accidents* change files and leave every digest as it was (``ACCIDENTS``);
* *forgeries* change arrays or manifest fields and sign everything anew, as a hostile or defective writer would, so that
  the damage lies behind the digests (``FORGERIES``);
* *nonsense* is bytes of a manifest or of CURRENT that were altered as text and signed (``NONSENSE``).

What must hold of every case is checked by ``mutation_checks``.
"""

from __future__ import annotations

import copy
import enum
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from sparcode.index.store.format import DTYPES, digest, encode_current
from tests.index.golden_index import GOLDEN

GENERATION = 1
MANIFEST = "manifests/g0000000000000001.json"
SEGMENT = "segs/s0000000000000001"
ARRAYS = {name: f"{SEGMENT}/{name}.bin" for name in DTYPES}


class Place(enum.Enum):
    """What stands where a file or folder stood."""

    GONE = "gone"
    FILE = "an empty file"
    FOLDER = "an empty folder"
    PIPE = "a pipe"
    LINK = "a symbolic link to what stood there"
    LOOP = "a symbolic link to itself"


Change = bytes | Place
Changes = dict[str, Change]
"""Path inside the index folder -> its new content, or what stands in its place."""


@dataclass(frozen=True)
class Case:
    """One mutated index. ``signed``: the digests agree with the content. ``verify``: how it is to be opened."""

    seed: int
    number: int
    kind: str
    changes: Changes
    verify: str
    signed: bool


@cache
def golden_files() -> dict[str, bytes]:
    """Return the files of the golden index by path inside its folder."""
    root = GOLDEN / "v1" / "index"
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def case(seed: int, number: int) -> Case:
    """Return case ``number`` of a seed."""
    draw = random.Random(f"{seed}/{number}")
    kind = KINDS[number % len(KINDS)]
    verify = draw.choices(("full", "auto", "none"), (7, 1, 2))[0]
    if kind in ACCIDENTS:
        return Case(seed, number, kind, ACCIDENTS[kind](draw), verify, signed=False)
    if kind in NONSENSE:
        return Case(seed, number, kind, NONSENSE[kind](draw), verify, signed=True)
    forgery = Forgery()
    FORGERIES[kind](draw, forgery)
    if draw.random() < 0.1:  # a second lie beside the first
        FORGERIES[draw.choice(list(FORGERIES))](draw, forgery)
    return Case(seed, number, kind, forgery.signed(), verify, signed=True)


# Bytes


def _spoiled(draw: random.Random, content: bytes) -> bytes:
    """Return ``content`` with some bytes or bits changed, its length kept."""
    spoiled = bytearray(content)
    if not spoiled:
        return content
    for _ in range(draw.choice((1, 1, 1, 2, 8))):
        spoiled[draw.randrange(len(spoiled))] ^= 1 << draw.randrange(8)
    return bytes(spoiled)


def _block(draw: random.Random, content: bytes, fill: Callable[[int], bytes]) -> bytes:
    low = draw.randrange(len(content))
    high = draw.randint(low + 1, len(content))
    return content[:low] + fill(high - low) + content[high:]


def _cut(draw: random.Random, content: bytes) -> bytes:
    return content[: draw.choice((0, 1, len(content) // 2, len(content) - 1, draw.randrange(len(content))))]


def _longer(draw: random.Random, content: bytes) -> bytes:
    size = draw.choice((1, 2, 4, 8, 64, 4096, draw.randrange(1, 9000)))
    more = draw.choice((bytes(size), draw.randbytes(size), (content * (size // len(content) + 1))[:size]))
    return content + more


# Accidents: the digests stay


def _accident(change: Callable[[random.Random, bytes], bytes]) -> Callable[[random.Random], Changes]:
    """Return what applies ``change`` to a file, an array three times in four."""

    def apply(draw: random.Random) -> Changes:
        path = draw.choice(list(ARRAYS.values())) if draw.random() < 0.75 else draw.choice(("CURRENT", MANIFEST))
        return {path: change(draw, golden_files()[path])}

    return apply


def _swapped_files(draw: random.Random) -> Changes:
    one, other = draw.sample(list(golden_files()), 2)
    return {one: golden_files()[other], other: golden_files()[one]}


def _replaced(draw: random.Random) -> Changes:
    path = draw.choice([*golden_files(), SEGMENT, "segs", "manifests"])
    return {path: draw.choice(list(Place))}


def _stray_file(draw: random.Random) -> Changes:
    names = ("LOCK", "CURRENT.tmp", "manifests/g0000000000000002.json", "segs/x", f"{SEGMENT}/more.bin")
    return {draw.choice(names): draw.randbytes(draw.randrange(40))}


ACCIDENTS: dict[str, Callable[[random.Random], Changes]] = {
    "truncate": _accident(_cut),
    "extend": _accident(_longer),
    "flip bits": _accident(_spoiled),
    "random block": _accident(lambda draw, content: _block(draw, content, draw.randbytes)),
    "zeroed block": _accident(lambda draw, content: _block(draw, content, bytes)),
    "swap files": _swapped_files,
    "links, pipes, folders, missing": _replaced,
    "stray file": _stray_file,
}


# Forgeries: everything is signed anew


class Forgery:
    """A copy of the golden index whose arrays and manifest may be changed before it is signed."""

    def __init__(self) -> None:
        self.manifest: dict[str, Any] = json.loads(golden_files()[MANIFEST])
        self.files: dict[str, bytes] = {}
        self.current: dict[str, Any] = {}

    def content(self, name: str) -> bytes:
        """Return the bytes of an array."""
        return self.files.get(name, golden_files()[ARRAYS[name]])

    def numbers(self, name: str) -> list[int]:
        """Return an array's elements as unsigned integers."""
        content, width = self.content(name), int(DTYPES[name][-1])
        return [int.from_bytes(content[at : at + width], "little") for at in range(0, len(content), width)]

    def put_numbers(self, name: str, values: list[int]) -> None:
        """Replace an array by unsigned integers, wrapped to its width."""
        width = int(DTYPES[name][-1])
        self.put(name, b"".join((value % (1 << 8 * width)).to_bytes(width, "little") for value in values))

    def put(self, name: str, content: bytes) -> None:
        """Replace an array; its entry and what the manifest counts agree with the new content."""
        self.files[name] = content
        entry = self.entry(name)
        length = len(content) // int(DTYPES[name][-1])
        shape = [length // 2, 2] if name == "code_table" else [length]
        entry.update(bytes=len(content), shape=shape, sha256=digest(content))
        if name == "indptr":
            self.manifest["rows"] = length - 1
        if name == "postings":
            self.manifest["postings"] = length

    def entry(self, name: str) -> dict[str, Any]:
        """Return an array's entry in the manifest; one that stands nowhere when an earlier lie has removed it."""
        arrays = self.manifest.get("arrays")
        entry = arrays.get(name) if isinstance(arrays, dict) else None
        return entry if isinstance(entry, dict) else {}

    def signed(self) -> Changes:
        """Return the changed files, the manifest and a CURRENT that matches it."""
        manifest = json.dumps(self.manifest).encode()
        current = encode_current(GENERATION, manifest)
        if self.current:
            current = _signed_line(json.dumps(json.loads(current.splitlines()[0]) | self.current).encode())
        files = {ARRAYS[name]: content for name, content in self.files.items()}
        return {**files, MANIFEST: manifest, "CURRENT": current}


def _signed_line(line: bytes) -> bytes:
    return line + b"\n" + digest(line).encode() + b"\n"


HOSTILE: tuple[Any, ...] = (
    None, True, False, -1, 0, 1, 2, 39, 41, 47, 49, 371, 373, 2**24 - 1, 2**24, 2**31 - 1, 2**31, 2**32, 2**53,
    2**53 + 1, 2**62, 2**63 - 1, 2**63, 2**64 - 1, 2**64, 10**308, 10**309, 10**4000, -(10**400), 1.0, 40.0, 1.5,
    -0.0, -1.5, 5e-324, 1e308, float("nan"), float("inf"), -float("inf"), "", "1", "x" * 300, "a\nb", "\x1b[2J",
    "\ud800", "\x00", "../../CURRENT", "s0000000000000002", "learned", "item", "indptr.bin", ">u8", "<f8", "O",
    [], [0], [-1], [1.0], [None], [2**62, 2**62], [2**53, 2**53], [2**32, 2**32], [0, 2**53], [2**53, 0], [372, 1],
    [[372]], {}, {"": 0},
)  # fmt: skip
"""Values put where others are expected: around every limit, of every type, and what overflows 32, 53, 63, 64 bits."""


def _hostile(draw: random.Random) -> Any:
    if draw.random() < 0.03:
        depth, deep = draw.choice((20, 31, 33, 60, 200)), []
        for _ in range(depth):
            deep = [deep]
        return deep
    return copy.deepcopy(draw.choice(HOSTILE))


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Return (container, key) of everything inside a JSON value."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    return [place for key in keys for place in ((value, key), *_places(value[key]))]


def _manifest_field(draw: random.Random, forgery: Forgery) -> None:
    places = _places(forgery.manifest)
    if not places:
        return
    container, key = draw.choice(places)
    what = draw.random()
    if what < 0.7:
        container[key] = _hostile(draw)
    elif what < 0.85:
        del container[key]
    elif isinstance(container, dict):
        container[draw.choice(("more", "scores", "pickle", key + "s"))] = _hostile(draw)
    else:
        container.append(copy.deepcopy(container[key]))


def _version(draw: random.Random, forgery: Forgery) -> None:
    forgery.manifest["format_version"] = draw.choice((0, 2, 3, -1, 1.0, 1.5, True, "1", None, [1], 2**64, 10**400))


def _scale(draw: random.Random, forgery: Forgery) -> None:
    values = (float("nan"), float("inf"), -float("inf"), 0, 0.0, -0.0, -0.0625, -1, 10**400, 1e309, 5e-324, 1e308, 3)
    families = forgery.manifest.get("families")
    if draw.random() < 0.6 or not isinstance(families, list) or not families:
        forgery.manifest["scale"] = draw.choice(values)
    elif isinstance(families[-1], dict):
        families[-1]["multiplier"] = draw.choice(values)


def _sizes(draw: random.Random, forgery: Forgery) -> None:
    """Shapes, sizes and counts that agree with each other and overflow, or point past the file."""
    manifest, name = forgery.manifest, draw.choice(list(DTYPES))
    width = int(DTYPES[name][-1])
    length = draw.choice((2**20, 2**31, 2**32, 2**40, 2**53 // width, 2**53, 2**61, 2**63, 2**64 // width, 2**64))
    shape = [length, draw.choice((0, 1, 2, 2**32))] if name == "code_table" else [length]
    size = length * width * (shape[1] if name == "code_table" else 1)
    size = draw.choice((size, size % 2**32, size % 2**64, len(golden_files()[ARRAYS[name]])))
    forgery.entry(name).update(shape=shape, bytes=size)
    if name == "indptr":
        manifest["rows"] = length - 1
    if name == "postings":
        manifest["postings"] = length


def _families(draw: random.Random, forgery: Forgery) -> None:
    """Families that overlap, leave gaps, are out of order, twice there, or do not end where the rows do."""
    families = forgery.manifest.get("families")
    if not isinstance(families, list) or not families or not all(isinstance(family, dict) for family in families):
        return
    family = draw.choice(families)
    what = draw.randrange(6)
    if what == 0:
        family["first_row"] = draw.choice((0, 1, 7, 9, 47, 48, 2**53, -1))
    elif what == 1:
        family["rows"] = draw.choice((0, 1, 7, 9, 39, 41, 2**53, -8))
    elif what == 2:
        families.reverse()
    elif what == 3:
        families.append(copy.deepcopy(family))
    elif what == 4:
        family["name"] = draw.choice(("learned", "item", "category", "segment", "", "\n"))
    else:
        families.remove(family)


def _item_count(draw: random.Random, forgery: Forgery) -> None:
    forgery.manifest["item_count"] = draw.choice((0, 1, 5, 38, 39, 41, 64, 4000, 2**24 - 1, 2**24, 2**31, 2**53, -40))


def _offsets(draw: random.Random, forgery: Forgery) -> None:
    """Offsets out of range, falling, or with a list longer than there are items."""
    offsets = forgery.numbers("indptr")
    if not offsets:
        return
    place, what = draw.randrange(len(offsets)), draw.randrange(5)
    if what == 0:
        offsets[place] = draw.choice((2**16, 2**31, 2**32, 2**63 - 1, 2**63, 2**64 - 1, 373, 372))
    elif what == 1:
        offsets[place] = draw.randrange(400)
    elif what == 2:
        draw.shuffle(offsets)
    elif what == 3:
        offsets = [0] * (len(offsets) - 1) + [offsets[-1]]
    else:
        offsets[draw.choice((0, -1))] += draw.choice((-1, 1, 2**32))
    forgery.put_numbers("indptr", offsets)


def _fewer_or_more(draw: random.Random, forgery: Forgery) -> None:
    """An array that is shorter or longer, and said to be."""
    name = draw.choice(list(DTYPES))
    content = forgery.content(name)
    if content:
        forgery.put(name, draw.choice((_cut, _longer))(draw, content))


def _random_array(draw: random.Random, forgery: Forgery) -> None:
    name = draw.choice(list(DTYPES))
    content = forgery.content(name)
    if content:
        change = draw.choice((_spoiled, lambda draw, content: _block(draw, content, draw.randbytes)))
        forgery.put(name, change(draw, content))


def _swapped_arrays(draw: random.Random, forgery: Forgery) -> None:
    one, other = draw.sample(list(DTYPES), 2)
    first, second = forgery.content(one), forgery.content(other)
    forgery.put(one, second)
    forgery.put(other, first)


def _absent_array(draw: random.Random, forgery: Forgery) -> None:
    arrays = forgery.manifest.get("arrays")
    if isinstance(arrays, dict) and arrays:
        arrays.pop(draw.choice(list(arrays)))


def _postings(change: Callable[[random.Random, list[int], int], None]) -> Callable[[random.Random, Forgery], None]:
    """Return what changes one posting and, in one case of four, some others."""

    def apply(draw: random.Random, forgery: Forgery) -> None:
        postings = forgery.numbers("postings")
        for _ in range(draw.choice((1, 1, 1, 10))):
            if len(postings) > 1:
                change(draw, postings, draw.randrange(1, len(postings)))
        forgery.put_numbers("postings", postings)

    return apply


def _past_items(draw: random.Random, postings: list[int], place: int) -> None:
    postings[place] = draw.choice((40, 41, 4000, 2**23, 2**24 - 1, 2**24 - 2)) << 8 | draw.randrange(256)


def _twice(draw: random.Random, postings: list[int], place: int) -> None:
    postings[place] = postings[place - 1] & ~255 | draw.randrange(1, 256)


def _unsorted(draw: random.Random, postings: list[int], place: int) -> None:
    postings[place - 1], postings[place] = postings[place], postings[place - 1]


def _no_impact(draw: random.Random, postings: list[int], place: int) -> None:
    postings[place] &= ~255


def _other_impact(draw: random.Random, postings: list[int], place: int) -> None:
    """Lawful: another index, which must be answered from as it is."""
    postings[place] = postings[place] & ~255 | draw.randrange(1, 256)


def _fallback(draw: random.Random, forgery: Forgery) -> None:
    rows = forgery.numbers("code_rows")
    if rows:
        values = (0, 7, 8, 47, 48, 2**31 - 1, 2**31, 2**32 - 1, draw.randrange(8))
        rows[draw.randrange(len(rows))] = draw.choice(values)
        forgery.put_numbers("code_rows", rows)


def _scores(draw: random.Random, forgery: Forgery) -> None:
    """NaN, infinities, zeros, negative and lawful scores, as bits of a float32."""
    scores = forgery.numbers("scores")
    special = 0x7FC00000, 0xFFC00001, 0x7F800001, 0x7F800000, 0xFF800000
    bits = *special, 0, 1 << 31, 0xBF800000, 1, 0x3F800000, 0x7F7FFFFF
    if scores:
        scores[draw.randrange(len(scores))] = draw.choice(bits)
        forgery.put_numbers("scores", scores)


def _code_table(draw: random.Random, forgery: Forgery) -> None:
    content = forgery.content("code_table")
    forgery.put("code_table", draw.choice((b"", content, content + content, draw.randbytes(32), content[:-4])))
    entry, size = forgery.entry("code_table"), len(forgery.content("code_table")) // 2
    empty = [0, 2**53], [2**53, 0], [0, 64], [0, 65], [8, 0]
    shapes = [size // 2, 2], [size, 1], [1, size], [8, size // 8], [size], [2, 2, 4]
    entry["shape"] = draw.choice((*shapes, *empty))


def _current(draw: random.Random, forgery: Forgery) -> None:
    fields = {
        "generation": (0, 2, -1, 1.0, True, 2**53, 2**64, None),
        "manifest": ("g0000000000000002.json", "../CURRENT", "g0000000000000001.JSON", "", None, 1),
        "size": (0, 1, 1 << 24, (1 << 24) + 1, 2**63, -1, 1624.0),
        "sha256": ("0" * 64, "", "F" * 64, None, 0),
        "more": (1,),
    }
    key = draw.choice(list(fields))
    forgery.current[key] = draw.choice(fields[key])


FORGERIES: dict[str, Callable[[random.Random, Forgery], None]] = {
    "signed: field of CURRENT": _current,
    "signed: field of the manifest": _manifest_field,
    "signed: wrong version": _version,
    "signed: scale and multipliers": _scale,
    "signed: overflowing sizes": _sizes,
    "signed: families": _families,
    "signed: item count": _item_count,
    "signed: offsets": _offsets,
    "signed: array shorter or longer": _fewer_or_more,
    "signed: random bytes": _random_array,
    "signed: arrays swapped": _swapped_arrays,
    "signed: array absent": _absent_array,
    "signed: postings past n": _postings(_past_items),
    "signed: item twice in a list": _postings(_twice),
    "signed: unsorted list": _postings(_unsorted),
    "signed: impact 0": _postings(_no_impact),
    "signed: other impacts": _postings(_other_impact),
    "signed: fallback table": _fallback,
    "signed: scores": _scores,
    "signed: code table": _code_table,
}


# Nonsense: text that was altered and signed


def _edited(draw: random.Random, text: bytes) -> bytes:
    """Return JSON text with a span taken out, doubled, moved, overwritten or put in."""
    low = draw.randrange(len(text))
    high = min(len(text), low + draw.choice((1, 1, 2, 5, 20, 200)))
    span, what = text[low:high], draw.randrange(7)
    if what == 0:
        return text[:low] + text[high:]
    if what == 1:
        return text[:high] + span + text[high:]
    if what == 2:
        return text[:low] + draw.randbytes(high - low) + text[high:]
    if what == 3:
        return text[:low] + bytes(draw.choice(b'0123456789"{}[],:-+.eE \n\\') for _ in span) + text[high:]
    if what == 4:
        inside = draw.choice(
            (b"NaN", b"-Infinity", b"1e999", b"9" * 5000, b"[" * 5000, b'"\\ud800"', b"\xff", b"{", b"null")
        )
        return text[:low] + inside + text[high:]
    lines = text.splitlines(keepends=True)
    one, other = draw.randrange(len(lines)), draw.randrange(len(lines))
    if what == 5:
        lines[one], lines[other] = lines[other], lines[one]
    else:
        lines.insert(other, lines[one])
    return b"".join(lines)


def _edited_manifest(draw: random.Random) -> Changes:
    manifest = _edited(draw, golden_files()[MANIFEST])
    return {MANIFEST: manifest, "CURRENT": encode_current(GENERATION, manifest)}


def _edited_current(draw: random.Random) -> Changes:
    return {"CURRENT": _signed_line(_edited(draw, golden_files()["CURRENT"].splitlines()[0]).replace(b"\n", b""))}


NONSENSE: dict[str, Callable[[random.Random], Changes]] = {
    "signed: edited text of the manifest": _edited_manifest,
    "signed: edited text of CURRENT": _edited_current,
}

KINDS = (*ACCIDENTS, *FORGERIES, *NONSENSE)
