"""Posting lists added up, the best selected: kernels and the searcher that calls them."""
