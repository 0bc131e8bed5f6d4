"""Act IV, Language: tokenizers, embeddings, attention and transformers."""

from __future__ import annotations

from tt_core.plugins import manager as _manager
from tt_language import hookspecs as _hookspecs
from tt_language.__about__ import __version__ as __version__
from tt_language.errors import TokenizerError as TokenizerError
from tt_language.tokenization import BPETokenizer as BPETokenizer
from tt_language.tokenization import ByteTokenizer as ByteTokenizer
from tt_language.tokenization import CharTokenizer as CharTokenizer
from tt_language.tokenization import CompressionReport as CompressionReport
from tt_language.tokenization import StreamDecoder as StreamDecoder
from tt_language.tokenization import Tokenizer as Tokenizer
from tt_language.tokenization import compression_report as compression_report
from tt_language.tokenization import load_tokenizer as load_tokenizer
from tt_language.tokenizer_json import read_text as read_text

if not hasattr(_manager.hook, "tt_past"):
    _manager.add_hookspecs(_hookspecs)
