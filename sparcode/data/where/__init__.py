"""The language of conditions, such as ``genres=Comedy and not (year<1990 or year in (1999, 2000))``; never run as code.

``lexer`` finds the words, ``grammar`` makes the form of them, ``form`` is what both sides evaluate: ``rows`` over the
rows of a table, the attributes of items as sets of items. ``messages`` says what is wrong.
"""
