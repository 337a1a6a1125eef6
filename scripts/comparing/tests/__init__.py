"""What scripts/compare decides, without any broker."""
