"""Where interactions and items come from: every source ends as the interchange tables, `interactions` and `items`."""
