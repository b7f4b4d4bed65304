"""What a detector learns from: tasks, normal images, sources of anomalies, batches."""
