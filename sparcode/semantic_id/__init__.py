"""Semantic ids of items: embeddings in, short tuples of codes out."""
