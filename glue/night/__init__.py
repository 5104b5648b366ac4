"""The steps of a night, in the order in which they happen: collecting, training, judging."""
