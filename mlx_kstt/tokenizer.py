"""Text ids to text and back, for the two kinds of tokenizer file that checkpoints come with.

In: a SentencePiece model or a Hugging Face tokenizer.json. Out: pieces and text. Knows nothing of words or times.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

from .config import PAD
from .errors import CheckpointError

WORD_MARK = "\u2581"
"""What a piece begins with where a word begins."""


class Tokenizer(Protocol):
    """Text ids to text and back. Ids up to PAD and beyond the vocabulary stand for no text and are skipped."""

    size: int

    def decode(self, ids: Iterable[int]) -> str:
        """Text of the ids, byte pieces joined to UTF-8."""
        ...

    def encode(self, text: str) -> list[int]:
        """Ids of the text, without control ids."""
        ...

    def piece(self, id: int) -> str:
        """The piece as it stands in the vocabulary; empty beyond it."""
        ...


class SentencePieceTokenizer:
    """A tokenizer.model file (facts sheet 6)."""

    def __init__(self, path: Path) -> None:
        import sentencepiece

        try:
            self._model = sentencepiece.SentencePieceProcessor(model_file=str(path))
        except (RuntimeError, OSError) as error:
            raise CheckpointError(f"{path} is not a SentencePiece model: fetch it again") from error
        self.size = self._model.get_piece_size()

    def decode(self, ids: Iterable[int]) -> str:
        return self._model.decode(_text_ids(ids, self.size))

    def encode(self, text: str) -> list[int]:
        return self._model.encode(text)

    def piece(self, id: int) -> str:
        return self._model.id_to_piece(id) if 0 <= id < self.size else ""


class JsonTokenizer:
    """A tokenizer.json file."""

    def __init__(self, path: Path) -> None:
        import tokenizers

        try:
            self._model = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises a bare Exception
            raise CheckpointError(f"{path} is not a tokenizer.json: fetch it again") from error
        self.size = self._model.get_vocab_size()

    def decode(self, ids: Iterable[int]) -> str:
        return self._model.decode(_text_ids(ids, self.size), skip_special_tokens=False)

    def encode(self, text: str) -> list[int]:
        return self._model.encode(text, add_special_tokens=False).ids

    def piece(self, id: int) -> str:
        return self._model.id_to_token(id) or ""


def open_tokenizer(path: Path, vocabulary: int) -> Tokenizer:
    """The tokenizer in a file: *.json or a SentencePiece model.

    Args:
        path: of the file.
        vocabulary: text ids that the model writes. A tokenizer.json may have more, for ids that never come out.

    Raises:
        CheckpointError: the file is of neither kind, or belongs to another model.
    """
    tokenizer = JsonTokenizer(path) if path.suffix == ".json" else SentencePieceTokenizer(path)
    if tokenizer.size < vocabulary or (tokenizer.size > vocabulary and path.suffix != ".json"):
        raise CheckpointError(f"{path} has {tokenizer.size} pieces, but the model writes {vocabulary}: fetch its own")
    return tokenizer


def _text_ids(ids: Iterable[int], size: int) -> Sequence[int]:
    return [int(id) for id in ids if PAD < id < size]
