"""What a model is: sizes, windows, delays, as frozen values.

In: the JSON of our own config.json. Out: `SttConfig`. Knows nothing of tensors or files; foreign configs are read in
foreign_configs.py. The numbers of the frame grid stand here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from math import ceil, prod
from typing import Any

from .errors import CheckpointError
from .quantization import (
    EMBEDDING,
    HEAD,
    PAUSE_HEADS,
    Plan,
    Recipe,
    make_plan,
    named_recipe,
    plan_from_dict,
    plan_to_dict,
)

SAMPLE_RATE = 24_000
"""Samples per second that the codec hears."""
FRAME_SAMPLES = 1_920
"""Samples per frame: 80 ms."""
FRAME_RATE = SAMPLE_RATE / FRAME_SAMPLES
"""Frames per second: 12.5."""


WORD_START = 0
"""Text id that marks the start of a word (facts sheet 5.1)."""
PAD = 3
"""Text id of a frame in which nothing is written; text pieces have larger ids."""

MOST_SECONDS = 60.0
"""Longest delay and prefix that make sense."""

FORMAT = "mlx_kstt"
VERSION = 1


def frames_in(seconds: float) -> int:
    """Frames that it takes to hold so much sound."""
    return ceil(round(seconds * FRAME_RATE, 6))


@dataclass(frozen=True, slots=True)
class TransformerConfig:
    """A causal transformer with a sliding window.

    Attributes:
        dim: channels of the residual stream.
        layers: blocks.
        heads: attention heads; queries, keys and values have as many.
        head_dim: channels of a head.
        ffn: inner width of the feed-forward part (of each half where it is gated).
        context: keys that a position sees, itself included.
        rope_base: base of the rotary angles.
        norm_eps: epsilon of the norms.
    """

    dim: int
    layers: int
    heads: int
    head_dim: int
    ffn: int
    context: int
    rope_base: float
    norm_eps: float

    def __post_init__(self) -> None:
        """Refuse what is no size."""
        _check_counts(self, "dim", "heads", "head_dim", "ffn", "context")
        _check_counts(self, "layers", most=1024)
        _check_numbers(self, rope_base=(1.0, 1e12), norm_eps=(1e-12, 1.0))
        if self.head_dim % 2:
            raise CheckpointError(f"head_dim is {self.head_dim}; rotary positions need an even one")


@dataclass(frozen=True, slots=True)
class MimiConfig:
    """The encoder half of the Mimi codec; the defaults are the released model (facts sheet 3).

    Attributes:
        transformer: runs at two positions per frame.
        codebooks: codes per frame; the first is the semantic one.
        codebook_size: entries of a codebook.
        codebook_dim: channels of an entry.
        filters: channels after the first convolution; they double at each stage.
        ratios: strides of the stages, first to last.
        kernel, last_kernel, residual_kernel: kernel sizes of the convolutions.
        compress: a residual branch has channels / compress.
    """

    transformer: TransformerConfig = field(
        default_factory=lambda: TransformerConfig(
            dim=512, layers=8, heads=8, head_dim=64, ffn=2048, context=250, rope_base=10_000.0, norm_eps=1e-5
        )
    )
    codebooks: int = 32
    codebook_size: int = 2048
    codebook_dim: int = 256
    filters: int = 64
    ratios: tuple[int, ...] = (4, 5, 6, 8)
    kernel: int = 7
    last_kernel: int = 3
    residual_kernel: int = 3
    compress: int = 2

    def __post_init__(self) -> None:
        """Refuse what is no size, and a codec whose frame is not the 80 ms that everything else counts in."""
        _check_counts(self, "codebooks", "codebook_size", "codebook_dim", "filters", "kernel", "last_kernel")
        _check_counts(self, "residual_kernel", "compress")
        samples = 2 * prod(self.ratios)
        if samples != FRAME_SAMPLES:
            raise CheckpointError(
                f"the codec's strides {list(self.ratios)} make frames of {samples} samples; "
                f"only frames of {FRAME_SAMPLES} samples (80 ms at {SAMPLE_RATE} Hz) are supported"
            )


@dataclass(frozen=True, slots=True)
class DecoderConfig:
    """The text decoder (facts sheet 2).

    Attributes:
        transformer: runs at one position per frame.
        vocabulary: text ids that can come out; the id one past them starts the text stream.
        codebooks: codes per frame that are heard.
        codebook_size: entries of a codebook; the id one past them starts the audio stream.
        pause_heads: 0 where the checkpoint has none.
        pause_classes: logits of a pause head; class 0 is "no speech within the head's horizon".
    """

    transformer: TransformerConfig
    vocabulary: int
    codebooks: int
    codebook_size: int
    pause_heads: int = 0
    pause_classes: int = 6

    def __post_init__(self) -> None:
        """Refuse what is no size."""
        _check_counts(self, "vocabulary", "codebooks", "codebook_size", "pause_classes")
        _check_counts(self, "pause_heads", least=0)

    def plan(self, recipe: str | Recipe | None) -> Plan:
        """Formats of the layers by a recipe or the name of a preset; none without.

        Raises:
            OptionError: there is no such preset, or a group size does not divide a layer.
        """
        return make_plan(named_recipe(recipe, self.transformer.layers), self.layers())

    def layers(self) -> dict[str, int]:
        """The layers that can be quantised, by name, with their inputs."""
        inner = self.transformer
        width = inner.heads * inner.head_dim
        layers = {EMBEDDING: inner.dim}
        for i in range(inner.layers):
            layer = f"decoder.transformer.layers.{i}."
            layers |= {
                f"{layer}attention.qkv": inner.dim,
                f"{layer}attention.out": width,
                f"{layer}mlp.gate_up": inner.dim,
                f"{layer}mlp.down": inner.ffn,
            }
        return layers | {HEAD: inner.dim} | ({PAUSE_HEADS: inner.dim} if self.pause_heads else {})


@dataclass(frozen=True, slots=True)
class SttConfig:
    """A whole speech-to-text model.

    Attributes:
        codec: sizes of the codec.
        decoder: sizes of the decoder.
        delay: seconds by which the text runs behind the audio.
        prefix: seconds of silence before the audio that the model was trained with.
        pause_head: index of the pause head that decides about turns.
        pause_threshold: its probability above which the speaker counts as pausing.
        quantization: format of each quantised layer; empty where none is.
    """

    codec: MimiConfig
    decoder: DecoderConfig
    delay: float
    prefix: float
    pause_head: int = 2
    pause_threshold: float = 0.5
    quantization: Plan = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse a decoder that hears other codes than the codec speaks, and what is no time, head or probability."""
        _check_numbers(self, delay=(0.0, MOST_SECONDS), prefix=(0.0, MOST_SECONDS), pause_threshold=(0.0, 1.0))
        _check_counts(self, "pause_head", least=0)
        if self.decoder.pause_heads and self.pause_head >= self.decoder.pause_heads:
            raise CheckpointError(f"pause_head is {self.pause_head}; there are {self.decoder.pause_heads} pause heads")
        for name in ("codebooks", "codebook_size"):
            spoken, heard = getattr(self.codec, name), getattr(self.decoder, name)
            if spoken != heard:
                raise CheckpointError(f"the codec has {name} {spoken} and the decoder {heard}; they must be equal")

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> SttConfig:
        """Read our own config.json.

        Raises:
            CheckpointError: a key is unknown or missing, or the file is of a later version than this package.
        """
        raw = dict(raw)
        if raw.pop("format", None) != FORMAT:
            raise CheckpointError(f'config.json lacks "format": "{FORMAT}"')
        version = raw.pop("version", None)
        if version != VERSION:
            raise CheckpointError(f"config.json has version {version!r}; this package reads {VERSION}: update mlx_kstt")
        codec, decoder = _object(raw.pop("codec", {}), "codec"), _object(raw.pop("decoder", {}), "decoder")
        codec["transformer"] = _build(TransformerConfig, codec.get("transformer", {}), "codec.transformer.")
        codec["ratios"] = _ratios(codec.get("ratios", []))
        decoder["transformer"] = _build(TransformerConfig, decoder.get("transformer", {}), "decoder.transformer.")
        raw |= {"codec": _build(MimiConfig, codec, "codec."), "decoder": _build(DecoderConfig, decoder, "decoder.")}
        raw["quantization"] = plan_from_dict(
            _object(raw.get("quantization", {}), "quantization"), raw["decoder"].layers()
        )
        return _build(cls, raw, "")

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON for our own config.json."""
        raw = {"format": FORMAT, "version": VERSION, **asdict(self)}
        del raw["quantization"]
        return raw | (
            {"quantization": plan_to_dict(self.quantization, self.decoder.layers())} if self.quantization else {}
        )


def _object(raw: Any, name: str) -> dict[str, Any]:
    if not isinstance(raw, Mapping):
        raise CheckpointError(f"config.json has {name} {raw!r}; it must be an object")
    return dict(raw)


def _ratios(raw: Any) -> tuple[int, ...]:
    if not isinstance(raw, (list, tuple)) or not all(isinstance(ratio, int) and ratio > 0 for ratio in raw):
        raise CheckpointError(f"the codec's strides are {raw!r}; they must be a list of whole numbers")
    return tuple(raw)


def _build(cls: type, raw: Any, where: str) -> Any:
    """A dataclass from a mapping with exactly its fields."""
    raw = _object(raw, where.rstrip("."))
    names = {f.name for f in fields(cls)}
    if unknown := sorted(raw.keys() - names):
        raise CheckpointError(f"config.json has unknown keys: {', '.join(where + key for key in unknown)}")
    if missing := sorted(names - raw.keys()):
        raise CheckpointError(f"config.json lacks {', '.join(where + key for key in missing)}")
    return cls(**raw)


def _check_counts(config: object, *names: str, least: int = 1, most: int = 2**20) -> None:
    for name in names:
        value = getattr(config, name)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise CheckpointError(f"{name} is {value!r}; it must be a whole number between {least} and {most}")


def _check_numbers(config: object, **ranges: tuple[float, float]) -> None:
    for name, (least, most) in ranges.items():
        value = getattr(config, name)
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not least <= value <= most:
            raise CheckpointError(f"{name} is {value!r}; it must be a number between {least:g} and {most:g}")
