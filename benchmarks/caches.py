"""A cache of its own for what is measured, so that nothing else is used or touched."""

from pathlib import Path

from holotype.files import cache_folder


def own_cache(folder: Path) -> Path:
    """Return a cache that has the encoders, and no vectors that would be taken over."""
    folder.mkdir(parents=True, exist_ok=True)
    encoders = cache_folder().absolute() / "encoders"
    encoders.mkdir(parents=True, exist_ok=True)  # else what makes them would find a link that leads nowhere
    if not (folder / "encoders").exists():
        (folder / "encoders").symlink_to(encoders)
    return folder
