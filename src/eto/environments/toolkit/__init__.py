"""What suites are built from."""
