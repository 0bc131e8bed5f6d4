"""Act IV, Language: tokenizers, embeddings, attention and transformers."""

from tt_language.__about__ import __version__ as __version__
