"""K-means, product and residual quantizers on arrays: fit, encode, decode. No torch."""
