"""What scripts that break a broker or its disk share: clients that outlive it and keep the ledger, and devices."""
