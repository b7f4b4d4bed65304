"""From normal images and anomalies to a checkpoint."""
