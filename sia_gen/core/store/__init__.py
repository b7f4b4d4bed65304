"""Files, object stores and shards."""
