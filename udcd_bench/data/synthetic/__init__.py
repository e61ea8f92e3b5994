"""Images that are drawn: the stand-ins for fundus photographs and skin lesions. Knows nothing of real data."""
