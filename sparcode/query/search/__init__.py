"""Posting lists added up in a dense accumulator, the best k selected: kernels and the ``searcher`` that calls them.

Score of an item = sum over the query's rows of weight * impact, an exact integer. Results are ordered by
(sum descending, id ascending). Every kernel is plain Python under numba; ``kernel.py_func`` is the oracle.

What is done depends on the query, the answer does not: one list is counted by impact, without accumulator
(``one_list``); else lists are added (``adding``), and when one alone has k items with some sum, only items that reach
this threshold are noted (``threshold``). Up to FEW results are kept in order by inserting (``touched``), more are
ordered by counting (``select``). ``query`` puts this together, ``fitting`` chooses the accumulator, ``batch`` takes
many queries, ``prepared`` is how single ones are called; ``arguments``: what all of them are given.
"""
