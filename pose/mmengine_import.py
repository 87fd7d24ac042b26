"""mmengine, imported where several processes may be the first on a machine to do so.

yapf 0.43.0, which mmengine imports, keeps its grammar in the user's cache folder and renames that file before all of it
is written (findings/yapf_grammar_read_half_written.sh). Of processes that are started at once on a new machine
(``torchrun``, the workers of a test run), one may read a part of it and fail with ``EOFError``.
"""

from __future__ import annotations

import importlib
import pickle
import time

from pose.options import OptionError

TRIES, PAUSE = 50, 0.1
"""Within five seconds (0.1 s between tries) another process has written a file of 1 KB."""


def import_mmengine() -> None:
    """Imports mmengine, again where another process was about to write what it reads.

    Raises:
        OptionError: yapf's file of the grammar stays damaged, as a full disk may leave it.
    """
    for _ in range(TRIES):
        try:
            importlib.import_module("mmengine")
            return
        except (EOFError, pickle.UnpicklingError):
            time.sleep(PAUSE)
    from platformdirs import user_cache_dir  # yapf's own

    folder = user_cache_dir("YAPF", "Google")
    raise OptionError(f"{folder}: yapf, which mmengine imports, finds its files damaged there; remove that folder")
