"""Builds the documentation site from docs/: equations to MathML, links that hold on GitHub too, the API reference."""
