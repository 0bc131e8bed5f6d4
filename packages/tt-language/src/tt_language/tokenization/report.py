"""Part of module 10, tokenization: what a vocabulary saves in tokens and costs in memory."""

from __future__ import annotations

from dataclasses import dataclass

from tt_core.engine.arguments import checked
from tt_language.errors import TokenizerError
from tt_language.tokenization.base import Tokenizer


@dataclass(frozen=True)
class CompressionReport:
    """The gain and the cost of a vocabulary on one text; `print` shows them as a table."""

    n_characters: int
    n_bytes: int
    n_tokens: int
    vocab_size: int
    vocab_used: int
    n_embd: int
    bytes_per_number: int

    @property
    def bytes_per_token(self) -> float:
        """Bytes of text per position of the model; the cost of attention falls with its square."""
        return self.n_bytes / self.n_tokens

    @property
    def vocab_use(self) -> float:
        """The share of the vocabulary that occurs in the text; the embeddings of the rest are not trained by it."""
        return self.vocab_used / self.vocab_size

    @property
    def embedding_parameters(self) -> int:
        """Numbers in the token embedding table (vocab_size, n_embd)."""
        return self.vocab_size * self.n_embd

    @property
    def embedding_bytes(self) -> int:
        """Memory of the token embedding table."""
        return self.embedding_parameters * self.bytes_per_number

    def __str__(self) -> str:
        return "\n".join(
            [
                f"text       {self.n_bytes:,} bytes, {self.n_characters:,} characters",
                f"tokens     {self.n_tokens:,} ({self.bytes_per_token:.2f} bytes each)",
                f"vocabulary {self.vocab_used:,} of {self.vocab_size:,} used ({self.vocab_use:.1%})",
                f"embedding  {self.vocab_size:,} x {self.n_embd:,}: {self.embedding_parameters:,} parameters,"
                f" {self.embedding_bytes / 2**20:.1f} MiB",
            ]
        )


@checked
def compression_report(
    tokenizer: Tokenizer, text: str, n_embd: int = 768, bytes_per_number: int = 4
) -> CompressionReport:
    """Bytes per token, use of the vocabulary and memory of the embedding table, measured on a text.

    n_embd: width of the embedding, by default GPT-2's. bytes_per_number: 4 for float32.
    Raises `TokenizerError` for an empty text.

    >>> from tt_language.tokenization import ByteTokenizer
    >>> print(compression_report(ByteTokenizer(), "to be or not to be", n_embd=128))
    text       18 bytes, 18 characters
    tokens     18 (1.00 bytes each)
    vocabulary 7 of 256 used (2.7%)
    embedding  256 x 128: 32,768 parameters, 0.1 MiB
    """
    ids = tokenizer.encode(text)
    if not ids:
        raise TokenizerError("compression_report needs a text with at least one token, got an empty one")
    n_bytes = len(text.encode("utf-8"))
    return CompressionReport(
        len(text), n_bytes, len(ids), tokenizer.vocab_size, len(set(ids)), n_embd, bytes_per_number
    )
