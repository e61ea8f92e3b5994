"""Tables and figures: from the results of finished runs to files. Never trains. Knows no engine and no network."""
