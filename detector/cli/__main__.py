"""Runs `detector` as a module: `python -m detector.cli`."""

from detector.cli.main import main

if __name__ == "__main__":
    main()
