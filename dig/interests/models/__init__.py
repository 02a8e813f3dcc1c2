"""The models that can be asked: endpoints that speak chat completions, and local ones."""
