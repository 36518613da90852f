"""The package's references, as BibTeX entries by key."""

import re
from collections.abc import Iterable
from importlib.resources import files

from ensembletheory import errors

__all__ = ["bibtex", "entries"]


def bibtex(keys: Iterable[str]) -> str:
    """The entries called `keys`, in that order.

    Raises:
        ValueError: for a key without an entry.
    """
    known = entries()
    for key in keys:
        if key not in known:
            errors.refuse("references", repr(key), f"keys of references.bib: {', '.join(sorted(known))}", "Add the entry, or mend the key.")
    return "\n\n".join(known[key] for key in keys)


def entries() -> dict[str, str]:
    """All entries of `references.bib`, which begin at an `@` in the first column."""
    text = files("ensembletheory").joinpath("references.bib").read_text(encoding="utf-8")
    parts = [part.strip() for part in re.split(r"^(?=@)", text, flags=re.MULTILINE) if part.strip()]
    return {re.match(r"@\w+\{([^,\s]+),", part)[1]: part for part in parts}  # pyright: ignore[reportOptionalSubscript]
