"""Detection: Lightning module, data module, transforms and options."""
