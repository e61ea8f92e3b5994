"""The paper's published figures, and the audit that checks them against themselves. Knows nothing of our runs."""
