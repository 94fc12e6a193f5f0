"""What can go wrong, as exceptions that a caller can tell apart.

Each message is one sentence that names the value, the limit and the way out; each class is also the built-in that fits.
"""


class KsttError(Exception):
    """Base of every error that this package raises on purpose."""


class AudioError(KsttError, ValueError):
    """The audio cannot be read, or holds something that is not sound."""


class CheckpointError(KsttError, ValueError):
    """The checkpoint is missing, damaged, of an unknown layout, or unsafe to open."""


class HubError(KsttError, OSError):
    """The model hub cannot be reached, or does not have what was asked for."""


class OptionError(KsttError, ValueError):
    """An option has a value that it cannot have."""


class StreamClosedError(KsttError, RuntimeError):
    """A stream was used after its flush."""


class UnsupportedMachineError(KsttError, ImportError):
    """MLX does not run on this machine or with this Python."""
