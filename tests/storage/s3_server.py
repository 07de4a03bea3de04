"""An S3-compatible server on the loopback: moto's, as a process of its own.

    python -m tests.storage.s3_server

It prints its port and serves until its standard input ends. Requests are served one after the
other: moto looks whether an object is there and then stores it, which is only atomic so.

Rule of this room: no test logic.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import httpx

BUCKET = "onready-test"
KEYS = {"AWS_ACCESS_KEY_ID": "key-of-test", "AWS_SECRET_ACCESS_KEY": "secret-of-test"}


@contextmanager
def s3_server() -> Generator[str]:
    """The address of a server that has an empty bucket; it ends with the block."""
    root = Path(__file__).parents[2]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.storage.s3_server"],
        cwd=root,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **KEYS},
        text=True,
    )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            address = f"http://127.0.0.1:{int(process.stdout.readline())}"
            assert httpx.put(f"{address}/{BUCKET}", timeout=10).status_code == 200
            yield address
        finally:
            process.kill()


def main() -> None:
    """Serve."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    application = DomainDispatcherApplication(create_backend_app)
    server = make_server("127.0.0.1", 0, application, threaded=False)
    print(server.server_port, flush=True)
    # Whoever started it may be killed: its end of the pipe closes, and this ends too.
    threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
    server.serve_forever()


if __name__ == "__main__":
    main()
