"""What a training step costs beside the network's own arithmetic. Stores no run. Knows no table and no verdict."""
