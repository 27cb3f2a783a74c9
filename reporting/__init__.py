"""The report: one self-contained page made from records and figures. A section is one file in `reporting.sections`."""
