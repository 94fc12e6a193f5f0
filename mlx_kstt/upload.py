"""Publish a checkpoint folder on the model hub.

In: a folder, and the name of a repository. Out: the files on the hub, and where they are. Knows nothing of what is in
the folder beyond the names that a loader looks for.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from .errors import HubError
from .hub import TOKENIZERS, WEIGHT_INDEX, WEIGHTS
from .hub_errors import explained, general_sentence, http_status
from .sizes import human_size

# A loader would take these first, so that those of an earlier upload must not stay.
_REPLACED = ("proof.json", WEIGHTS, WEIGHT_INDEX, "model-*.safetensors", *TOKENIZERS)


def upload(folder: Path, repo: str, announce: Callable[[str], None]) -> str:
    """Upload all files of a folder, in a repository that is made where there is none.

    A repository that is there keeps its other files, but no weights or tokenizer of an earlier upload.

    Args:
        folder: of the checkpoint.
        repo: owner/name on the hub.
        announce: called with one line that says what is about to be uploaded, before it is.

    Returns:
        The address of the repository.

    Raises:
        HubError: there is no token, the hub refuses it, or the hub cannot be reached.
    """
    from huggingface_hub import HfApi, constants, get_token

    check_upload(repo)
    with explained(lambda error: _sentence(error, repo, folder)):
        sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
        count = f"{len(sizes)} file{'s' * (len(sizes) != 1)}"
        announce(f"Uploading {human_size(sum(sizes))} in {count} to {constants.ENDPOINT}/{repo}")
        hub = HfApi(token=get_token())
        address = hub.create_repo(repo, exist_ok=True)
        hub.upload_folder(
            repo_id=repo,
            folder_path=folder,
            commit_message="Upload with mlx_kstt",
            delete_patterns=list(_REPLACED),
        )
        return str(address)


def check_upload(repo: str) -> None:
    """Refuse at once what cannot be uploaded, without asking the hub.

    Raises:
        HubError: the name is malformed, or nobody is logged in.
    """
    from huggingface_hub import get_token
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repo)
        well_formed = "/" in repo
    except HFValidationError:
        well_formed = False
    if not well_formed:
        raise HubError(f"{repo!r} cannot be the name of a repository on the hub: name one as owner/name")
    if get_token() is None:
        raise HubError(f"{repo} cannot be uploaded without a token: log in with `hf auth login` or set HF_TOKEN")


def _sentence(error: Exception, repo: str, folder: Path) -> str:
    from huggingface_hub import constants

    hub, status = constants.ENDPOINT, http_status(error)
    reason = " ".join(str(getattr(error, "server_message", None) or error).split())
    if status == 401:
        return f"{hub} does not accept the token: log in again with `hf auth login`, or set HF_TOKEN to a valid one"
    if status in (403, 404) or (isinstance(error, PermissionError) and error.errno is None):
        return f"your token may not write to {repo}: see whose it is with `hf auth whoami`, or name your own repository"
    if status is not None and 400 <= status < 500 and status != 429:
        return f"{hub} refuses {repo} with HTTP status {status} ({reason}): mend {folder} and upload it again"
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename} cannot be read ({error.strerror}): check its permissions"
    if isinstance(error, ValueError) and not isinstance(error, json.JSONDecodeError):
        return f"{hub} refuses {repo} ({reason}): mend {folder} and upload it again"
    return general_sentence(error, repo, "uploaded to", f"upload it later with `hf upload {repo} {folder}`")
