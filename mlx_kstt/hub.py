"""Bring a checkpoint from the model hub into the local cache.

In: a repository name. Out: the cache folder that holds every file which a loader needs, and nothing else.
Which files those are is read from config.json and the weight index, never from the repository's name.
Knows nothing of tensors, and nothing of folders outside the hub's cache.
"""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Callable, Collection, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from .config import FORMAT
from .errors import HubError
from .hub_errors import explained, general_sentence
from .sizes import human_size

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
WEIGHT_INDEX = "model.safetensors.index.json"
OPTIONAL = ("preprocessor_config.json", "processor_config.json", "extra_heads.safetensors")
TOKENIZERS = ("tokenizer.json", "tokenizer.model")

_SUFFIXES = (".json", ".model", ".safetensors")


def fetch(repo: str, *, revision: str | None = None, offline: bool = False, announce: Callable[[str], None]) -> Path:
    """The local folder with all files of a checkpoint, downloaded first where they are not in the hub's cache.

    A checkpoint that is completely cached costs no network call.

    Args:
        repo: owner/name on the hub.
        revision: a branch, tag or commit; None is the repository's main branch.
        offline: never touch the network, as HF_HUB_OFFLINE=1 does.
        announce: called with one line that says what is about to be downloaded and its size, before it is.

    Raises:
        HubError: the files are not there and cannot be had, or are no Kyutai speech-to-text checkpoint.
    """
    from huggingface_hub import constants

    with explained(lambda error: _sentence(error, repo, revision)):
        folder = _cached(repo, revision)
        if folder is None and (offline or constants.HF_HUB_OFFLINE):
            raise HubError(
                f"{repo} is not completely in the cache {constants.HF_HUB_CACHE}, and the network is switched off "
                "(offline or HF_HUB_OFFLINE=1): run once online, or name a local folder that holds the checkpoint"
            )
        return folder or _download(repo, revision, announce)


def needed_files(read: Callable[[str], Mapping[str, Any]], listed: Collection[str], repo: str) -> list[str]:
    """Names of the files that loading needs; one that is not in `listed` is one that the repository lacks.

    Weights come last, so that an interrupted download never leaves a folder that lacks only an optional file.

    Args:
        read: gives a JSON file of the repository by its name.
        listed: names of the files that there are.
        repo: for error messages.

    Raises:
        HubError: config.json is not of a known layout, or a name in it or in the weight index is unsafe.
    """
    config = read(CONFIG)
    if config.get("format") == FORMAT:
        names = [CONFIG, _first(TOKENIZERS, listed), *_weights(read, listed, repo)]
    elif config.get("model_type") == "kyutai_speech_to_text":
        optional = [name for name in OPTIONAL if name in listed]
        names = [CONFIG, _first(TOKENIZERS, listed), *optional, *_weights(read, listed, repo)]
    elif "mimi_name" in config and "tokenizer_name" in config:
        names = [CONFIG, config["tokenizer_name"], config["mimi_name"], config.get("moshi_name", WEIGHTS)]
    else:
        raise HubError(
            f"{repo} is not a Kyutai speech-to-text checkpoint (model_type {config.get('model_type')!r} in its "
            "config.json): name one such as kyutai/stt-1b-en_fr-candle"
        )
    return [_safe(name, repo) for name in names]


def _weights(read: Callable[[str], Mapping[str, Any]], listed: Collection[str], repo: str) -> list[str]:
    if WEIGHTS in listed or WEIGHT_INDEX not in listed:
        return [WEIGHTS]
    weight_map = read(WEIGHT_INDEX).get("weight_map")
    if not isinstance(weight_map, dict):
        raise HubError(f"{WEIGHT_INDEX} of {repo} has no weight_map: use another checkpoint")
    return [WEIGHT_INDEX, *sorted({_safe(shard, repo) for shard in weight_map.values()})]


def _first(names: tuple[str, ...], listed: Collection[str]) -> str:
    return next((name for name in names if name in listed), names[0])


def _safe(name: object, repo: str) -> str:
    """The name, if it is a plain name in the checkpoint's own folder, and of a kind that is safe to open."""
    path = PurePosixPath(str(name))
    if not isinstance(name, str) or path.name != name or "\\" in name:
        raise HubError(f"{repo} names the file {name!r}, which is not in its own folder: use another checkpoint")
    if path.suffix not in _SUFFIXES:
        raise HubError(
            f"{repo} names the file {name!r}, which is none of {', '.join(_SUFFIXES)}: use another checkpoint"
        )
    return name


def _cached(repo: str, revision: str | None) -> Path | None:
    """The checkpoint's folder in the cache, or None where a needed file is missing there."""
    from huggingface_hub import try_to_load_from_cache

    config = try_to_load_from_cache(repo, CONFIG, revision=revision)
    if not isinstance(config, str):
        return None
    folder = Path(config).parent
    held = {path.name for path in folder.iterdir() if path.is_file()}
    names = needed_files(lambda name: _read(folder / name, repo), held, repo)
    return folder if held.issuperset(names) else None


def _download(repo: str, revision: str | None, announce: Callable[[str], None]) -> Path:
    from huggingface_hub import HfApi, hf_hub_download

    info = HfApi().model_info(repo, revision=revision, files_metadata=True)
    listed = {file.rfilename: file for file in info.siblings or ()}
    _check_listed([CONFIG], listed, repo)
    # Asked for by the revision's name, so that the cache notes which commit that is.
    folder = Path(hf_hub_download(repo, CONFIG, revision=revision)).parent

    def download(name: str) -> Path:
        return Path(hf_hub_download(repo, name, revision=folder.name))

    names = needed_files(lambda name: _read(download(name), repo), listed, repo)
    _check_listed(names, listed, repo)
    blobs = folder.parent.parent / "blobs"
    sizes = [listed[name].size or 0 for name in names if not (blobs / _blob(listed[name])).exists()]
    if sizes:
        _check_space(sum(sizes), folder, repo)
        announce(f"Fetching {repo}: {human_size(sum(sizes))} in {len(sizes)} file{'s' * (len(sizes) > 1)}")
    for name in names:
        download(name)
    return folder


def _blob(file: Any) -> str:
    """The file's name among the cache's blobs: its SHA-256 if it is stored as a large file, else its git hash."""
    return file.lfs.sha256 if file.lfs else file.blob_id


def _check_listed(names: list[str], listed: Collection[str], repo: str) -> None:
    missing = [name for name in names if name not in listed]
    if missing:
        raise HubError(
            f"{repo} is not a complete Kyutai speech-to-text checkpoint, it lacks {', '.join(missing)}: "
            "name one such as kyutai/stt-1b-en_fr-candle"
        )


def _check_space(size: int, folder: Path, repo: str) -> None:
    free = shutil.disk_usage(folder).free
    if size > free:
        raise HubError(
            f"{repo} needs {human_size(size)} on the disk of {folder.parent.parent}, "
            f"which has {human_size(free)} left: free some space, or set HF_HOME to a folder on a larger disk"
        )


def _read(path: Path, repo: str) -> Mapping[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise HubError(
            f"{path.name} of {repo} is not a JSON object: use another checkpoint, or delete {path} if it is damaged"
        )
    return content


def _sentence(error: Exception, repo: str, revision: str | None) -> str:
    from huggingface_hub import constants, errors

    hub = constants.ENDPOINT
    if isinstance(error, errors.HFValidationError):
        return f"{repo!r} is neither a local folder nor a repository of the hub: name one as owner/name"
    if isinstance(error, errors.GatedRepoError):
        return f"{repo} is gated: accept its terms at {hub}/{repo}, then log in with `hf auth login`"
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"{hub} has no public model {repo}: check its name, or log in with `hf auth login` if it is private"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{repo} has no revision {revision!r}: see {hub}/{repo}/tree/main for its branches and tags"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"The disk of {constants.HF_HUB_CACHE} is full: free some space, or set HF_HOME to another disk"
    if (
        isinstance(error, OSError)
        and error.errno is not None
        and not isinstance(error, (ConnectionError, TimeoutError))
    ):
        return f"The cache {constants.HF_HUB_CACHE} cannot be used ({error}): set HF_HOME to another folder"
    return general_sentence(error, repo, "fetched from", "name a local folder")
