"""Reading images, splitting them, and feeding them to training."""
