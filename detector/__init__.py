"""Training and scoring of detectors."""
