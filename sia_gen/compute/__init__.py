"""Where networks compute: device and precision, the same for diffusion models and detectors."""
