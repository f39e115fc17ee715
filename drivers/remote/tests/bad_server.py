"""A server that misbehaves on purpose: it answers each method with the bytes that a test gives."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterable

#: A method's answer: bytes, pieces of them, or `None` to close the connection. A function gets the connection's file.
Reply = object

CAPABLE = {
    "Version": 1,
    "Driver": "vfs",
    "Directory": "/nowhere",
    "Methods": ["LayerIDs", "CheckLayer", "RepairLayer", "CheckHome", "RepairHome", "ParentOf", "Mounts", "Seal"],
}


def http(body: bytes, status: int = 200, *headers: str) -> bytes:
    """Return an answer as HTTP."""
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def answer(**fields: object) -> bytes:
    """Return an answer with a JSON object."""
    return http(json.dumps(fields).encode())


class BadServer:
    """A server with answers of one's choice; a context manager.

    Args:
        address: its socket.
        replies: the answer of each method. Others have those of a server that has every layer and does nothing.
    """

    def __init__(self, address, **replies: Reply) -> None:
        self.address = str(address)
        self.replies = {
            "Plugin.Activate": answer(Implements=["GraphDriver"]),
            "Layerstore.Version": answer(**CAPABLE),
            "GraphDriver.Exists": answer(Exists=True),
            **replies,
        }
        self.calls: list[str] = []
        self._connections: list[socket.socket] = []

    def __enter__(self):
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.address)
        self._listener.listen(16)
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *exc):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.drop()

    def drop(self) -> None:
        """Close all connections, as a server that dies."""
        for connection in self._connections:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._connections.append(connection)
            threading.Thread(target=self._attend, args=(connection,), daemon=True).start()

    def _attend(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as file:
            try:
                while line := file.readline():
                    method = line.split()[1].decode().removeprefix("/").partition("?")[0]
                    self.calls.append(method)
                    headers = {}
                    while line := file.readline().strip():
                        name, _, value = line.partition(b":")
                        headers[name.lower()] = value.strip()
                    if not self._reply(connection, file, method, headers):
                        return
            except OSError:
                pass

    def _reply(self, connection, file, method, headers) -> bool:
        reply = self.replies.get(method, answer())
        if b"content-length" in headers:
            file.read(int(headers[b"content-length"]))
        if callable(reply):
            reply = reply(file, headers)
        elif headers.get(b"transfer-encoding") == b"chunked":
            read_chunks(file)
        if reply is None:
            return False
        for piece in [reply] if isinstance(reply, bytes) else reply:
            connection.sendall(piece)
        return not isinstance(reply, Iterable) or isinstance(reply, bytes)


def read_chunks(file) -> bytes:
    """Read a chunked body to its end, or to where it breaks off."""
    content = b""
    while size := file.readline():
        count = int(size, 16)
        content += file.read(count)
        file.readline()
        if not count:
            break
    return content


def request(address, method: str, **fields: object) -> dict:
    """Call a method of a good server, and return its answer."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(address))
        body = json.dumps(fields).encode()
        head = f"POST /{method} HTTP/1.1\r\nHost:\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)
        with connection.makefile("rb") as file:
            return json.loads(file.read().partition(b"\r\n\r\n")[2])
