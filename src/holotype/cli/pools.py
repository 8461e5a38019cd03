"""What is done with a pool alone: vectors, and what is similar."""

from pathlib import Path
from typing import Annotated

import typer

from holotype.cli.app import (
    AllowTruncated,
    ClusterAddress,
    DryRun,
    EncoderName,
    NodeCount,
    Price,
    ShareName,
    Views,
    app,
    print_lines,
)
from holotype.cli.arguments import ArithmeticName, read_share
from holotype.names import counted


@app.command()
def embed(
    images: str,
    out: Annotated[Path, typer.Option(help="Folder for the vectors; give it again to go on after a stop.")],
    encoder: EncoderName = None,
    views: Views = None,
    precision: Annotated[
        ArithmeticName | None, typer.Option(help="auto (default): the fastest that gives nearly the same.")
    ] = None,
    allow_truncated: AllowTruncated = False,
    shard: ShareName = None,
    ray: ClusterAddress = None,
    dry_run: DryRun = False,
    nodes: NodeCount = 1,
    price: Price = 0.0,
) -> None:
    """Compute the vectors of a pool.

    A run takes them back with --embeddings. Several machines do it together with --shard, or with --ray.
    """
    from holotype.encoders.views import join_views
    from holotype.progress import Terminal
    from holotype.runs.commands import embed_pool
    from holotype.settings import ARITHMETIC, ENCODER

    arithmetic = precision.value if precision else ARITHMETIC
    network = join_views(views, encoder or ENCODER)
    share = read_share(shard, ray)
    if dry_run or share is not None or ray is not None:
        from holotype.runs.blocks import EmbedTask
        from holotype.runs.cluster import do_task
        from holotype.runs.estimate import estimate_embed

        task = EmbedTask(images, network, str(out), arithmetic, allow_truncated)
        if dry_run:
            print_lines(estimate_embed(task, Terminal()).lines(nodes, price))
        else:
            print_lines([do_task(task, share, ray, price, Terminal())])
        return
    embeddings = embed_pool(images, network, out, arithmetic, allow_truncated=allow_truncated, progress=Terminal())
    found, lost = counted(len(embeddings.rows), "vector"), counted(len(embeddings.unreadable), "image")
    print_lines([f"{found} in {out}, {lost} unreadable"])
    print_lines(f"unreadable  {name}  {reason}" for name, reason in embeddings.unreadable.items())


@app.command()
def search(
    images: str,
    exemplar: Annotated[list[str] | None, typer.Option(help="ID or path/to.jpg; repeatable.")] = None,
    text: Annotated[list[str] | None, typer.Option(help="Words in place of an exemplar, or beside it.")] = None,
    embeddings: Annotated[Path | None, typer.Option(help="Search in these vectors: .npy, or a folder.")] = None,
    embeddings_encoder: Annotated[str | None, typer.Option(help="What made the embeddings; it is checked.")] = None,
    vectors: Annotated[Path | None, typer.Option(help="Folder for the encoder's vectors (else the cache).")] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="How many images.")] = 50,
    encoder: EncoderName = None,
    sheet: Annotated[Path | None, typer.Option(help="A PNG of the images found.")] = None,
    allow_truncated: AllowTruncated = False,
) -> None:
    """List the images most similar to exemplars, or to words.

    With words, the number is how many deviations an image stands above the pool.
    """
    from holotype.progress import Terminal
    from holotype.runs.lookup import search_pool
    from holotype.settings import ENCODER, WORDS_ENCODER

    found = search_pool(
        images,
        exemplar or [],
        encoder or (WORDS_ENCODER if text else ENCODER),
        texts=text or [],
        vectors=vectors,
        embeddings=embeddings,
        embeddings_encoder=embeddings_encoder,
        sheet=sheet,
        allow_truncated=allow_truncated,
        progress=Terminal(),
    )
    print_lines(f"{rank:4}  {score:.4f}  {name}" for rank, (name, score) in enumerate(found.best(k), start=1))
    if sheet is not None:
        found.sheet(k, sheet)


@app.command()
def encoders() -> None:
    """List the encoders: which work offline, their licence and size, and which know words, too."""
    from holotype.encoders.registry import REGISTRY

    print_lines(f"{name:20} {origin.listed}" for name, origin in REGISTRY.items())
    print_lines(
        [
            "path/to/model.onnx   offline        with its preprocessor_config.json beside it",
            "path/to/model/       offline        a folder with a transformers vision model, or a pair of ONNX towers",
            "hf:owner/model       needs the hub  the same on the hub; with @commit always the same",
            "These know words where they are CLIP, SigLIP or SigLIP 2, or have text_model.onnx and tokenizer.json.",
        ]
    )
