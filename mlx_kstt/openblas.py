"""Give MLX on Linux a fast BLAS.

In: the process before it imports mlx.core. Out: OpenBLAS, loaded for MLX to find. Knows nothing of models.
MLX's Linux wheel is linked to the reference BLAS, whose matrix product is about 25 times slower (7 against 197 GFLOP/s
for 1024 x 1024 float32 on two cores); the symbols of a library that was loaded globally before it win.
"""

from __future__ import annotations

import ctypes
import functools
import logging
import os
import sys

LIBRARY = "libopenblas.so.0"

_log = logging.getLogger("mlx_kstt")


@functools.cache
def load_openblas() -> bool:
    """Loads OpenBLAS, where it is installed; a process does so once, and later calls repeat the answer.

    Must be called before mlx.core is imported: afterwards it has no effect, which is logged as a warning.

    Returns:
        whether MLX computes with OpenBLAS; always False where the platform is not Linux.
    """
    if sys.platform != "linux":
        return False
    if "mlx.core" not in sys.modules:
        return _load(ctypes.RTLD_GLOBAL)
    if _load(os.RTLD_NOLOAD):
        return True
    _log.warning(
        "MLX was imported before mlx_kstt and computes without OpenBLAS, many times slower: import mlx_kstt first, "
        "with OpenBLAS installed (on Debian and Ubuntu: apt install libopenblas0-pthread)"
    )
    return False


def _load(mode: int) -> bool:
    try:
        ctypes.CDLL(LIBRARY, mode=mode)
    except OSError:
        return False
    return True
