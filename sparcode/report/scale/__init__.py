"""Tables and plots of ``benchmark --scale``."""
