"""Module 10, tokenization: from text to lists of ids and back without losing a character.

Read `base` (the interface), `characters`, then `bpe` with `bpe_training` and `bpe_encoding`. `splitting`, `vocabulary`
and `added_tokens` are their parts, `streaming` decodes ids one at a time, `report` measures a vocabulary, and
`tokenizer_json`, `pipeline_json`, `settings`, `files` and `loading` read and write the files of real models.
"""

from __future__ import annotations

from tt_language.tokenization.added_tokens import AddedToken as AddedToken
from tt_language.tokenization.base import Tokenizer as Tokenizer
from tt_language.tokenization.bpe import BPETokenizer as BPETokenizer
from tt_language.tokenization.bpe import count_pieces as count_pieces
from tt_language.tokenization.bpe_encoding import PieceCache as PieceCache
from tt_language.tokenization.bpe_encoding import merge_pairs as merge_pairs
from tt_language.tokenization.bpe_training import learn_merges as learn_merges
from tt_language.tokenization.bpe_training import merge_word as merge_word
from tt_language.tokenization.characters import ByteTokenizer as ByteTokenizer
from tt_language.tokenization.characters import CharTokenizer as CharTokenizer
from tt_language.tokenization.files import PathLike as PathLike
from tt_language.tokenization.files import read_json as read_json
from tt_language.tokenization.files import read_text as read_text
from tt_language.tokenization.loading import load_tokenizer as load_tokenizer
from tt_language.tokenization.patterns import PATTERNS as PATTERNS
from tt_language.tokenization.report import CompressionReport as CompressionReport
from tt_language.tokenization.report import compression_report as compression_report
from tt_language.tokenization.settings import load_settings as load_settings
from tt_language.tokenization.settings import save_settings as save_settings
from tt_language.tokenization.splitting import SECONDS as SECONDS
from tt_language.tokenization.splitting import splitter as splitter
from tt_language.tokenization.streaming import StreamDecoder as StreamDecoder
from tt_language.tokenization.tokenizer_json import bpe_from_json as bpe_from_json
from tt_language.tokenization.tokenizer_json import bpe_to_json as bpe_to_json
from tt_language.tokenization.vocabulary import BYTE_ALPHABET as BYTE_ALPHABET
from tt_language.tokenization.vocabulary import byte_alphabet as byte_alphabet
