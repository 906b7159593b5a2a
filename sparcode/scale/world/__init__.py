"""A planted world of any size whose right answers are known."""
