"""Query tokenizers: item vectors of a history -> K_u query tokens at every position, causally."""

from __future__ import annotations

from sparcode.config import ModelConfig
from sparcode.errors import ConfigError
from sparcode.model.tokenizers.base import Tokenizer

__all__ = ["Tokenizer", "build_tokenizer"]


def build_tokenizer(config: ModelConfig, item_count: int, feature_width: int) -> Tokenizer:
    """Return the tokenizer ``config.tokenizer`` names, freshly initialised from torch's global generator.

    ``feature_width``: F, columns of the user features; ignored unless ``config.user_features``.
    Raises ConfigError when the item count is not positive or the width does not suit the attention heads.
    """
    from sparcode.model.tokenizers.dnn import DnnTokenizer
    from sparcode.model.tokenizers.gru4rec import Gru4RecTokenizer
    from sparcode.model.tokenizers.multi_interest import CapsuleTokenizer, SelfAttentiveTokenizer
    from sparcode.model.tokenizers.sasrec import SasRecTokenizer

    if item_count < 1:
        raise ConfigError(f"a tokenizer needs at least one item, got {item_count}")
    kinds: dict[str, type[Tokenizer]] = {
        kind.kind: kind
        for kind in (SasRecTokenizer, Gru4RecTokenizer, DnnTokenizer, SelfAttentiveTokenizer, CapsuleTokenizer)
    }
    return kinds[config.tokenizer](config, feature_width if config.user_features else 0)
