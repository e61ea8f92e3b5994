"""Sheets and pages as LaTeX, Markdown, PNG and PDF. Knows no run, no paper, and verdicts only as words."""
