"""comfy.utils: the progress bar on the running node."""

from ..runtime import report_progress


class ProgressBar:
    """Progress of the running node, in whatever unit `total` counts."""

    def __init__(self, total: int, node_id: str | None = None):
        self.total = total
        self.current = 0

    def update_absolute(self, value: int, total: int | None = None, preview=None) -> None:
        """Raises InterruptProcessingException if the run was cancelled. `preview` is not shown by this host."""
        if total is not None:
            self.total = total
        self.current = min(value, self.total)
        report_progress(self.current, self.total)

    def update(self, value: int) -> None:
        self.update_absolute(self.current + value)
