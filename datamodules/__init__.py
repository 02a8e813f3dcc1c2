"""LightningDataModules shared by the experiment's modules, and the sources, splits and prompts behind them."""
