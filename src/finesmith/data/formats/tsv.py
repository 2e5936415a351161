"""Tab-separated values: as CSV, with tabs between the fields."""

from __future__ import annotations

from finesmith.data.formats.csv import Separated

PLUGIN = Separated((".tsv", ".tab"), "\t")
