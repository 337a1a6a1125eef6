"""What scripts/test-page needs: a broker, and clients of a few packets."""
