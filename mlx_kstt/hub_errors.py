"""What huggingface_hub raises, as a HubError of one sentence.

In: an exception, and what was being done with which repository. Out: the sentence. Knows nothing of files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import cast

from .errors import HubError


@contextmanager
def explained(sentence: Callable[[Exception], str]) -> Iterator[None]:
    """Turns whatever huggingface_hub raises into a HubError with the sentence for it."""
    from huggingface_hub.errors import HfHubHTTPError

    # Its HTTP library has changed twice; the base of its own HTTP error is that library's. RuntimeError comes from
    # hf_xet and wraps what failed in its threads, ValueError is an answer that it cannot read.
    http_error = cast("type[Exception]", HfHubHTTPError.__bases__[0])
    try:
        yield
    except HubError:
        raise
    except (http_error, OSError, RuntimeError, ValueError) as error:
        raise HubError(sentence(_cause(error))) from error


def general_sentence(error: Exception, repo: str, doing: str, way_out: str) -> str:
    """The sentence where nothing more is known.

    Args:
        error: see `explained`.
        repo: owner/name.
        doing: "fetched from" or "uploaded to".
        way_out: what to do instead of trying again.
    """
    from huggingface_hub import constants, errors

    hub = constants.ENDPOINT
    status = http_status(error)
    if status is not None:
        advice = "try again later" if status == 429 or status >= 500 else "check your login with `hf auth whoami`"
        return f"{hub} answered a request for {repo} with HTTP status {status}: {advice}, or {way_out}"
    reason = " ".join(str(error).split())
    if isinstance(error, errors.OfflineModeIsEnabled):
        return f"{repo} cannot be {doing} {hub} with the network switched off: unset HF_HUB_OFFLINE, or {way_out}"
    return f"{repo} cannot be {doing} {hub} ({reason}): check the network connection, or {way_out}"


def http_status(error: Exception) -> int | None:
    """The status that the hub answered with, if it is that."""
    from huggingface_hub.errors import HfHubHTTPError

    return error.response.status_code if isinstance(error, HfHubHTTPError) else None


def _cause(error: Exception) -> Exception:
    """What failed inside of what is raised: the library wraps errors of lookups and of its upload threads."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    wraps = isinstance(error, (LocalEntryNotFoundError, RuntimeError))
    return _cause(error.__cause__) if wraps and isinstance(error.__cause__, Exception) else error
