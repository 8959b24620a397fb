"""The report of a study: what was compared, the answer in sentences, tables, and figures that say what to see."""

from gcp.studies.report.write import write_figures, write_report

__all__ = ["write_figures", "write_report"]
