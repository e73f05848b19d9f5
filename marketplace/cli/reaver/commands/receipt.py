import typer

app = typer.Typer(rich_markup_mode=None)


@app.command("verify")
def verify() -> None:
    pass
