"""Names of the reference rows that tables know."""

from __future__ import annotations

# All the data: learned until there is no more to learn, and with a learner's own updates.
WHOLE = ("full-converged", "full")
