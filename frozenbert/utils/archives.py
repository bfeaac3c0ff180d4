"""Read zip files and `.npy` content from strangers within bounds of memory."""

from __future__ import annotations

import io
import math
import os
import zipfile
from collections.abc import Mapping
from typing import BinaryIO

import numpy as np

__all__ = ["check_array", "read_archive"]

# A file may always unpack to this much; to more only as a multiple of its own size.
UNPACKED = 64 * 2**20
RATIO = 20


def read_archive(
    file: BinaryIO, limits: Mapping[str, int] | None = None, only: str | None = None
) -> dict[str, bytes]:
    """Return the members of a zip file, if they are not far larger than the file.

    Sizes are checked before anything is decompressed, and no member is read beyond the size
    that it declares.

    Parameters
    ----------
    file : file
        A zip file, opened for reading bytes.
    limits : mapping of str to int, optional
        The largest size in bytes of members with their own limit. All other members together
        may unpack to 64 MiB, or to 20 times the size of the file.
    only : str, optional
        Read this member alone; others are not checked.

    Returns
    -------
    dict of str to bytes
        The content of each member by its name.

    Raises
    ------
    zipfile.BadZipFile
        If the file is no zip file or a damaged one, a member is larger than its limit or
        compressed with another method than deflate, or two have one name.
    KeyError
        If it has no member `only`.
    """
    limits = limits or {}
    with zipfile.ZipFile(file) as archive:
        allowed = max(UNPACKED, RATIO * file.seek(0, os.SEEK_END))
        members = archive.infolist() if only is None else [archive.getinfo(only)]
        if len({member.filename for member in members}) < len(members):
            raise zipfile.BadZipFile("two members have the same name")
        for member in members:
            _check_member(member, limits.get(member.filename, allowed))
        unpacked = sum(m.file_size for m in members if m.filename not in limits)
        _check_size("the content", unpacked, allowed)
        return {member.filename: _read(archive, member) for member in members}


def _check_member(member: zipfile.ZipInfo, allowed: int) -> None:
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        # zipfile decompresses bzip2 and LZMA without a bound.
        raise zipfile.BadZipFile(f"{member.filename!r} is not compressed with deflate")
    _check_size(repr(member.filename), member.file_size, allowed)


def _check_size(what: str, size: int, allowed: int) -> None:
    if size > allowed:
        raise zipfile.BadZipFile(
            f"{what} would unpack to {size / 2**20:,.1f} MiB; at most {allowed / 2**20:,.1f} MiB "
            f"are read from a file of this size"
        )


def _read(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    with archive.open(member) as stream:
        # With a size, zipfile decompresses no more than that; without one, up to 2 GiB.
        content = stream.read(member.file_size)
    if len(content) != member.file_size:
        raise zipfile.BadZipFile(f"{member.filename!r} is shorter than it declares")
    return content


def check_array(content: bytes) -> None:
    """Raise `ValueError` unless `.npy` content holds as many bytes as its header declares.

    `numpy.load` reserves memory for the declared shape before it reads.

    Examples
    --------
    >>> buffer = io.BytesIO()
    >>> np.save(buffer, np.zeros(3))
    >>> check_array(buffer.getvalue())
    >>> check_array(buffer.getvalue().replace(b"(3,)", b"(9,)"))
    Traceback (most recent call last):
    ValueError: an array of 24 bytes declares the shape (9,) of float64
    """
    file = io.BytesIO(content)
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    elif version == (2, 0):
        shape, _, dtype = np.lib.format.read_array_header_2_0(file)
    else:
        raise ValueError(f"an array is in version {version} of the .npy format, not 1.0 or 2.0")
    size = len(content) - file.tell()
    # Items of no bytes could be any number.
    if dtype.hasobject or not dtype.itemsize or math.prod(shape) * dtype.itemsize != size:
        raise ValueError(f"an array of {size} bytes declares the shape {shape} of {dtype}")
