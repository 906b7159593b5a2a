"""The offline job: stored codes x items to posting lists, published as the next generation of an index."""
