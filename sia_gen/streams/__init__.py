"""WebDatasets read in order, without a local copy: runs of this project, and other people's tars."""
