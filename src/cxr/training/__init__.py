"""Training: batches, losses, callbacks, the device, and one fit per phase."""
