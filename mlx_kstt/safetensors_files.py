"""Headers of safetensors files: names and shapes, checked against the file's length, with no tensor read.

In: paths. Out: shapes by tensor name. Knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from safetensors import SafetensorError, safe_open

from .errors import CheckpointError

_DTYPES = ("F32", "F16", "BF16", "U32", "U8")  # floats, and what MLX packs quantised weights and their scales in
_PICKLE_STARTS = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


def read_shapes(paths: Iterable[Path]) -> dict[str, tuple[int, ...]]:
    """Shapes of all tensors in the files.

    Raises:
        CheckpointError: a file is truncated, a pickle or something else, or a tensor stands in two files.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for path in paths:
        own = _read_file(path)
        if twice := sorted(own.keys() & shapes.keys()):
            raise CheckpointError(f"{path} repeats tensors of another file of the checkpoint: {', '.join(twice)}")
        shapes |= own
    return shapes


def _read_file(path: Path) -> dict[str, tuple[int, ...]]:
    try:
        with path.open("rb") as file:
            if file.read(4).startswith(_PICKLE_STARTS):
                raise CheckpointError(f"{path} is a pickle, which can run code when opened: get it as safetensors")
        with safe_open(path, framework="numpy") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            odd = sorted(
                f"{name} {part.get_dtype()}" for name, part in slices.items() if part.get_dtype() not in _DTYPES
            )
            if odd:
                raise CheckpointError(f"{path} has tensors of types other than {', '.join(_DTYPES)}: {', '.join(odd)}")
            return {name: tuple(part.get_shape()) for name, part in slices.items()}
    except SafetensorError as error:
        raise CheckpointError(f"{path} is truncated or no safetensors file ({error}): fetch it again") from error
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from error
