"""What scripts/compare and scripts/demo are made of."""
