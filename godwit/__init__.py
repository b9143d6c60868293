"""godwit: run programs on many Linux machines from one shell, and move them while they run.

What authors of tasks import is here: Migratable, TransactionalFile.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from godwit.task.files import TransactionalFile
    from godwit.task.migratable import Migratable

__all__ = ["Migratable", "TransactionalFile", "__version__"]
__version__ = "0.1.0"

_WHERE = {"Migratable": "godwit.task.migratable", "TransactionalFile": "godwit.task.files"}


def __getattr__(name: str) -> object:
    """Imported when asked for: the daemons need neither."""
    if name in _WHERE:
        from importlib import import_module

        return getattr(import_module(_WHERE[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
