"""Check a PNG file: ``python check.py FILE HEIGHT WIDTH SHA256``; exit status 0 when it is whole.

The demo runs this file as a shell command. It uses the standard library only and is run by its path, so that a machine
which has Python and the shared folder can run it.
"""

from __future__ import annotations

import hashlib
import struct
import sys
from pathlib import Path

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def fault(path: Path, height: int, width: int, sha256: str) -> str | None:
    """What is wrong with the PNG at ``path``, if anything: its size in pixels or its content is not the one given."""
    try:
        content = path.read_bytes()
    except OSError as error:
        return f"{path}: {error.strerror}"
    if content[:8] != SIGNATURE or len(content) < 24:
        return f"{path}: not a PNG file"
    # PNG specification, sections 5.2 and 11.2.2: width and height follow the signature and the IHDR chunk's header.
    found_width, found_height = struct.unpack(">II", content[16:24])
    if (found_height, found_width) != (height, width):
        return f"{path}: {found_height} x {found_width} pixels instead of {height} x {width}"
    if hashlib.sha256(content).hexdigest() != sha256:
        return f"{path}: its content is not what was written"
    return None


if __name__ == "__main__":
    found = fault(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
    sys.stdout.write(found or f"{sys.argv[1]}: whole")
    sys.exit(1 if found else 0)
