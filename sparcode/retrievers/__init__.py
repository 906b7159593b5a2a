"""Everything that answers queries, behind one protocol."""
