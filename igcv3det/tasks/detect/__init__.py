"""Detection: Lightning module, data module, transforms and options."""

import os

# otherwise albumentations asks a package index for a newer version on import
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
