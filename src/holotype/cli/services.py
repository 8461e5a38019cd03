"""What is done with models that are finished: served at an address."""

from typing import Annotated

import typer

from holotype.cli.app import app, print_lines


@app.command()
def serve(
    models: Annotated[list[str], typer.Argument(metavar="MODEL...", help="Saved models or runs, or NAME=MODEL.")],
    host: Annotated[
        str | None, typer.Option(help="The address to listen at (else 127.0.0.1: this machine alone).")
    ] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Else 8000; 0: one that is free.")] = None,
    token: Annotated[
        str | None,
        typer.Option(envvar="HOLOTYPE_TOKEN", show_envvar=True, help="What requests must have as a bearer token."),
    ] = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="Others may ask without a token, too.")] = False,
    allowed_host: Annotated[
        list[str] | None, typer.Option(help="A name that the server is called by; may be repeated.")
    ] = None,
    queue: Annotated[int | None, typer.Option(min=1, help="Images that may wait at once (else 256).")] = None,
    images: Annotated[
        int | None, typer.Option(min=1, help="Images that a request may have (else 64, or --queue).")
    ] = None,
    megabytes: Annotated[int | None, typer.Option(min=1, help="That a request may have (else 64).")] = None,
    memory: Annotated[int | None, typer.Option(min=1, help="Megabytes of all requests together (else 1024).")] = None,
    seconds: Annotated[float | None, typer.Option(min=0.1, help="In which a request is answered (else 30).")] = None,
    learn: Annotated[
        bool, typer.Option("--learn", help="Annotations of Label Studio are answers of the run that is served.")
    ] = False,
    record: Annotated[
        str | None, typer.Option(help="Append what is said of each image to this file, for holotype drift.")
    ] = None,
    label_studio: Annotated[
        str | None,
        typer.Option(help="The address of a Label Studio that pictures are fetched from, by $LABEL_STUDIO_API_KEY."),
    ] = None,
) -> None:
    """Serve models: send it images, and it says which class each shows.

    A model that is trained anew takes the place of the old one.
    """
    from holotype.serve.server import serve_models
    from holotype.settings import ServeSettings, as_option

    given = {
        "host": host,
        "port": port,
        "token": token,
        "insecure": insecure,
        "allowed_hosts": allowed_host,
        "queue": queue,
        "images": images,
        "megabytes": megabytes,
        "memory": memory,
        "seconds": seconds,
        "learn": learn,
        "record": record,
        "label_studio": label_studio,
    }
    settings = ServeSettings.parse({name: value for name, value in given.items() if value is not None}, as_option)
    serve_models(models, settings, say=lambda line: print_lines([line]))
