"""An OpenNMT-py Transformer as an int8 CTranslate2 model.

    PYTHON convert.py CHECKPOINT FOLDER

PYTHON is the interpreter of the environment that holds OpenNMT-py. The checkpoint must be one's own: it
holds pickled options beside its tensors, for which CTranslate2's converter would refuse it.
"""

import sys
from typing import Any

import torch
from ctranslate2.converters import OpenNMTPyConverter

checkpoint, folder = sys.argv[1:]
load = torch.load


def load_all(*arguments: Any, **named: Any) -> Any:
    return load(*arguments, **(named | {"weights_only": False}))


torch.load = load_all
OpenNMTPyConverter(checkpoint).convert(folder, quantization="int8", force=True)
