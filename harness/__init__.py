"""Measuring: quality of synthetic images, quality of detectors, and a leaderboard."""
