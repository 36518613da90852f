"""Files appear whole: written beside their name, then renamed."""

import os
import uuid
from pathlib import Path

__all__ = ["write_whole"]


def write_whole(path: Path | str, content: str | bytes) -> Path:
    """Write `content` so that `path` is either absent, old, or complete, also when the process is killed."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{uuid.uuid4().hex}")
    try:
        with open(temporary, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path
