"""Tables and figures as a whole: from the records of finished runs to files. Never trains."""
