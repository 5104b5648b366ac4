"""The steps of a night, in order: collect, train, evaluate, promote."""
