"""Kyutai Speech-To-Text on Apple's MLX: words with times from files, arrays and live sound."""

from .machine import check_machine
from .openblas import load_openblas

check_machine()
load_openblas()  # before mlx.core is imported

from .audio.lost import Lost  # noqa: E402
from .errors import (  # noqa: E402
    AudioError,
    CheckpointError,
    HubError,
    KsttError,
    OptionError,
    StreamClosedError,
    UnsupportedMachineError,
)
from .events import EndOfTurn, Event, Gap, Partial, Pause, Refresh, Word  # noqa: E402
from .loading import DEFAULT_MODEL, load  # noqa: E402
from .microphone import Microphone, microphone  # noqa: E402
from .outputs import Transcript  # noqa: E402
from .stream import Stream, StreamState  # noqa: E402
from .transcriber import Transcriber  # noqa: E402

__version__ = "0.1.0"
__all__ = [
    "DEFAULT_MODEL",
    "AudioError",
    "CheckpointError",
    "EndOfTurn",
    "Event",
    "Gap",
    "HubError",
    "KsttError",
    "Lost",
    "Microphone",
    "OptionError",
    "Partial",
    "Pause",
    "Refresh",
    "Stream",
    "StreamClosedError",
    "StreamState",
    "Transcriber",
    "Transcript",
    "UnsupportedMachineError",
    "Word",
    "load",
    "microphone",
]
