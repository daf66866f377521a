"""Names that callers choose: of groups, labels, messages and types."""

from __future__ import annotations

from typing import Annotated

from pydantic import StringConstraints

from headway.contract.records import MAX_LABEL_CHARS, VISIBLE

Name = Annotated[str, StringConstraints(min_length=1, max_length=MAX_LABEL_CHARS, pattern=VISIBLE)]
