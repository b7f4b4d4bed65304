"""Reproducing a paper's table: a recipe becomes cells, cells become commands, results a table.

    plan     recipe and options -> cells, each a chain of command lines (pure)
    work     runs the chains, one after the other or on Ray; the files say what is done
    table    cells and published numbers -> the paper's table: published | measured | difference

Nothing here knows a detector: a cell is `sia-gen`, `detector` and `harness` as a user would type
them, and every one of them resumes by itself.
"""
