"""Numbers that metrics stand on: rankings, pixel counts, neighbours, KID. NumPy and SciPy only."""
