"""Training: batches, losses, callbacks, the device, and the phases that are fitted one by one."""
