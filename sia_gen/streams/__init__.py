"""WebDatasets read in order, without a local copy: this project's runs, other people's tars."""
