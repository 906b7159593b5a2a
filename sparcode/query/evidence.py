"""What a candidate's cached sums add to its exact score.

Evidence (what all lists but the learned ones give a candidate) is the cached sum less that of the learned lists: those
are few, and one walk over them with the candidates marked replaces two over all others.
"""

# mypy: allow-untyped-defs
# Kernel arguments are what their docstrings say; numba reads no annotations.

from __future__ import annotations

import numpy as np

from sparcode.jit import exact

MARKS = 1 << 12
"""Places at which candidates are looked up, a power of two."""
NEAR = 256
"""Postings that are looked up before those of candidates are added."""


@exact
def learned_sums(lists, rows, weights, marks, ids, sums):
    """Write to ``sums`` (R,) uint32 what the lists ``rows`` give to the candidates ``ids`` (R,), R < 2^16 - 1.

    ``lists``: Lists; ``marks``: (n + 1,) uint16, all zero before and after. List bounds are clipped as in
    ``search.adding``.
    """
    # Candidates are looked up by the last bits of their ids, in as many places as stay near the processor; those that
    # share a place form a chain.
    indptr, postings = lists
    places = 1
    while 2 * places <= min(len(marks), MARKS):
        places *= 2
    bits = np.uint64(places - 1)
    end = np.uint64(len(postings))
    chain = np.empty(len(ids), np.uint16)
    near = np.empty(NEAR, np.uint32)
    for place in range(len(ids)):
        slot = np.uint64(ids[place]) & bits
        chain[place] = marks[slot]
        marks[slot] = place + 1
        sums[place] = 0
    for i in range(len(rows)):
        row, weight = np.uint64(rows[i]), np.uint32(weights[i])
        stop = min(indptr[row + np.uint64(1)], end)
        start = min(indptr[row], stop)
        while start < stop:
            # Whether a posting is of a candidate is hard to predict: first those are noted that may be.
            found = np.uint64(0)
            part = min(stop, start + np.uint64(NEAR))
            for p in range(start, part):
                posting = np.uint64(postings[p])
                near[found] = posting
                found += np.uint64(marks[(posting >> np.uint64(8)) & bits] != 0)
            for k in range(found):
                posting = near[k]
                item = np.uint64(posting >> np.uint32(8))
                mark = np.uint64(marks[item & bits])
                while mark > np.uint64(0):
                    own = mark - np.uint64(1)
                    if np.uint64(ids[own]) == item:
                        sums[own] += weight * np.uint32(posting & np.uint32(255))
                        break
                    mark = np.uint64(chain[own])
            start = part
    for place in range(len(ids)):
        marks[np.uint64(ids[place]) & bits] = 0


@exact
def add_sums(scores, sums, own, shares):
    """scores (R,) float32 += cached * sums + evidence * (sums - own), in float64 and rounded once, as numpy does.

    ``shares``: Evidence.
    """
    cached, evidence = shares.cached, shares.evidence
    for place in range(len(scores)):
        score = np.float64(scores[place])
        if cached != 0.0:
            score = score + np.float64(sums[place]) * np.float64(cached)
        if evidence != 0.0:
            score = score + np.float64(np.int64(sums[place]) - np.int64(own[place])) * np.float64(evidence)
        scores[place] = score


@exact
def score_by_sums(sums, scale, scores):
    """scores (k,) float32 = sums * scale, in float64 and rounded once, as numpy does."""
    for place in range(len(scores)):
        scores[place] = np.float64(sums[place]) * np.float64(scale)
