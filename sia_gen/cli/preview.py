"""`sia-gen preview`."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import click
from click.core import ParameterSource

from sia_gen.core.commands import click_options, tell
from sia_gen.core.options import taken
from sia_gen.generate.options import MethodPreviewOptions, PreviewOptions, SheetOptions

SHEET = tuple(field.name for field in fields(SheetOptions))


@click.command(
    "preview",
    epilog="""\b
Example:
  sia-gen preview --out sheet.png --columns 6 --strengths 0,0.1,0.2
  sia-gen preview --out methods.png --data parts --methods all --textures dtd/images
  sia-gen preview --out foreground.png --data parts --foregrounds
""",
)
@click_options(PreviewOptions)
@click_options(MethodPreviewOptions, without=SHEET)
def preview(**values: Any) -> None:
    """Draw normal images above synthetic ones of rising strength, column by column of one seed."""
    if values["methods"] or values["foregrounds"] or values["foreground"]:
        from sia_gen.generate.method_preview import make_method_preview

        source = click.get_current_context().get_parameter_source("scale")
        if source == ParameterSource.DEFAULT:
            del values["scale"]  # each kind of sheet has its own
        print(make_method_preview(taken(MethodPreviewOptions, values), tell))
        return
    from sia_gen.generate.preview import make_preview

    print(make_preview(taken(PreviewOptions, values), tell))
