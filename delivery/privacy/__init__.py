"""What the law asks for: the data of a person found, exported and erased, and old leads deleted."""
