"""Records to leaderboards: in the terminal, as files, as a page."""
