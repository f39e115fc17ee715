"""Connections that systemd's socket takes, passed on to the one at which gRPC listens.

gRPC for Python cannot take over a socket that listens already. So each connection is made once more, to a socket that
only this user can reach, and the bytes are copied. That costs some time for each call, and nothing else.
"""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Final

from layerstore_core.log import logger

#: Bytes that are read at once, and kept if the other side is slow.
_CHUNK: Final = 1 << 16


async def forward_connections(listening: socket.socket, target: Path) -> asyncio.Server:
    """Pass on each connection until the returned server is closed.

    Args:
        listening: where connections come in.
        target: the socket where they go.
    """

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there_reader, there_writer = await asyncio.open_unix_connection(str(target), limit=_CHUNK)
        except OSError as error:
            logger.warning("a connection cannot be passed on: {}", error)
            writer.close()
            return
        try:
            await asyncio.gather(_copy(reader, there_writer), _copy(there_reader, writer))
        finally:
            writer.close()
            there_writer.close()

    # `start_unix_server` would remove the socket when it is closed (since Python 3.13), and it is systemd's.
    return await asyncio.start_server(connected, sock=listening, limit=_CHUNK)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy bytes until one side has ended; then tell the other."""
    try:
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
    except OSError:
        writer.close()  # one side is gone: the other copy ends by this as well
