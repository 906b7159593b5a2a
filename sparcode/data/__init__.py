"""From a table of interactions to sequences, splits and features."""
