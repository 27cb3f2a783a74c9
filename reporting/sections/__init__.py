"""The sections of the report, one file each; `reporting.section.sections` finds them."""
