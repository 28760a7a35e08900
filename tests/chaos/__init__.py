"""The chaos suite: the real service on lines that break and servers that fail; see docs/reliability.md."""
