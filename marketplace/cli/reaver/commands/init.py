"""`reaver init`: a job file to begin with."""

from pathlib import Path
from typing import Annotated

import typer

from marketplace.cli.reaver.options import JsonFlag
from marketplace.cli.reaver.output import Output


def init(
    file: Annotated[Path, typer.Argument(metavar="[FILE]", help="Where to; - prints it.", show_default=False)] = Path(
        "job.yaml"
    ),
    image: Annotated[str | None, typer.Option("--image", help="Container image.")] = None,
    gpu: Annotated[str | None, typer.Option("--gpu", metavar="CLASS", help="Hardware class.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Write a job file: what every job needs, and every other field as a comment.

    \b
      reaver init
      reaver init train.yaml --image docker.io/myorg/train --gpu a100
      reaver quote --file train.yaml && reaver run --file train.yaml --watch
    """
    from marketplace.client.jobfiles import job_file_template

    output = Output(as_json=as_json)
    text = job_file_template(image, gpu)
    if str(file) == "-":
        if as_json:
            output.json({"file": None, "text": text})
        else:
            typer.echo(text, nl=False)
        return
    try:
        with file.open("w" if force else "x", encoding="utf-8") as stream:
            stream.write(text)
    except FileExistsError as error:
        raise typer.BadParameter(f"{file} is there already; --force replaces it", param_hint="FILE") from error
    except OSError as error:
        raise typer.BadParameter(f"{file} can't be written: {error.strerror}", param_hint="FILE") from error
    if as_json:
        output.json({"file": str(file), "text": text})
        return
    output.line(f"Wrote {file}")
    output.note(f"edit it, then `reaver quote --file {file}` and `reaver run --file {file} --watch`")
