"""One machine, two modes: chat over the team's documents by day, training by night."""

__version__ = "0.1.0"
