"""The three LightningModules, thin: wiring, losses, logging."""
