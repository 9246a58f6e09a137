"""Names that a recipe gives to tables: they become folders."""

import re
from typing import Any

from audioflow.errors import shown

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")


def folder_names(value: dict[str, Any]) -> dict[str, Any]:
    """The mapping itself; raises `ValueError` where a key cannot be the name of a folder."""
    wrong = [name for name in value if not NAME.fullmatch(name)]
    if wrong:
        raise ValueError(
            f"{', '.join(map(shown, wrong))} cannot be a name; allowed: at most 100 letters, "
            "digits, '_' and '-', a letter or digit first (it becomes a folder)"
        )
    return value
