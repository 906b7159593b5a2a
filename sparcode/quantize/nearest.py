"""The P nearest codewords of tokens: |t - c|^2 / 2 - |t|^2 / 2 = |c|^2 / 2 - t.c, float32, in one order of summing.

Rows are taken four at a time, so that they share what is read of a book; every distance is rounded as if alone, in the
order of ``jit.tiles.tile_distances``. This is the measure of what is served: queries and the codecs of autoencoders.
Fitting (k-means, the other codecs) uses ``quantize.exact``, which decides in float64: near ties fall otherwise there,
and codes that are stored depend on which of the two chose them.

Books with many codewords come with a screen. Rotated to its principal axes, a book has most of its length in a few
coordinates. With x and c so rotated, L the leading coordinates and T the rest, Cauchy-Schwarz bounds the half distance
d(c) = |c|^2 / 2 - x.c from below:

    d(c) >= |c|^2 / 2 - x_L.c_L - |x_T| |c_T|

The bound costs len(L) / width of the work. Codewords whose bound is above the P-th best known distance cannot be
among the P nearest; the few others are measured as the full search does, to the last bit, so the answer is the same.
Where a screen does not pay there is none, and nothing of it is compiled.
"""

# mypy: allow-untyped-defs
# Kernel arguments are what their docstrings say; numba reads no annotations.

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sparcode.arithmetic import add_products, dot
from sparcode.jit import contracted
from sparcode.jit.tiles import LANES, tile_distances

LEAST_WORDS = 2048
"""Fewer codewords stay in the second cache, and a full search is as quick."""
LEAST_WIDTH = 32
ENERGY = 0.85
"""Share of the codewords' squared length that the leading coordinates hold, about; a multiple of 8 of them."""
PANEL = 512
"""Codewords that many rows are compared with at once: a panel stays in cache while the rows pass."""
TOGETHER = 8
"""Codewords measured at once: sums in the order of the full search are slow one by one, each addition waits."""

_ZERO = np.float32(0.0)
_ROUNDING = np.float32(2e-7)


class Screen(NamedTuple):
    """What bounds distances to the codewords of a book, or with one axis more in front of M books; float32.

    ``rotation`` (width, width): coordinates of the book -> principal axes. ``leading`` (L, N), ``residual_norms`` (N,):
    leading coordinates of every codeword and length of the others. ``codewords`` (N, width). ``largest_square`` (),
    one number: the largest |c|^2.
    """

    rotation: np.ndarray
    leading: np.ndarray
    residual_norms: np.ndarray
    codewords: np.ndarray
    largest_square: np.ndarray


class Books(NamedTuple):
    """Codebooks ready for searching, float32: ``words`` (M, width, N), ``norms`` (M, N) half squared lengths.

    ``screen`` of M books, or None. ``residual``: True where each book quantises what the ones before leave, None where
    each quantises a part of the token; None also keeps what is for the other case from being compiled.
    """

    words: np.ndarray
    norms: np.ndarray
    screen: Screen | None
    residual: bool | None


class Scratch(NamedTuple):
    """Room for a search of R rows: ``values`` (R, N) half distances, ``least`` (R, 16) float32 and ``places`` (R, 16)
    int32 as ``tile_distances`` writes them, ``rotated`` (R, width) float32. ``values`` may be (R, 0) where P = 1 and
    there is no screen, ``rotated`` (R, 0) without a screen."""

    values: np.ndarray
    least: np.ndarray
    places: np.ndarray
    rotated: np.ndarray


def prepare_books(codebooks: np.ndarray, residual: bool = False) -> Books:
    """Return ``codebooks`` (M, N, width) ready for searching."""
    words = np.ascontiguousarray(codebooks.transpose(0, 2, 1), dtype=np.float32)
    norms = (np.square(codebooks.astype(np.float64)).sum(2) / 2).astype(np.float32)
    return Books(words, norms, prepare_screen(codebooks), True if residual else None)


def prepare_screen(codebooks: np.ndarray) -> Screen | None:
    """Return the screen of ``codebooks`` (M, N, width), None where it does not pay."""
    _, words, width = codebooks.shape
    if words < LEAST_WORDS or width < LEAST_WIDTH:
        return None
    books = codebooks.astype(np.float64)
    # The eigenvectors of c c^T, the longest axis first.
    rotations = np.stack([np.linalg.eigh(book.T @ book)[1][:, ::-1] for book in books])
    rotated = books @ rotations
    size = _leading(rotated)
    leading = np.ascontiguousarray(rotated[:, :, :size].transpose(0, 2, 1))
    norms = np.sqrt(np.square(rotated[:, :, size:]).sum(axis=2))
    largest = np.square(books).sum(axis=2).max(axis=1)
    return Screen(*(np.ascontiguousarray(part, np.float32) for part in (rotations, leading, norms, codebooks, largest)))


def _leading(rotated: np.ndarray) -> int:
    held = np.cumsum(np.square(rotated).sum(axis=(0, 1)))
    enough = 1 + int(np.searchsorted(held, ENERGY * held[-1]))
    return min(-(-enough // 8), rotated.shape[2] // 8) * 8


def panels_of(book: np.ndarray) -> list[Books]:
    """Return a codebook (N, width) in parts of at most PANEL codewords, each ready for searching, without a screen."""
    parts = [book[start : start + PANEL] for start in range(0, len(book), PANEL)]
    return [prepare_books(part[None])._replace(screen=None) for part in parts]


def nearest_in_panels(x: np.ndarray, panels: list[Books]) -> np.ndarray:
    """Return the nearest codeword (n,) int64 of rows ``x`` (n, width) in ``panels_of`` a codebook, ties to the smaller.

    ``x`` float32, C-contiguous. A row's codeword depends on that row alone.
    """
    rows = len(x)
    none = np.empty((rows, 0), np.float32)
    scratch = Scratch(none, np.empty((rows, LANES), np.float32), np.empty((rows, LANES), np.int32), none)
    best, found = np.full((rows, 1), np.inf, np.float32), np.zeros((rows, 1), np.int64)
    kept, indices = np.empty((rows, 1), np.float32), np.empty((rows, 1), np.int64)
    first = 0
    for panel in panels:
        nearest_words(x, panel.words[0], panel.norms[0], scratch, indices, kept)
        closer = kept < best
        found[closer] = indices[closer] + first
        best[closer] = kept[closer]
        first += panel.words.shape[2]
    return found[:, 0]


@contracted
def make_scratch(rows, books, screen, keep_all):
    """Return room for searches of up to ``rows`` rows; ``keep_all``: whether P > 1; ``screen``: ``books.screen``."""
    width, size = books.words.shape[1:]
    values = np.empty((rows, size if keep_all or screen is not None else 0), np.float32)
    rotated = np.empty((rows, width if screen is not None else 0), np.float32)
    return Scratch(values, np.empty((rows, LANES), np.float32), np.empty((rows, LANES), np.int32), rotated)


@contracted
def nearest(x, books, screen, m, scratch, indices, kept):
    """Put the P smallest half distances of rows ``x`` (R, width) to the codewords of book m into ``kept`` (R, P).

    They ascend; ``indices`` (R, P): the codewords they belong to, the smaller first where distances are equal; P <= N.
    ``screen``: ``books.screen``, an argument of its own, so that what is for the other case is not compiled.
    """
    rows = x.shape[0]
    if screen is not None:
        one = Screen(
            screen.rotation[m], screen.leading[m], screen.residual_norms[m], screen.codewords[m],
            screen.largest_square[m],
        )  # fmt: skip
        screened(x, books.norms[m], one, scratch, indices, kept)
    elif kept.shape[1] == 1:
        nearest_words(x, books.words[m], books.norms[m], scratch, indices, kept)
    else:
        half_distances(x, books.words[m], books.norms[m], scratch.values, scratch.least, scratch.places)
        for r in range(rows):
            smallest(scratch.values[r], scratch.least[r], indices[r], kept[r])


@contracted
def half_distances(x, book, norms, values, least, places):
    """Set ``values[r, c] = norms[c] - x[r] . codeword c`` (R, N) for rows ``x`` (R, width), ``book`` (width, N).

    ``least`` and ``places`` (R, 16) as in ``tile_distances``.
    """
    start = 0
    for size in (4, 2, 1):
        while start + size <= x.shape[0]:
            stop = start + size
            tile_distances(
                x[start:stop], book, norms, None, None, values[start:stop], least[start:stop], places[start:stop]
            )
            start = stop
    for r in range(x.shape[0]):
        for c in range(book.shape[1] // LANES * LANES, book.shape[1]):
            values[r, c] = distance_to(x[r], book, norms, c)


@contracted
def distance_to(x, book, norms, c):
    """Return ``norms[c] - x . codeword c``, rounded as a tile rounds it."""
    total = norms[c]
    for i in range(book.shape[0]):
        total -= x[i] * book[i, c]
    return total


@contracted
def nearest_words(x, book, norms, scratch, indices, kept):
    """``nearest`` for P = 1 without a screen, ``book`` (width, N): no distance but the smallest is stored."""
    least, places = scratch.least, scratch.places
    start = 0
    for size in (4, 2, 1):
        while start + size <= x.shape[0]:
            stop = start + size
            tile_distances(x[start:stop], book, norms, None, None, None, least[start:stop], places[start:stop])
            start = stop
    for r in range(x.shape[0]):
        best, word = least[r, 0], np.int64(places[r, 0])
        for lane in range(1, LANES):
            if least[r, lane] < best or (least[r, lane] == best and places[r, lane] < word):
                best, word = least[r, lane], np.int64(places[r, lane])
        for c in range(book.shape[1] // LANES * LANES, book.shape[1]):
            value = distance_to(x[r], book, norms, c)
            if value < best:
                best, word = value, np.int64(c)
        kept[r, 0], indices[r, 0] = best, word


@contracted
def smallest(values, least, indices, kept):
    """Put the ``len(kept)`` smallest values into ``kept`` ascending, ties by smaller index, and where they stood.

    ``least`` (16,): the smallest of every sixteenth value.
    """
    size, filled = kept.shape[0], np.int64(0)
    for lane in range(LANES):
        filled = insert(least[lane], np.int64(lane), indices, kept, filled)
    # As many values are not above it, since the lanes have other values each.
    limit = kept[size - 1] if filled == size else np.float32(np.inf)
    filled = np.int64(0)
    whole = values.shape[0] // LANES * LANES
    for start in range(0, whole, LANES):
        if any_near(values[start : start + LANES], limit):
            for c in range(start, start + LANES):
                if values[c] <= limit:
                    filled = insert(values[c], c, indices, kept, filled)
            limit = min(limit, kept[size - 1]) if filled == size else limit
    for c in range(whole, values.shape[0]):
        filled = insert(values[c], c, indices, kept, filled)
    return filled


@contracted
def screened(x, norms, screen, scratch, indices, kept):
    """``nearest`` by a screen of one book, whose half squared norms are ``norms`` (N,)."""
    many = x.shape[0]
    bounds(x, norms, screen, scratch)
    for r in range(many):
        # What rounding can add to bound and distance: a share of |x|^2 + max |c|^2, which |x||c| cannot exceed.
        margin = _ROUNDING * np.float32(x.shape[1]) * (dot(x[r], x[r]) + screen.largest_square)
        select(x[r], screen.codewords, norms, scratch.values[r], margin, scratch.places[r], indices[r], kept[r])


@contracted
def select(x, codewords, norms, values, margin, places, indices, kept):
    """Measure the codewords whose bound is near enough; ``values`` (N,) bounds, ``places`` where small ones stand."""
    size = kept.shape[0]
    filled = np.int64(0)
    for start in range(0, LANES, TOGETHER):
        filled = measure(x, codewords, norms, places[start:], np.int64(TOGETHER), indices, kept, filled)
    limit = kept[size - 1] + margin if filled == size else np.float32(np.inf)
    filled, waiting = np.int64(0), np.int64(0)
    for start in range(0, values.shape[0], LANES):
        stop = min(start + LANES, values.shape[0])
        if stop - start == LANES and not any_near(values[start:stop], limit):
            continue
        for c in range(start, stop):
            if values[c] <= limit:
                places[waiting] = c
                waiting += 1
                if waiting == TOGETHER:
                    filled = measure(x, codewords, norms, places, waiting, indices, kept, filled)
                    waiting = np.int64(0)
                    limit = min(limit, kept[size - 1] + margin) if filled == size else limit
    return measure(x, codewords, norms, places, waiting, indices, kept, filled)


@contracted
def measure(x, codewords, norms, places, count, indices, kept, filled):
    """Insert the half distances of the codewords ``places[:count]``, at most TOGETHER; return the list's length."""
    for spare in range(count, TOGETHER):
        places[spare] = places[0] if count > 0 else 0
    a, b, c, d = codewords[places[0]], codewords[places[1]], codewords[places[2]], codewords[places[3]]
    e, f, g, h = codewords[places[4]], codewords[places[5]], codewords[places[6]], codewords[places[7]]
    s, t, u, v = norms[places[0]], norms[places[1]], norms[places[2]], norms[places[3]]
    w, y, z, o = norms[places[4]], norms[places[5]], norms[places[6]], norms[places[7]]
    for i in range(x.shape[0]):
        p = x[i]
        s -= p * a[i]
        t -= p * b[i]
        u -= p * c[i]
        v -= p * d[i]
        w -= p * e[i]
        y -= p * f[i]
        z -= p * g[i]
        o -= p * h[i]
    found = (s, t, u, v, w, y, z, o)
    for k in range(count):
        filled = insert(found[k], np.int64(places[k]), indices, kept, filled)
    return filled


@contracted
def bounds(x, norms, screen, scratch):
    """Set ``scratch.values[r, c]`` to the lower bound of row r of ``x`` and codeword c, see the head of the file."""
    values, rotated, leading = scratch.values[: x.shape[0]], scratch.rotated[: x.shape[0]], screen.leading
    size, whole = leading.shape[0], leading.shape[1] // LANES * LANES
    rest = np.empty(x.shape[0], np.float32)
    rotated[:] = _ZERO
    add_products(x, screen.rotation, rotated)
    for r in range(x.shape[0]):
        rest[r] = np.sqrt(max(dot(rotated[r, size:], rotated[r, size:]), _ZERO))
    start = 0
    for many in (4, 2, 1):
        while start + many <= x.shape[0]:
            stop = start + many
            tile_distances(
                rotated[start:stop, :size], leading, norms, rest[start:stop], screen.residual_norms,
                values[start:stop], scratch.least[start:stop], scratch.places[start:stop],
            )  # fmt: skip
            start = stop
    for r in range(x.shape[0]):
        for c in range(whole, leading.shape[1]):
            total = norms[c] - rest[r] * screen.residual_norms[c]
            for i in range(size):
                total -= rotated[r, i] * leading[i, c]
            values[r, c] = total


@contracted
def any_near(part, limit):
    """Tell whether any of 16 values is not above ``limit``."""
    near = np.int32(0)
    for lane in range(LANES):
        near |= np.int32(part[lane] <= limit)
    return near != 0


@contracted
def insert(value, index, indices, kept, filled):
    """Insert a value into the ascending list ``kept`` if it is small enough; return the list's length."""
    size = kept.shape[0]
    if filled == size and not value < kept[size - 1]:
        return filled
    place = filled if filled < size else size - 1
    while place > 0 and kept[place - 1] > value:
        kept[place] = kept[place - 1]
        indices[place] = indices[place - 1]
        place -= 1
    kept[place] = value
    indices[place] = index
    return min(filled + 1, size)
