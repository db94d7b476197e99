"""What a file's metadata says of its model: Config is what every architecture has, in groups (parts.py), Reader how an
architecture reads the keys that are its own, keys.py which keys change the mathematics.
"""

from __future__ import annotations

from pyggml.config.parts import Experts as Experts
from pyggml.config.parts import Heads as Heads
from pyggml.config.parts import RopeNumbers as RopeNumbers
from pyggml.config.parts import RopeScaling as RopeScaling
from pyggml.config.reader import Reader as Reader
from pyggml.config.shared import MAX_CTX as MAX_CTX
from pyggml.config.shared import MAX_FF as MAX_FF
from pyggml.config.shared import MAX_HEADS as MAX_HEADS
from pyggml.config.shared import MAX_VOCAB as MAX_VOCAB
from pyggml.config.shared import Config as Config
from pyggml.config.shared import layer_heads as layer_heads
from pyggml.config.shared import shared as shared
