"""Teaching a detector what another one computes: data, teacher, losses, schedule."""
