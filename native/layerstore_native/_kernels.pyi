"""The kernels, as Python sees them."""

from _typeshed import ReadableBuffer

def crc64(data: ReadableBuffer, checksum: int = 0, /) -> int:
    """Return the CRC-64/GO-ISO of a buffer, continued from an earlier result (0: of none)."""
