"""The former place of ``sparcode.query.pipeline``, for scripts that name it."""

from sparcode.query.pipeline import Pipeline

__all__ = ["Pipeline"]
