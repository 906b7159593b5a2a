"""The ``sparcode`` command line: one file a command, each a thin typed wrapper over a plain function.

Nothing heavy is imported at module level, so that ``sparcode --help`` answers at once.
"""
