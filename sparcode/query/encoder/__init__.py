"""The served query encoder on plain arrays: history and features to tokens to codes. No torch."""
