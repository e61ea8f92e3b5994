"""Commands that judge: checks of published figures, comparisons of rows, the audit, and the forms of their results."""
