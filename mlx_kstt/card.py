"""The README.md of a converted checkpoint: front matter for the hub, how to use it, and what was measured.

In: where it came from, its config, its proof. Out: Markdown. Knows nothing of files but the source's own README.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from .config import SttConfig

_KYUTAI_LICENCE = "cc-by-4.0"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a checkpoint came from.

    Attributes:
        repo: on the hub; None for a folder.
        licence: the hub's name of it; None where the source does not state it.
    """

    repo: str | None
    licence: str | None


def read_origin(source: str | Path, folder: Path) -> Origin:
    """The repo that the source names and the licence that it states.

    Kyutai's own repositories are under CC-BY 4.0 (facts sheet 1.1); other sources state theirs in their README's front
    matter, or not at all.
    """
    named = re.fullmatch(r"[\w.-]+/[\w.-]+", str(source))
    repo = str(source) if named and not Path(source).is_dir() else None
    if repo and repo.startswith("kyutai/"):
        return Origin(repo, _KYUTAI_LICENCE)
    readme = folder / "README.md"
    front = (
        re.match(r"---\n(.*?)\n---", readme.read_text("utf-8", errors="replace"), re.DOTALL)
        if readme.is_file()
        else None
    )
    fields = dict(re.findall(r"^(license|base_model): *(\S+)$", front[1], re.MULTILINE)) if front else {}
    return Origin(repo or fields.get("base_model"), fields.get("license"))


def model_card(name: str, origin: Origin, config: SttConfig, measured: str) -> str:
    """The model card of a checkpoint in a folder of this name, with what was measured as Markdown."""
    front = {
        "license": origin.licence,
        "base_model": origin.repo,
        "library_name": "mlx_kstt",
        "pipeline_tag": "automatic-speech-recognition",
    }
    lines = ["---", *(f"{key}: {value}" for key, value in front.items() if value), "tags:", "- mlx", "---", ""]
    lines += [
        f"# {name}",
        "",
        _what(origin, config),
        "",
        "```sh",
        f"python -m mlx_kstt transcribe --model {name} talk.m4a",
    ]
    lines += ["```", "", "```python", "import mlx_kstt", ""]
    lines += [f'print(mlx_kstt.load("{name}").transcribe("talk.m4a").text)', "```", ""]
    if measured:
        lines += ["## What was measured", "", measured, ""]
    return "\n".join(lines)


def _what(origin: Origin, config: SttConfig) -> str:
    source = f"[{origin.repo}](https://huggingface.co/{origin.repo})" if origin.repo else "a Kyutai STT checkpoint"
    heads = f"with {config.decoder.pause_heads} pause heads" if config.decoder.pause_heads else "without pause heads"
    formats = sorted({str(format) for format in config.quantization.values()})
    quantised = f"quantised ({'; '.join(formats)})" if formats else "not quantised"
    return f"{source}, converted for Apple's MLX by mlx_kstt: {quantised}, {heads}, delay {config.delay:g} s."
