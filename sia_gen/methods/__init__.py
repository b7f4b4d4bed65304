"""Ways to synthesise anomalies: one file each."""
