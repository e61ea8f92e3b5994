"""What commands that train say: how long it will take, and how far it is."""
