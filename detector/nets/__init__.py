"""The parts detectors are made of: one network or selection a file."""
