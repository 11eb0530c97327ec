"""The body of a request: its bytes, unpacked to no more than they may be."""

import struct
import zlib

import pyarrow as pa
import pyarrow.compute
import pyarrow.ipc

from ml_assets.errors import RequestRefused

_DICTIONARY, _RECORDS = 2, 3  # kinds of Arrow's messages


def refusal(status: int, code: str, message: str, **where: int | str) -> RequestRefused:
    """It returns what says why a request is refused, and where in it that lies."""
    return RequestRefused(message, status, code, where)


def too_large(most: int) -> RequestRefused:
    """It returns the refusal of a body of too many bytes."""
    return refusal(413, "too_large", f"A body has at most {most:,} bytes, also unpacked.")


def unpacked(body: bytes, encoding: str, most: int) -> bytes:
    """It returns a body without the compression that its `Content-Encoding` names.

    Args:
        body: its bytes.
        encoding: the header; empty where there is none.
        most: how many bytes may come of it.

    Raises:
        RequestRefused: it is packed otherwise, is damaged, or holds too much.
    """
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return body
    if encoding != "gzip":
        told = f"Content encoding `{encoding[:50]}`; gzip is read, or none."
        raise refusal(415, "unsupported_encoding", told)
    packed = zlib.decompressobj(wbits=31)
    try:
        made = packed.decompress(body, most + 1)
    except zlib.error as error:
        raise refusal(400, "unreadable", f"The body is no gzip: {error}.") from None
    if len(made) > most:
        raise too_large(most)
    if not packed.eof or packed.unused_data:
        raise refusal(400, "unreadable", "The body is no whole gzip: it ends too soon, or goes on.")
    return made


def arrow_table(body: bytes, most: int) -> pa.Table:
    """It returns the table of an Arrow stream.

    Compressed buffers tell to what they unpack before they do, and Arrow holds them to it.

    Args:
        body: its bytes.
        most: how many bytes its buffers may unpack to, and how many values it may have.

    Raises:
        RequestRefused: it is no Arrow stream, or unpacks to more.
    """
    try:
        if _unpacks_to(body) > most:
            raise too_large(most)
        with pa.ipc.open_stream(body) as stream:
            table = stream.read_all()
        if table.num_rows * max(table.num_columns, 1) > most:  # columns of nulls have no bytes
            raise too_large(most)
        table.validate(full=True)
        written_out = sum(_written_out(table.column(i)) for i in range(table.num_columns))
    except (pa.ArrowException, OSError, ValueError, struct.error, MemoryError) as error:
        told = f"The body is no Arrow stream: {str(error)[:200]}."
        raise refusal(400, "unreadable", told) from None
    if written_out > most:
        raise too_large(most)
    return table


def _written_out(column: pa.ChunkedArray) -> int:
    """It returns how many bytes texts take that a dictionary holds once, and the rows often.

    Raises:
        ValueError: the column holds runs of equal values.
    """
    kind = column.type
    if pa.types.is_run_end_encoded(kind):
        raise ValueError("columns of runs are not read; send their values")
    if not pa.types.is_dictionary(kind):
        return 0
    size = 0
    for chunk in column.chunks:
        words = chunk.dictionary
        if not (pa.types.is_string(words.type) or pa.types.is_large_string(words.type)):
            continue
        lengths = pa.compute.binary_length(words).take(chunk.indices)
        size += pa.compute.sum(lengths.cast(pa.int64())).as_py() or 0
    return size


def _unpacks_to(body: bytes) -> int:
    """It returns to how many bytes the compressed buffers of a stream say that they unpack."""
    total, messages = 0, pa.ipc.MessageReader.open_stream(body)
    while True:
        try:
            message = messages.read_next_message()
        except StopIteration:
            return total
        total += _message_unpacks_to(bytes(message.metadata), message.body)


def _message_unpacks_to(about: bytes, body: pa.Buffer | None) -> int:
    """It reads the description of a message, a flatbuffer, as far as sizes go."""
    root = struct.unpack_from("<I", about, 0)[0]
    kind_at, header_at = _field(about, root, 1), _field(about, root, 2)
    kind = about[kind_at] if kind_at else 0
    if kind not in (_DICTIONARY, _RECORDS) or not header_at or body is None:
        return 0
    records = header_at + struct.unpack_from("<I", about, header_at)[0]
    if kind == _DICTIONARY:
        data_at = _field(about, records, 1)
        if not data_at:
            return 0
        records = data_at + struct.unpack_from("<I", about, data_at)[0]
    buffers_at = _field(about, records, 2)
    if not _field(about, records, 3) or not buffers_at:  # nothing is compressed
        return 0
    vector = buffers_at + struct.unpack_from("<I", about, buffers_at)[0]
    total = 0
    for i in range(struct.unpack_from("<I", about, vector)[0]):
        offset, length = struct.unpack_from("<qq", about, vector + 4 + 16 * i)
        if length >= 8:
            said = struct.unpack("<q", body.slice(offset, 8).to_pybytes())[0]
            total += max(said, length - 8)  # -1: stored as it is
    return total


def _field(about: bytes, table: int, index: int) -> int:
    """It returns where a field of a flatbuffer's table lies; 0 where it has none."""
    fields = table - struct.unpack_from("<i", about, table)[0]
    size = struct.unpack_from("<H", about, fields)[0]
    slot = 4 + 2 * index
    offset = struct.unpack_from("<H", about, fields + slot)[0] if slot < size else 0
    return table + offset if offset else 0
