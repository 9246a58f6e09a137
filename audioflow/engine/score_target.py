"""One score table: where it lies, and the head that fills it."""

from dataclasses import dataclass

from audioflow.storage import Folder
from audioflow.tables import Table


@dataclass(frozen=True)
class Target:
    """A score table to be filled, small enough to send anywhere.

    folder: of the table. head: the folder of the trained head. by_fold: whether clips of a fold are
    scored by the head that did not see it. mean: whether the scores of a clip's variants are
    averaged. patches: whether those of its patches are kept, too.
    """

    name: str
    folder: Folder
    head: Folder
    classes: tuple[str, ...]
    by_fold: bool = True
    mean: bool = False
    patches: bool = False

    @property
    def table(self) -> Table:
        return Table(self.folder)
