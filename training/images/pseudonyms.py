"""Stand-ins for patients, studies and images: the same for the same person on this machine, and not to be turned back."""

from __future__ import annotations

import hashlib
import os
import secrets
import tempfile
import uuid
from functools import cache
from pathlib import Path

SALT_VARIABLE = "CHEXANATOMY_SALT"
"""Environment variable with a salt of one's own, for pseudonyms that agree between machines."""
_SALT_BYTES = 32


def pseudonym(*identity: str) -> str:
    """Return a short name for whoever or whatever `identity` names: "P" and 12 characters of a salted hash (SHA-256)."""
    return f"P{_digest(*identity).hex()[:12].upper()}"


def pseudonymous_uid(*identity: str) -> str:
    """Return a DICOM UID for `identity`: 2.25 and a UUID from a salted hash (PS3.5 B.2)."""
    return f"2.25.{uuid.UUID(bytes=_digest(*identity)[:16], version=4).int}"


def _digest(*identity: str) -> bytes:
    return hashlib.sha256(b"\0".join([_salt(), *(part.encode() for part in identity)])).digest()


@cache
def _salt() -> bytes:
    """This machine's salt, made once and kept with the user's settings; where it cannot be kept, one for this process."""
    import platformdirs

    given = os.environ.get(SALT_VARIABLE)
    if given:
        return given.encode()
    folder = Path(platformdirs.user_config_dir("napari-chexanatomy", appauthor=False))
    path = folder / "salt"
    fresh = secrets.token_bytes(_SALT_BYTES)
    try:
        if not path.is_file() or path.stat().st_size != _SALT_BYTES:
            folder.mkdir(parents=True, exist_ok=True)
            handle, whole = tempfile.mkstemp(dir=folder)  # readable by this user alone
            with open(handle, "wb") as file:
                file.write(fresh)
            os.replace(whole, path)
        return path.read_bytes()
    except OSError:
        return fresh
