"""Commands on a stored run's network and its per-image results: predict, export, plot cam, results predictions."""
