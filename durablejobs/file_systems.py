"""Which kind of file system a file lies on, and whether SQLite can trust it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

NETWORK: Final = frozenset(
    {"9p", "afs", "ceph", "cifs", "fuse.glusterfs", "glusterfs", "lustre", "ncpfs", "nfs", "nfs4", "smb3", "smbfs"}
    | {"fuse.s3fs", "fuse.sshfs", "fuse.rclone", "prl_fs", "vboxsf", "virtiofs", "vmhgfs", "fuse.vmhgfs-fuse"}
)
"""Their locks or their shared memory do not reach, or not reliably, to all who use the file."""

IN_MEMORY: Final = frozenset({"ramfs", "tmpfs"})
"""Gone at the next start of the machine."""

_MOUNTS: Final = Path("/proc/self/mountinfo")


def file_system_of(path: str | os.PathLike[str]) -> str | None:
    """Return the kind of file system under a path, as the kernel calls it; None where nothing tells."""
    try:
        lines = _MOUNTS.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return None
    real = os.path.realpath(path)
    found, longest = None, -1
    for line in lines:
        before, separator, after = line.partition(" - ")
        fields = before.split()
        if not separator or len(fields) < 5:
            continue
        mount = _unescaped(fields[4])
        is_below = real == mount or real.startswith(mount.rstrip("/") + "/")
        if is_below and len(mount) >= longest:  # of two mounts on one place the later one is seen
            found, longest = after.split()[0], len(mount)
    return found


def _unescaped(mount: str) -> str:
    """Return a path of mountinfo, where a blank is written as `\\040`."""
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        mount = mount.replace(code, character)
    return mount
