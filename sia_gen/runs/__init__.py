"""Run folders: shards, records, locks, claims, progress."""
