"""Models are loaded one at a time.

While `transformers` loads a model it switches the tying of weights off, for the whole process. Two loads
that overlap, in two threads, put the switch back in the wrong order: every model after them is untied, and no
error is reported.
"""

from __future__ import annotations

import threading

LOADING = threading.RLock()
"""Held for as long as `transformers` loads a model."""
