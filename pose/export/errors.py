"""What an export says when it cannot be done."""

from __future__ import annotations

from pose.errors import PoseError


class ExportError(PoseError, RuntimeError):
    """A network that cannot be exported, or whose file answers differently."""
