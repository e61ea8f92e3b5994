"""One HTML page of all that a results folder holds. Computes nothing that a table or ``check`` does not."""
