"""What builds the repository itself; no stage imports it."""
