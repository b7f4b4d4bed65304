"""What is known of a run, and its mending."""
