"""The fake daemon as a program: `python -m tests.docker.fake FOLDER`, until its input ends.

Rule of this room: says its address, and waits.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from tests.docker.fake.output import readable
from tests.docker.fake.server import served


async def main(folder: Path) -> None:
    """Serve until standard input ends."""
    async with served(folder) as daemon:
        print(daemon.host, flush=True)
        await readable(sys.stdin.fileno())


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]).resolve()))
