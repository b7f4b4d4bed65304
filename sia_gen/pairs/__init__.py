"""Training pairs of any method as shards."""
