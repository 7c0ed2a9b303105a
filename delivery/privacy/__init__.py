"""Find, export and erase the data of a person, and delete leads whose retention period is over."""
