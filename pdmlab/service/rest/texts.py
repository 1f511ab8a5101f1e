"""Text in bodies: what a database keeps."""

from __future__ import annotations

from typing import Annotated

from pydantic import StringConstraints

Text = Annotated[str, StringConstraints(pattern=r"^[^\x00]*$")]
"""Text without NUL, which PostgreSQL keeps in no column; a field says how long it may be."""

Key = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][^\x00]*$", max_length=128)]
"""The name of a custom attribute: it begins with a letter."""

Value = Annotated[str, StringConstraints(pattern=r"^[^\x00]*$", max_length=128)]
"""The value of a custom attribute."""
