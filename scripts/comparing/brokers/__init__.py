"""The brokers that are compared, a file each: how it is installed or found, configured and started."""
