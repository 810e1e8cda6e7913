"""Training tasks: detection, classification, distillation; each owns module, data and options."""
