"""How often each kernel is compiled: once for each kind of accumulator, whichever way a query comes.

A specialisation costs tenths of a second at the first query of a machine, and it takes little to make one more: an
array that may not be written, a literal argument, a second level of callers. Counted in an own interpreter, without a
cache, since other tests compile kernels too.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """
import json, sys
import numpy as np
from numba.core import event
from sparcode.index.layout import Family, make_index, pack
from sparcode.query.search.searcher import Searcher

class Compiled(event.Listener):
    names = []
    def on_start(self, event): pass
    def on_end(self, event):
        function = event.data["dispatcher"].py_func
        if function.__module__.startswith("sparcode."):
            self.names.append(function.__name__)

event.register("numba:compile", Compiled())
index = make_index(np.array([0, 3, 5, 6]), pack(np.array([0, 1, 4, 1, 2, 3]), np.arange(1, 7)), 6, 1.0,
                   [Family("codes", 0, 3)])
searcher = Searcher(index)
found = []

def stage(call):
    Compiled.names.clear()
    call()
    found.append({name: Compiled.names.count(name) for name in sorted(Compiled.names)})

def frozen(array):
    array.flags.writeable = False
    return array

rows, light, heavy = np.array([0, 1], np.int32), np.array([1, 2], np.int32), np.array([300, 2], np.int32)
pointer, mask = np.array([0, 2]), np.arange(6) > 1
stage(lambda: searcher.search(rows, light, pointer, 3))
stage(lambda: searcher.search(rows, light, pointer, 40, allow=mask, seen_items=rows, seen_indptr=pointer))
stage(lambda: searcher.search_one(frozen(rows.copy()), light, 3, seen=rows))
stage(lambda: searcher.search_one(rows, light, 3, deny=mask))
stage(lambda: searcher.search_one(rows, heavy, 3))
stage(lambda: searcher.search(rows, heavy, pointer, 3))
stage(lambda: searcher.sums_of(rows, light, frozen(np.arange(6, dtype=np.int32))))
print(json.dumps(found))
"""
THIN = {"search_plain", "search_masked", "search_fitting", "search_batch", "sum_fitting", "sum_prepared",
        "largest_sum", "prefetch_lists"}  # fmt: skip
"""What holds no kernel of its own: it may be compiled again for arrays of other kinds."""


@pytest.fixture(scope="module")
def stages(tmp_path_factory):
    """Return what each kind of query compiled, name -> times."""
    environment = {"PYTHONPATH": str(ROOT), "NUMBA_CACHE_DIR": str(tmp_path_factory.mktemp("cache")), "PATH": ""}
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_the_first_query_compiles_every_kernel_once(stages):
    assert {"search_bounded", "best_keys", "accumulate", "order_best", "search_list"} <= stages[0].keys()
    assert {name for name, count in stages[0].items() if count > 1} == {"ask"}, "prefetches of two kinds of array"


@pytest.mark.parametrize("stage", [1, 2, 3, 5])
def test_other_kinds_of_query_compile_nothing_but_how_they_are_called(stages, stage):
    assert stages[stage].keys() <= THIN


def test_the_wide_accumulator_comes_when_sums_need_it(stages):
    assert "search_bounded" in stages[4]
    assert max(stages[4].values()) == 1
    assert not {"order_best", "sort_keys", "keep_largest"} & stages[4].keys(), "these see no accumulator"


def test_sums_of_candidates_compile_one_kernel(stages):
    assert stages[6].keys() - THIN <= {"sum_candidates", "clear_lists"}
