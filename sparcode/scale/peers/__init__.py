"""The retrieval engines sparcode is compared with, each behind one of two protocols, found by name in ``registry``."""
