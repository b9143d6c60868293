"""Compresses the image of a snapshot, or has it back.

    python -P -m clientd.keeper.packing pack            3: the image, 4: a new file, 5: another one
    python -P -m clientd.keeper.packing unpack SIZE     3: what is packed, 4: a new file

Why not is told on stdout.  What is packed is on the disk when this ends, and so is file 5.  It is
one frame of Zstandard (RFC 8878) with a checksum of its content.

It is a process of its own, as it takes a core for a while: with level 3 a second for some 500 MB.
"""

import os
import sys

import zstandard

from godwit.errors import TaskError

FROM, TO, BESIDE = 3, 4, 5
_LEVEL = 3
_CHUNK = 1 << 20


def _pack() -> None:
    """Raises OSError."""
    compressor = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True)
    with open(FROM, "rb", closefd=False) as image, open(TO, "wb", closefd=False) as packed:
        compressor.copy_stream(image, packed, read_size=_CHUNK, write_size=_CHUNK)
    os.fdatasync(TO)
    os.fdatasync(BESIDE)


def _unpack(size: int) -> None:
    """Raises OSError, TaskError, zstandard.ZstdError."""
    left = size
    with (
        open(FROM, "rb", closefd=False) as packed, open(TO, "wb", closefd=False) as image,
        zstandard.ZstdDecompressor().stream_reader(packed, read_size=_CHUNK) as reader,
    ):
        # One byte more than what is left tells that there is more.
        while piece := reader.read(min(_CHUNK, left + 1)):
            left -= len(piece)
            if left < 0:
                text = f"it has more than the {size} bytes that it is to have"
                raise TaskError("bad-snapshot", text)
            image.write(piece)
    if left:
        raise TaskError("bad-snapshot", f"it ends {left} bytes early")


def main() -> None:
    try:
        if sys.argv[1] == "pack":
            _pack()
        else:
            _unpack(int(sys.argv[2]))
    except OSError as err:
        sys.exit(_say(err.strerror or str(err)))
    except (TaskError, zstandard.ZstdError) as err:
        sys.exit(_say(str(err)))


def _say(why: str) -> int:
    print(why)
    return 1


if __name__ == "__main__":
    main()
