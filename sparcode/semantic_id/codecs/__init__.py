"""One module a method: a class that encodes and decodes, and the function that fits it."""
