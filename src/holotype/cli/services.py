"""What is done with models that are finished: served at an address."""

from typing import Annotated

import typer

from holotype.cli.app import app, print_lines
from holotype.settings import ServeSettings

_DEFAULTS = ServeSettings()


@app.command()
def serve(
    models: Annotated[list[str], typer.Argument(metavar="MODEL...", help="Saved models or runs, or NAME=MODEL.")],
    host: Annotated[str, typer.Option(help="The address to listen at.")] = _DEFAULTS.host,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: one that is free.")] = _DEFAULTS.port,
    token: Annotated[
        str, typer.Option(envvar="HOLOTYPE_TOKEN", show_envvar=True, help="What requests must have as a bearer token.")
    ] = _DEFAULTS.token,
    insecure: Annotated[bool, typer.Option("--insecure", help="Others may ask without a token, too.")] = False,
    allowed_host: Annotated[
        list[str] | None, typer.Option(help="A name that the server is called by; may be repeated.")
    ] = None,
    queue: Annotated[int, typer.Option(min=1, help="Images that may wait at once.")] = _DEFAULTS.queue,
    images: Annotated[int, typer.Option(min=1, help="Images that a request may have.")] = _DEFAULTS.images,
    megabytes: Annotated[int, typer.Option(min=1, help="That a request may have.")] = _DEFAULTS.megabytes,
    memory: Annotated[int, typer.Option(min=1, help="Megabytes of all requests together.")] = _DEFAULTS.memory,
    seconds: Annotated[float, typer.Option(min=0.1, help="In which a request is answered.")] = _DEFAULTS.seconds,
    learn: Annotated[
        bool, typer.Option("--learn", help="Annotations of Label Studio are answers of the run that is served.")
    ] = False,
    label_studio: Annotated[
        str,
        typer.Option(help="The address of a Label Studio that pictures are fetched from, by $LABEL_STUDIO_API_KEY."),
    ] = _DEFAULTS.label_studio,
) -> None:
    """Serve models: send it images, and it says which class each shows.

    A model that is trained anew takes the place of the old one.
    """
    from holotype.serve.server import serve_models

    settings = ServeSettings(
        host=host,
        port=port,
        token=token,
        insecure=insecure,
        allowed_hosts=allowed_host or [],
        queue=queue,
        images=images,
        megabytes=megabytes,
        memory=memory,
        seconds=seconds,
        learn=learn,
        label_studio=label_studio,
    )
    serve_models(models, settings, say=lambda line: print_lines([line]))
