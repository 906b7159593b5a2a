"""Scores of blocks of codes against all items, and what stays of them."""
