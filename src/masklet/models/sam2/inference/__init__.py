"""The network's verbs as they run fastest on a processor, with the same numbers.

Each is made once from frozen weights; the eager modules stay the truth, and run where oneDNN's operators are missing.
"""

from masklet.models.sam2.inference.encoder import FastEncoder
from masklet.models.sam2.inference.verbs import FastVerbs

__all__ = ["FastEncoder", "FastVerbs"]
