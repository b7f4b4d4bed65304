"""What a checkpoint gives: score files, answers, pictures, files for other runtimes."""
