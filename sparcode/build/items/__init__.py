"""Posting lists of the item, category and segment families."""
