"""Runs `harness` as a module: `python -m harness.cli`."""

from harness.cli.main import main

if __name__ == "__main__":
    main()
