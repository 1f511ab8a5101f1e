"""A service in a process of its own: `python -m benchmarks.rest_service NAME [DATABASE]`; it says where it is in JSON.

Each line on standard input is answered with what the process has used: CPU seconds, and the most memory it ever had.
With --bare instead of a name it is an HTTP server of the same make that says `{}` to everything.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
from typing import Any

from pdmlab.service import serve
from pdmlab.service.http import HttpServer


def main(arguments: list[str]) -> None:
    """Serve until standard input ends."""
    if arguments == ["--bare"]:
        asyncio.run(bare())
        return
    name, *database = arguments
    options = {"database": database[0]} if database else {}
    with serve(name=name, **options) as service:
        print(
            json.dumps({"url": service.url, "api_key": service.api_key, "lwm2m": service.plain_lwm2m_uri}), flush=True
        )
        for _ in sys.stdin:
            used = resource.getrusage(resource.RUSAGE_SELF)
            print(json.dumps({"cpu_s": used.ru_utime + used.ru_stime, "most_B": used.ru_maxrss * 1024}), flush=True)


async def bare() -> None:
    """Say ok until standard input ends."""

    async def app(scope: Any, receive: Any, send: Any) -> None:  # Any: ASGI has no types of its own
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
            await send({"type": "http.response.body", "body": b"{}"})

    server = await HttpServer.open(app)
    print(json.dumps({"url": f"http://127.0.0.1:{server.port}"}), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await server.close()


if __name__ == "__main__":
    main(sys.argv[1:])
