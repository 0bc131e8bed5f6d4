"""Module 10, tokenization: from text to lists of ids and back without losing a character.

Read `tokenization`, then `bpe_training` and `bpe_encoding`. `added_tokens` and `tokenizer_json` serve the tokenizer
files of real models.
"""

from __future__ import annotations

from tt_language.tokenization.added_tokens import NORMALIZERS as NORMALIZERS
from tt_language.tokenization.added_tokens import AddedToken as AddedToken
from tt_language.tokenization.added_tokens import AddedTokenFinder as AddedTokenFinder
from tt_language.tokenization.added_tokens import normalizer_of as normalizer_of
from tt_language.tokenization.bpe_encoding import BYTE_ALPHABET as BYTE_ALPHABET
from tt_language.tokenization.bpe_encoding import NEVER_IN_UTF8 as NEVER_IN_UTF8
from tt_language.tokenization.bpe_encoding import SECONDS as SECONDS
from tt_language.tokenization.bpe_encoding import PieceCache as PieceCache
from tt_language.tokenization.bpe_encoding import Splitter as Splitter
from tt_language.tokenization.bpe_encoding import Splitters as Splitters
from tt_language.tokenization.bpe_encoding import byte_id_list as byte_id_list
from tt_language.tokenization.bpe_encoding import merge_pairs as merge_pairs
from tt_language.tokenization.bpe_encoding import number_merges as number_merges
from tt_language.tokenization.bpe_encoding import spelt_bytes as spelt_bytes
from tt_language.tokenization.bpe_encoding import splitter as splitter
from tt_language.tokenization.bpe_training import Pair as Pair
from tt_language.tokenization.bpe_training import learn_merges as learn_merges
from tt_language.tokenization.bpe_training import merge_word as merge_word
from tt_language.tokenization.tokenization import BPETokenizer as BPETokenizer
from tt_language.tokenization.tokenization import ByteTokenizer as ByteTokenizer
from tt_language.tokenization.tokenization import CharTokenizer as CharTokenizer
from tt_language.tokenization.tokenization import CompressionReport as CompressionReport
from tt_language.tokenization.tokenization import PathLike as PathLike
from tt_language.tokenization.tokenization import StreamDecoder as StreamDecoder
from tt_language.tokenization.tokenization import Tokenizer as Tokenizer
from tt_language.tokenization.tokenization import compression_report as compression_report
from tt_language.tokenization.tokenization import count_pieces as count_pieces
from tt_language.tokenization.tokenization import load_tokenizer as load_tokenizer
from tt_language.tokenization.tokenizer_json import PATTERNS as PATTERNS
from tt_language.tokenization.tokenizer_json import BPEFields as BPEFields
from tt_language.tokenization.tokenizer_json import bpe_from_json as bpe_from_json
from tt_language.tokenization.tokenizer_json import bpe_to_json as bpe_to_json
from tt_language.tokenization.tokenizer_json import byte_alphabet as byte_alphabet
from tt_language.tokenization.tokenizer_json import characters_from_json as characters_from_json
from tt_language.tokenization.tokenizer_json import characters_to_json as characters_to_json
from tt_language.tokenization.tokenizer_json import check_ids as check_ids
from tt_language.tokenization.tokenizer_json import model_type as model_type
from tt_language.tokenization.tokenizer_json import parse_merge as parse_merge
from tt_language.tokenization.tokenizer_json import read_gpt2 as read_gpt2
from tt_language.tokenization.tokenizer_json import read_json as read_json
from tt_language.tokenization.tokenizer_json import read_text as read_text
from tt_language.tokenization.tokenizer_json import write_json as write_json
