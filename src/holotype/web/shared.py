"""What many requests ask for at once, and is done once for all of them."""

import asyncio
from collections.abc import Callable

from anyio.to_thread import run_sync


class Shared:
    """An action that runs in a thread, one at a time; all who ask for it meanwhile share the run after that."""

    def __init__(self, action: Callable[[], None]) -> None:
        self._action = action
        self._turn = asyncio.Lock()
        self._next: asyncio.Task[None] | None = None

    async def __call__(self) -> None:
        """Return when the action has run, from its start to its end, after this call."""
        self._next = self._next or asyncio.create_task(self._run())
        await asyncio.shield(self._next)

    async def _run(self) -> None:
        async with self._turn:
            self._next = None
            await run_sync(self._action)
