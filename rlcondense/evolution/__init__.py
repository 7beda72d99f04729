"""Evolution strategies, and the loop that runs them."""
