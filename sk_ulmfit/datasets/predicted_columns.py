"""Names of the columns that predictions are written to."""

from __future__ import annotations

LABELS = "predicted_labels"
PROBABILITY = "proba_"  # followed by the name of a label
VALUE = "predicted_"  # followed by the name of a target
